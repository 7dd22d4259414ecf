"""Mailgun's webhooks: one event in a JSON object, beside a signature that does not cover it."""

import hashlib
import hmac
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from tidings.domain.outcome import Engagement, Gone, Receipt
from tidings.providers.mail_bounces import bounced
from tidings.providers.webhooks import NOT_JSON, RAW_BYTES, event_key, instant, json_object, text, within

STATUSES: Final[Mapping[tuple[str, str | None], str]] = {
    ("accepted", None): "sent",
    ("delivered", None): "delivered",
    ("failed", "permanent"): "undelivered",
    ("rejected", None): "undelivered",
}
"""By event, and by its severity where it has one. All others are news only, such as a temporary failure, which Mailgun
tries again by itself, or engagement."""

GONE: Final[Mapping[tuple[str, str | None], Gone]] = {
    ("complained", None): Gone.complaint,
    ("unsubscribed", None): Gone.unsubscribe,
    ("failed", "suppress-bounce"): Gone.hard_bounce,
    ("failed", "suppress-complaint"): Gone.complaint,
    ("failed", "suppress-unsubscribe"): Gone.unsubscribe,
}
"""By event, and by its reason where that matters."""

ENGAGEMENT: Final[Mapping[str, Engagement]] = {"opened": Engagement.opened, "clicked": Engagement.clicked}

USUAL_AGE_S: Final = 9 * 3600.0
_AHEAD_S: Final = 300.0
_TOKENS: Final = 10_000


class _Signature(msgspec.Struct, frozen=True):
    timestamp: str | int = ""
    token: str = ""
    signature: str = ""


class _Call(msgspec.Struct, frozen=True):
    signature: _Signature = _Signature()
    event: msgspec.Raw = msgspec.field(name="event-data", default=msgspec.Raw(b"{}"))


class Events:
    """``signing_key`` None believes nobody. A signature may be ``age_s`` old: Mailgun repeats a call for eight hours.

    The signature covers a timestamp and a token alone: whoever has seen a call could send another event with it. So a
    token may say one thing only. What keeps strangers out in the first place is the secret in the webhook's address.
    """

    def __init__(self, signing_key: str | None, age_s: float = USUAL_AGE_S) -> None:
        self._key = signing_key.encode() if signing_key else None
        self._age_s = age_s
        self._said: OrderedDict[str, bytes] = OrderedDict()

    def receipts(self, body: bytes) -> Sequence[Receipt] | None:
        """None when the signature is not Mailgun's, is too old, or came with another event before. What is no event is
        left out."""
        try:
            call = msgspec.json.decode(body, type=_Call)
        except NOT_JSON:
            return None
        if not self._signed(call.signature):
            return None
        receipt = _receipt(bytes(call.event), call.signature.timestamp)
        if not self._consistent(call.signature.token, receipt):
            return None
        return [receipt] if receipt else []

    def _signed(self, by: _Signature) -> bool:
        at = instant(by.timestamp)
        if self._key is None or at is None or not by.signature.isascii():
            return False
        right = hmac.new(self._key, f"{by.timestamp}{by.token}".encode(), hashlib.sha256).hexdigest()
        fresh = -_AHEAD_S <= time.time() - at.timestamp() <= self._age_s
        return hmac.compare_digest(right, by.signature) and fresh

    def _consistent(self, token: str, receipt: Receipt | None) -> bool:
        """Whether a token says what it said before, as it does when Mailgun repeats itself."""
        says = hashlib.sha256(repr(receipt and msgspec.structs.replace(receipt, raw=b"")).encode()).digest()
        if len(self._said) >= _TOKENS:
            self._said.popitem(last=False)
        return self._said.setdefault(token, says) == says


def _receipt(raw: bytes, signed_at: str | int) -> Receipt | None:
    """None for what is no event: not an object, without a kind, or from no imaginable time."""
    event = json_object(raw)
    kind = text(event.get("event"))
    occurred_at = instant(event.get("timestamp")) or instant(signed_at)
    if kind is None or occurred_at is None:
        return None
    reason = text(event.get("reason"))
    return Receipt(
        reference=text(within(event, "user-variables", "ref")),
        event_key=event_key(event.get("id"), raw),
        kind=kind,
        status=STATUSES.get((kind, text(event.get("severity")))) or STATUSES.get((kind, None)),
        reason=_why(event) or reason,
        message_id=text(within(event, "message", "headers", "message-id")),
        occurred_at=occurred_at,
        raw=raw[:RAW_BYTES],
        gone=GONE.get((kind, reason)) or GONE.get((kind, None)) or _bounced(event),
        engagement=ENGAGEMENT.get(kind),
        address=text(event.get("recipient")),
    )


def _why(event: Mapping[str, Any]) -> str | None:
    """The words of whoever refused it."""
    status = event.get("delivery-status")
    words = (within(status, "message"), within(status, "description"), within(event, "reject", "reason"))
    return next((said for one in words if (said := text(one))), None)


def _bounced(event: Mapping[str, Any]) -> Gone | None:
    """A permanent failure is the address's only where Mailgun or the reply says so: blocked, too large or given up
    after days is not."""
    if (event.get("event"), event.get("severity")) != ("failed", "permanent"):
        return None
    status = event.get("delivery-status")
    replies = (text(within(status, "enhanced-code")), text(within(status, "message")))
    hard = within(status, "bounce-type") == "hard" or any(bounced(reply) for reply in replies if reply)
    return Gone.hard_bounce if hard else None

"""WhatsApp's webhooks: what became of our messages, and people who want no more of them; signed JSON."""

import hmac
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from tidings.domain.outcome import Engagement, Gone, Receipt
from tidings.ports import WebhookCall
from tidings.providers.webhooks import RAW_BYTES, event_key, instant, json_object, text, within

SIGNATURE: Final = "x-hub-signature-256"

STATUSES: Final[Mapping[str, str]] = {
    "sent": "sent",
    "delivered": "delivered",
    "read": "delivered",
    "failed": "undelivered",
}
"""What a status means for the delivery. Any other is news only."""

ENGAGEMENT: Final[Mapping[str, Engagement]] = {"read": Engagement.read}

GONE: Final[Mapping[int, Gone]] = {131050: Gone.unsubscribe}
"""Numbers that say that this person wants no more of it: of marketing, that is, so what is transactional still goes."""

STOP: Final = frozenset({"STOP", "STOPALL", "UNSUBSCRIBE", "CANCEL", "END", "QUIT"})
START: Final = frozenset({"START", "UNSTOP"})
"""What people write to opt out and in again. WhatsApp does nothing about it: obeying is ours alone."""

PREFERENCES: Final[Mapping[str, tuple[Gone | None, Gone | None]]] = {
    "stop": (Gone.unsubscribe, None),
    "resume": (None, Gone.unsubscribe),
}
"""What people choose in WhatsApp itself about marketing: what holds from then on, and what no longer does."""

_MOST_DIGITS: Final = 16
Reading = Callable[[dict[str, Any]], Receipt | None]


class Webhooks:
    """``app_secret`` is what WhatsApp signs with; None believes nobody."""

    def __init__(self, app_secret: str | None) -> None:
        self._secret = app_secret.encode() if app_secret else None

    def receipts(self, call: WebhookCall) -> Sequence[Receipt] | None:
        """None when the signature is not WhatsApp's. What is no news of a message is left out."""
        return list(_receipts(json_object(call.body))) if self._signed(call) else None

    def _signed(self, call: WebhookCall) -> bool:
        if self._secret is None:
            return False
        made = "sha256=" + hmac.digest(self._secret, call.body, "sha256").hex()
        return hmac.compare_digest(made.encode(), call.headers.get(SIGNATURE, "").encode())


def _receipts(call: dict[str, Any]) -> Iterator[Receipt]:
    for entry in _objects(call.get("entry")):
        for change in _objects(entry.get("changes")):
            for name, read in READ.items():
                for one in _objects(within(change, "value", name)):
                    if (receipt := read(one)) is not None:
                        yield receipt


def _status(one: dict[str, Any]) -> Receipt | None:
    kind, id_ = text(one.get("status")), text(one.get("id"))
    if kind is None or id_ is None:
        return None
    code = next((error.get("code") for error in _objects(one.get("errors"))), None)
    code = code if isinstance(code, int) else None
    return _receipt(
        one,
        f"{id_}-{kind}",
        kind,
        reference=text(one.get("biz_opaque_callback_data")),
        status=STATUSES.get(kind),
        reason=None if code is None else text(str(code)),
        message_id=id_,
        gone=GONE.get(code or 0),
        engagement=ENGAGEMENT.get(kind),
        address=_number(one.get("recipient_id")),
    )


def _reply(one: dict[str, Any]) -> Receipt | None:
    """None for what people write beside the words that opt out or in: that is no receipt, and is not kept."""
    id_, address, said = text(one.get("id")), _number(one.get("from")), within(one, "text", "body")
    word = said.strip().upper() if isinstance(said, str) else ""
    if id_ is None or address is None or word not in STOP | START:
        return None
    stops = word in STOP
    return _receipt(
        one,
        id_,
        "stop" if stops else "start",
        message_id=id_,
        gone=Gone.stop if stops else None,
        lifts=None if stops else Gone.stop,
        address=address,
    )


def _preference(one: dict[str, Any]) -> Receipt | None:
    chosen, address = text(one.get("value")) or "", _number(one.get("wa_id"))
    if address is None or chosen not in PREFERENCES:
        return None
    gone, lifts = PREFERENCES[chosen]
    key = f"preference-{address}-{chosen}-{one.get('timestamp')}"
    return _receipt(one, key, f"preference_{chosen}", gone=gone, lifts=lifts, address=address)


READ: Final[Mapping[str, Reading]] = {"statuses": _status, "messages": _reply, "user_preferences": _preference}
"""The lists that a change may have, and what is read from each."""


def _receipt(one: dict[str, Any], key: str, kind: str, **more: Any) -> Receipt:
    raw = msgspec.json.encode(one)
    usual = {"reference": None, "status": None, "reason": None, "message_id": None}
    return Receipt(
        event_key=event_key(key, raw),
        kind=kind,
        occurred_at=instant(one.get("timestamp")) or datetime.now(UTC),
        raw=raw[:RAW_BYTES],
        **(usual | more),
    )


def _objects(value: object) -> Sequence[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else ()


def _number(value: object) -> str | None:
    """An address of the channel, from WhatsApp's form of it, which has no plus."""
    digits = isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= _MOST_DIGITS
    return f"+{value}" if digits else None

"""SendGrid's Event Webhook: a signed JSON array of events."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from tidings.domain.outcome import Engagement, Gone, Receipt

SIGNATURE: Final = "x-twilio-email-event-webhook-signature"
TIMESTAMP: Final = "x-twilio-email-event-webhook-timestamp"
STATUSES: Final[Mapping[str, str]] = {
    "processed": "sent",
    "delivered": "delivered",
    "bounce": "undelivered",
    "dropped": "undelivered",
}
"""What an event means for the delivery; all others change nothing about it."""

ENGAGEMENTS: Final[Mapping[str, Engagement]] = {"open": Engagement.opened, "click": Engagement.clicked}

GONE: Final[Mapping[tuple[str, str | None], Gone]] = {
    ("bounce", "bounce"): Gone.hard_bounce,
    ("dropped", "Bounced Address"): Gone.hard_bounce,
    ("dropped", "Invalid"): Gone.hard_bounce,
    ("dropped", "Spam Reporting Address"): Gone.complaint,
    ("dropped", "Unsubscribed Address"): Gone.unsubscribe,
    ("spamreport", None): Gone.complaint,
    ("unsubscribe", None): Gone.unsubscribe,
    ("group_unsubscribe", None): Gone.unsubscribe,
}
"""What an event says of the address, by the field of ``_SAYS_MORE`` where there is one."""

LIFTS: Final[Mapping[str, Gone]] = {"group_resubscribe": Gone.unsubscribe}

_SAYS_MORE: Final[Mapping[str, str]] = {"bounce": "type", "dropped": "reason"}
_OF_A_MACHINE: Final = "sg_machine_open"
"""On an open that no person made: a mail program that fetches all pictures ahead."""

_RAW_BYTES: Final = 4096
_TEXT_LENGTH: Final = 500
_KEY_LENGTH: Final = 128
_NOT_JSON: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class Events:
    """``public_key`` is base64 DER; None believes nobody. Raises ValueError for what is not a P-256 key."""

    def __init__(self, public_key: str | None) -> None:
        self._key = _p256(public_key) if public_key else None

    def receipts(self, headers: Mapping[str, str], body: bytes) -> Sequence[Receipt] | None:
        """None when the signature is not SendGrid's. Whatever else is wrong inside is left out.

        An old timestamp is no reason to refuse: SendGrid repeats a call for 24 hours with the first one. Repeated
        events are told apart by their key when they are filed.
        """
        given = {name.lower(): value for name, value in headers.items()}
        timestamp = given.get(TIMESTAMP, "")
        if not self._signed(given.get(SIGNATURE, ""), timestamp, body):
            return None
        try:
            events = msgspec.json.decode(body, type=list[msgspec.Raw])
        except _NOT_JSON:
            return []
        found = (_receipt(bytes(event), timestamp) for event in events)
        return [receipt for receipt in found if receipt is not None]

    def _signed(self, signature: str, timestamp: str, body: bytes) -> bool:
        if self._key is None:
            return False
        try:
            raw = base64.b64decode(signature.encode("ascii"), validate=True)
            self._key.verify(raw, timestamp.encode("ascii") + body, ECDSA(SHA256()))
        except (InvalidSignature, ValueError):
            return False
        return True


def _p256(public_key: str) -> EllipticCurvePublicKey:
    key = load_der_public_key(base64.b64decode(public_key, validate=True))
    if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP256R1):
        raise ValueError("the webhook's public key is not an ECDSA key on P-256")
    return key


def _receipt(raw: bytes, signed_at: str) -> Receipt | None:
    """None for what is no event: not an object, without a kind, or from no imaginable time."""
    event = _object(raw)
    kind = _text(event.get("event"))
    occurred_at = _instant(event.get("timestamp")) or _instant(signed_at)
    if kind is None or occurred_at is None:
        return None
    blocked = kind == "bounce" and event.get("type") == "blocked"
    message_id = _text(event.get("sg_message_id"))
    more = _text(event.get(_SAYS_MORE[kind])) if kind in _SAYS_MORE else None
    return Receipt(
        reference=_text(event.get("ref")),
        event_key=_key(event.get("sg_event_id"), raw),
        kind=kind,
        status=STATUSES.get(kind),
        reason="blocked" if blocked else _text(event.get("reason")),
        message_id=(message_id or "").split(".", 1)[0] or None,
        occurred_at=occurred_at,
        raw=raw[:_RAW_BYTES],
        gone=GONE.get((kind, more)),
        engagement=None if event.get(_OF_A_MACHINE) is True else ENGAGEMENTS.get(kind),
        lifts=LIFTS.get(kind),
        address=_text(event.get("email")),
    )


def _object(raw: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(raw, type=dict[str, Any])
    except _NOT_JSON:
        return {}


def _text(value: object) -> str | None:
    """Text that can be stored as it is: bounded, and without the NUL that PostgreSQL does not take."""
    return value.replace("\0", "")[:_TEXT_LENGTH] or None if isinstance(value, str) else None


def _key(given: object, raw: bytes) -> str:
    """The provider's id of the event, else the event's own digest: the same event repeated has the same key."""
    key = _text(given)
    return key if key and len(key) <= _KEY_LENGTH else hashlib.sha256(raw).hexdigest()


def _instant(value: object) -> datetime | None:
    """``value`` is seconds since 1970, as a number or as digits."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return datetime.fromtimestamp(float(value), UTC)
    except (ValueError, OverflowError, OSError):
        return None

"""SendGrid's Event Webhook: a signed JSON array of events."""

import base64
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from tidings.domain.outcome import Engagement, Gone, Receipt
from tidings.providers.webhooks import NOT_JSON, RAW_BYTES, event_key, instant, json_object, text

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
        except NOT_JSON:
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
    event = json_object(raw)
    kind = text(event.get("event"))
    occurred_at = instant(event.get("timestamp")) or instant(signed_at)
    if kind is None or occurred_at is None:
        return None
    blocked = kind == "bounce" and event.get("type") == "blocked"
    message_id = text(event.get("sg_message_id"))
    more = text(event.get(_SAYS_MORE[kind])) if kind in _SAYS_MORE else None
    return Receipt(
        reference=text(event.get("ref")),
        event_key=event_key(event.get("sg_event_id"), raw),
        kind=kind,
        status=STATUSES.get(kind),
        reason="blocked" if blocked else text(event.get("reason")),
        message_id=(message_id or "").split(".", 1)[0] or None,
        occurred_at=occurred_at,
        raw=raw[:RAW_BYTES],
        gone=GONE.get((kind, more)),
        engagement=None if event.get(_OF_A_MACHINE) is True else ENGAGEMENTS.get(kind),
        lifts=LIFTS.get(kind),
        address=text(event.get("email")),
    )

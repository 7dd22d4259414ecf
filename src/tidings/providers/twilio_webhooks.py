"""Twilio's webhooks: status callbacks of our own messages, and replies of people, each a signed form."""

import hashlib
import hmac
import re
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final
from urllib.parse import parse_qsl

from tidings.domain.outcome import Engagement, Gone, Receipt
from tidings.ports import WebhookCall
from tidings.providers.webhooks import RAW_BYTES, event_key, text

REFERENCE: Final = "ref"
"""The name of our reference in the query of the address that a status callback goes to."""

SIGNATURE: Final = "x-twilio-signature"
SIGNED_HOW: Final = "x-twilio-webhooks-signature-settings"

STATUSES: Final[Mapping[str, str]] = {
    "accepted": "sent",
    "scheduled": "sent",
    "queued": "sent",
    "sending": "sent",
    "sent": "sent",
    "delivered": "delivered",
    "read": "delivered",
    "undelivered": "undelivered",
    "failed": "undelivered",
    "canceled": "undelivered",
}
"""What a status means for the delivery; for us all those are sent that Twilio has taken. Any other is news only."""

ENGAGEMENT: Final[Mapping[str, Engagement]] = {"read": Engagement.read}

GONE: Final[Mapping[str, Gone]] = {"21610": Gone.stop, "30005": Gone.hard_bounce, "30006": Gone.hard_bounce}
"""Error codes that are about the telephone: it has opted out, does not exist, is a landline."""

STOP: Final = frozenset({"STOP", "STOPALL", "UNSUBSCRIBE", "CANCEL", "END", "QUIT"})
START: Final = frozenset({"START", "UNSTOP"})
"""The replies by which people opt out and in again. Twilio obeys them by itself; we learn them here."""

_MOST_FIELDS: Final = 200
_NUMBER: Final = re.compile(r"\+[0-9]{3,16}")
_PORT: Final = re.compile(r":[0-9]+$")
_USUAL_PORTS: Final = {"http": "80", "https": "443"}
Fields = Sequence[tuple[str, str]]


class Webhooks:
    """``auth_token`` is what Twilio signs with, ``shared_key`` what it does for those who gave it one; None believes
    nobody who claims to."""

    def __init__(self, auth_token: str | None, shared_key: str | None = None) -> None:
        self._keys = {"HMAC_SHA1": ("sha1", auth_token), "HMAC_SHA256": ("sha256", shared_key)}

    def receipts(self, call: WebhookCall) -> Sequence[Receipt] | None:
        """None when the signature is not Twilio's. What is no news of a message is left out."""
        fields = _fields(call.body)
        if fields is None or not self._signed(call, fields):
            return None
        named = dict(fields)
        receipt = _status(call, named) if "MessageStatus" in named else _reply(call, named)
        return [receipt] if receipt else []

    def _signed(self, call: WebhookCall, fields: Fields) -> bool:
        """The signature covers the whole address and, of a form, every field."""
        hash_, key = self._keys.get(_algorithm(call.headers.get(SIGNED_HOW, "")), ("", None))
        digest = _query(call.url).get("bodySHA256")
        if key is None or (digest is not None and digest != hashlib.sha256(call.body).hexdigest()):
            return False
        covered = "" if digest is not None else "".join(name + value for name, value in sorted(set(fields)))
        given = call.headers.get(SIGNATURE, "").encode()
        made = [hmac.digest(key.encode(), (url + covered).encode(), hash_) for url in _spellings(call.url)]
        return any(hmac.compare_digest(b64encode(one), given) for one in made)


def _algorithm(settings: str) -> str:
    """From ``key=…,algorithm=HMAC_SHA256``; without such a header it is the auth token's."""
    named = dict(part.strip().split("=", 1) for part in settings.split(",") if "=" in part)
    return named.get("algorithm", "HMAC_SHA1")


def _spellings(url: str) -> Iterator[str]:
    """With the port and without it: Twilio signs now one, now the other."""
    scheme, _, rest = url.partition("://")
    netloc, slash, path = rest.partition("/")
    bare = _PORT.sub("", netloc)
    yield f"{scheme}://{bare}{slash}{path}"
    yield url if bare != netloc else f"{scheme}://{bare}:{_USUAL_PORTS.get(scheme, '')}{slash}{path}"


def _query(url: str) -> Mapping[str, str]:
    return dict(parse_qsl(url.partition("?")[2]))


def _fields(body: bytes) -> Fields | None:
    """None for what is no form of a sensible size."""
    try:
        return parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    except ValueError:
        return None


def _status(call: WebhookCall, fields: Mapping[str, str]) -> Receipt | None:
    kind, sid = text(fields["MessageStatus"]), text(fields.get("MessageSid"))
    if kind is None or sid is None:
        return None
    code = text(fields.get("ErrorCode"))
    return Receipt(
        reference=text(_query(call.url).get(REFERENCE)),
        event_key=event_key(f"{sid}-{kind}", call.body),
        kind=kind,
        status=STATUSES.get(kind),
        reason=code,
        message_id=sid,
        occurred_at=datetime.now(UTC),  # the call does not say when
        raw=call.body[:RAW_BYTES],
        gone=GONE.get(code or ""),
        engagement=ENGAGEMENT.get(kind),
        address=_number(fields.get("To")),
    )


def _reply(call: WebhookCall, fields: Mapping[str, str]) -> Receipt | None:
    """None for what people write beside the words that opt out or in: that is no receipt, and is not kept."""
    sid, address = text(fields.get("MessageSid")), _number(fields.get("From"))
    word = (fields.get("OptOutType") or fields.get("Body") or "").strip().upper()
    if sid is None or address is None or word not in STOP | START:
        return None
    return Receipt(
        reference=None,
        event_key=event_key(sid, call.body),
        kind="stop" if word in STOP else "start",
        status=None,
        reason=None,
        message_id=sid,
        occurred_at=datetime.now(UTC),
        raw=call.body[:RAW_BYTES],
        gone=Gone.stop if word in STOP else None,
        lifts=Gone.stop if word in START else None,
        address=address,
    )


def _number(value: str | None) -> str | None:
    """An address of the channel; None for a short code, or for what came over WhatsApp or RCS."""
    return value if value and _NUMBER.fullmatch(value) else None

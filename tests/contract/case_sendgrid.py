"""SendGrid's row."""

import base64
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from provider_case import REFERENCE, WEBHOOK_URL, Case, Mutant, Scripted, Sign, Vector, Webhook
from wire_peer import answer

from tidings.domain.lanes import Channel
from tidings.domain.notification import Content
from tidings.domain.outcome import Engagement, Gone, Receipt, Refused, Sent, TryLater, TryNext, Unsure
from tidings.ports import Message, WebhookCall
from tidings.providers import sendgrid, sendgrid_events

_API_KEY = "SG.this-must-never-be-shown"
_KEY, _STRANGER = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
_SIGNED_AT = b"1600112502"
_NOON = "Date: Sun, 22 Nov 2026 12:00:00 GMT\r\n"
_NOON_S = int(datetime(2026, 11, 22, 12, tzinfo=UTC).timestamp())
_ID = "X-Message-Id: LRzXl_NHStOGhQ4kofSm_A\r\n"


def _fault(status: int, message: str = "no", field: str | None = None, headers: str = "") -> bytes:
    return answer(status, msgspec.json.encode({"errors": [{"message": message, "field": field}]}), headers)


def _paced(headers: str, after_s: float) -> Scripted:
    return Scripted(_fault(429, headers=headers), TryLater("http_429", after_s=after_s, account=True))


_SENDGRID_ANSWERS = {
    "202 with an id": Scripted(answer(202, headers=_ID), Sent("LRzXl_NHStOGhQ4kofSm_A")),
    "202 in small letters": Scripted(answer(202, headers=_ID.lower()), Sent("lrzxl_nhstoghq4kofsm_a")),
    "202 without an id": Scripted(answer(202), Unsure("no_message_id")),
    "202 with an empty id": Scripted(answer(202, headers="X-Message-Id: \r\n"), Unsure("no_message_id")),
    "202 with a huge id": Scripted(answer(202, headers=f"X-Message-Id: {'x' * 300}\r\n"), Unsure("no_message_id")),
    "202 with an odd id": Scripted(answer(202, headers="X-Message-Id: \u00e9\r\n"), Unsure("no_message_id")),
    "200 with a page": Scripted(answer(200, b"<html>It works!</html>"), Unsure("http_200")),
    "200 with an id": Scripted(answer(200, headers=_ID), Unsure("http_200")),
    "204": Scripted(b"HTTP/1.1 204 No Content\r\n\r\n", Unsure("http_204")),
    "301": Scripted(answer(301), TryNext("http_301")),
    "302": Scripted(answer(302), TryNext("http_302")),
    "303": Scripted(answer(303), Unsure("http_303")),
    "307": Scripted(answer(307), TryNext("http_307")),
    "308": Scripted(answer(308), TryNext("http_308")),
    "400": Scripted(_fault(400, "Does not contain a valid address.", "personalizations.0.to"), Refused("http_400")),
    "400 for the sender": Scripted(_fault(400, field="from"), Refused("http_400")),
    "401": Scripted(_fault(401, "authorization required"), TryLater("http_401", after_s=60.0, account=True)),
    "401 without credit": Scripted(
        _fault(401, "Maximum credits exceeded"), TryLater("http_401", after_s=60.0, account=True)
    ),
    "402": Scripted(_fault(402), TryLater("http_402", after_s=60.0, account=True)),
    "403": Scripted(_fault(403, "access forbidden"), TryLater("http_403", after_s=60.0, account=True)),
    "403 for the sender": Scripted(
        _fault(403, "The from address does not match a verified Sender Identity.", "from"), Refused("http_403")
    ),
    "404": Scripted(_fault(404), Refused("http_404")),
    "405": Scripted(_fault(405), Refused("http_405")),
    "408": Scripted(answer(408), TryNext("http_408")),
    "413": Scripted(_fault(413), Refused("http_413")),
    "418": Scripted(_fault(418), TryNext("http_418")),
    "422": Scripted(_fault(422), Refused("http_422")),
    "429 until an instant": _paced(f"{_NOON}X-RateLimit-Reset: {_NOON_S + 17}\r\n", 17.0),
    "429 until long ago": _paced(f"{_NOON}X-RateLimit-Reset: {_NOON_S - 999}\r\n", 1.0),
    "429 for hours": _paced("Retry-After: 7200\r\n", 300.0),
    "429 for seconds": _paced("Retry-After: 5\r\n", 5.0),
    "429 without a word": _paced("", 10.0),
    "429 in riddles": _paced("Retry-After: soon\r\n", 10.0),
    "500": Scripted(_fault(500), Unsure("http_500")),
    "500 with garbage": Scripted(answer(500, b"{" * 2000), Unsure("http_500")),
    "501": Scripted(answer(501), Unsure("http_501")),
    "502": Scripted(answer(502, b"<html>Bad Gateway</html>"), Unsure("http_502")),
    "503": Scripted(_fault(503), TryNext("http_503")),
    "503 from a gateway": Scripted(answer(503, b"<html>Service Unavailable</html>"), TryNext("http_503")),
    "504": Scripted(answer(504), Unsure("http_504")),
    "520": Scripted(answer(520), Unsure("http_520")),
}


def _signed(key: ec.EllipticCurvePrivateKey) -> Sign:
    def sign(call: WebhookCall) -> WebhookCall:
        signature = key.sign(_SIGNED_AT + call.body, ec.ECDSA(SHA256()))
        headers = {
            "x-twilio-email-event-webhook-signature": base64.b64encode(signature).decode(),
            "x-twilio-email-event-webhook-timestamp": _SIGNED_AT.decode(),
        }
        return msgspec.structs.replace(call, headers=headers)

    return sign


def _vectors(folder: Path) -> Iterator[Vector]:
    recorded = msgspec.json.decode((folder / "sendgrid_event_webhook.json").read_bytes())
    names = recorded["headers"]
    for one in recorded["cases"]:
        headers = {names["signature"].lower(): one["signature"], names["timestamp"].lower(): one["timestamp"]}
        call = WebhookCall(WEBHOOK_URL, headers, one["body"].encode())
        yield Vector(one["name"], {"webhook_public_key": one["public_key"]}, call, one["valid"])


def _public(key: ec.EllipticCurvePrivateKey) -> str:
    return base64.b64encode(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()


def _event(kind: str, **more: Any) -> dict[str, Any]:
    return {
        "email": "ada@example.com",
        "timestamp": 1600112492,
        "event": kind,
        "sg_event_id": f"event-{kind}",
        "sg_message_id": "LRzXl_NHStOGhQ4kofSm_A.filterdrecv-p3mdw1-756b745b58-kmzbl-18-5F5FC76C-9.0",
        "ref": REFERENCE,
        **more,
    }


def _webhook(kind: str, meaning: Mapping[str, Any] = MappingProxyType({}), /, **more: Any) -> Webhook:
    """``meaning`` is what the receipt says beside what every one says, ``more`` what the event says."""
    common = Receipt(
        reference=REFERENCE,
        event_key=f"event-{kind}",
        kind=kind,
        status=None,
        reason=None,
        message_id="LRzXl_NHStOGhQ4kofSm_A",
        occurred_at=datetime.fromtimestamp(1600112492, UTC),
        raw=b"",
        address="ada@example.com",
    )
    receipt = msgspec.structs.replace(common, **meaning)
    return Webhook(msgspec.json.encode([_event(kind, **more)]) + b"\r\n", [receipt])


def _undelivered(kind: str, reason: str, gone: Gone | None = None, /, **more: Any) -> Webhook:
    return _webhook(kind, {"status": "undelivered", "reason": reason, "gone": gone}, **more)


_SENDGRID_WEBHOOKS = {
    "processed": _webhook("processed", {"status": "sent"}),
    "delivered": _webhook("delivered", {"status": "delivered"}, response="250 OK"),
    "bounce": _undelivered("bounce", "550 no such user", Gone.hard_bounce, type="bounce", reason="550 no such user"),
    "bounce, blocked": _undelivered("bounce", "blocked", type="blocked", reason="550 go away"),
    "bounce of no type": _undelivered("bounce", "550 hm", reason="550 hm"),
    **{
        f"dropped: {reason}": _undelivered("dropped", reason, gone, reason=reason)
        for reason, gone in {
            "Bounced Address": Gone.hard_bounce,
            "Invalid": Gone.hard_bounce,
            "Spam Reporting Address": Gone.complaint,
            "Unsubscribed Address": Gone.unsubscribe,
            "Invalid SMTPAPI header": None,
            "Spam Content": None,
        }.items()
    },
    "spamreport": _webhook("spamreport", {"gone": Gone.complaint}),
    "unsubscribe": _webhook("unsubscribe", {"gone": Gone.unsubscribe}),
    "group_unsubscribe": _webhook("group_unsubscribe", {"gone": Gone.unsubscribe}),
    "group_resubscribe": _webhook("group_resubscribe", {"lifts": Gone.unsubscribe}),
    "open": _webhook("open", {"engagement": Engagement.opened}, sg_machine_open=False),
    "open by a machine": _webhook("open", sg_machine_open=True),
    "click": _webhook("click", {"engagement": Engagement.clicked}),
    "deferred": _webhook("deferred"),
    "a new one": _webhook("a_new_one"),
    "none": Webhook(b"[]", []),
}

_SENDGRID_HOSTILE = [
    b"",
    b"null",
    b"{}",
    b"\xff\xfe",
    b"[" * 200_000,
    b'[1, null, "x", [], {}, true]',
    b'[{"event": 5}, {"event": ""}, {"event": null}]',
    b'[{"event": "delivered", "timestamp": 1e300}]',
    b'[{"event": "delivered", "timestamp": "NaN"}]',
    b'[{"event": "delivered", "timestamp": true, "ref": 5, "sg_event_id": {}, "sg_message_id": []}]',
    b'[{"event": "bounce\\u0000", "reason": "a\\u0000b", "ref": "\\u0000", "sg_event_id": "\\u0000"}]',
    b'[{"event": "delivered", "x": "\\ud800"}]',
    b'[{"event": "delivered", "x": 1e999}]',
    b'[{"event": "delivered", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}]",
    msgspec.json.encode([dict.fromkeys(("event", "reason", "ref", "sg_event_id", "sg_message_id"), "x" * 100000)]),
]


def _sendgrid_mutants() -> Iterator[Mutant]:
    statuses = [int(name[:3]) for name in _SENDGRID_ANSWERS]
    for key in {*sendgrid.VERDICTS, *((status, None) for status in statuses)}:
        for wrong in set(sendgrid.Verdict) - {sendgrid.Verdict.gone, sendgrid.verdict(*key)}:
            yield sendgrid, "VERDICTS", {**sendgrid.VERDICTS, key: wrong}
    for key in sendgrid.VERDICTS:
        yield sendgrid, "VERDICTS", {other: verdict for other, verdict in sendgrid.VERDICTS.items() if other != key}
    for wrong in set(sendgrid.Verdict) - {sendgrid.Verdict.next}:
        yield sendgrid, "BY_CLASS", {4: wrong}
    for kind in (*sendgrid_events.STATUSES, "deferred", "open", "unsubscribe"):
        for status in {"sent", "delivered", "undelivered", None} - {sendgrid_events.STATUSES.get(kind)}:
            yield sendgrid_events, "STATUSES", {**sendgrid_events.STATUSES, kind: status}
    for name in ("GONE", "LIFTS", "ENGAGEMENTS"):
        yield from _misread(name, getattr(sendgrid_events, name))


def _misread(name: str, table: Mapping[Any, Any]) -> Iterator[Mutant]:
    """Each row left out, and each said to be another's."""
    for key, meant in table.items():
        yield sendgrid_events, name, {other: meaning for other, meaning in table.items() if other != key}
        for wrong in set(type(meant)) - {meant}:
            yield sendgrid_events, name, {**table, key: wrong}


SENDGRID = Case(
    kind="sendgrid",
    channel=Channel.email,
    settings={"api_key": _API_KEY, "webhook_public_key": _public(_KEY)},
    secrets=[_API_KEY],
    message=Message(
        reference=REFERENCE,
        to="ada@example.com",
        content=Content(subject="Order 12345", text="Thank you.\r\n", html="<p>Thank you.</p>"),
        sender={"email": "shop@example.com", "name": "The Shop"},
        headers={"List-Unsubscribe": "<https://example.com/u/1>"},
        reply_to="help@example.com",
    ),
    answers=_SENDGRID_ANSWERS,
    webhooks=_SENDGRID_WEBHOOKS,
    hostile=_SENDGRID_HOSTILE,
    sign=_signed(_KEY),
    sign_as_stranger=_signed(_STRANGER),
    mutants=_sendgrid_mutants,
    vectors=_vectors,
)

"""Mailgun's row."""

import hashlib
import hmac
import secrets
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from provider_case import REFERENCE, WEBHOOK_URL, Case, Mutant, Scripted, Sign, Vector, Webhook
from wire_peer import answer

from tidings.domain.lanes import Channel
from tidings.domain.notification import Content
from tidings.domain.outcome import Engagement, Gone, Receipt, Refused, Sent, TryLater, TryNext, Unsure
from tidings.ports import Message, WebhookCall
from tidings.providers import mailgun, mailgun_events

_API_KEY, _SIGNING_KEY = "key-this-must-never-be-shown", "signing-key-never-to-be-shown"
_NOON = "Date: Sun, 22 Nov 2026 12:00:00 GMT\r\n"
_ID = f"{REFERENCE}@mg.example.com"
_LONG_AGO_S = "1000000000000"


def _said(status: int, message: str = "no", headers: str = "", **more: str) -> bytes:
    return answer(status, msgspec.json.encode({"message": message, **more}), headers)


def _limit(words: str, after_s: float, status: int = 429) -> Scripted:
    message = f"Domain mg.example.com is not allowed to send: {words}"
    return Scripted(_said(status, message, _NOON), TryLater(f"http_{status}", after_s=after_s, account=True))


def _paused(status: int, message: str) -> Scripted:
    return Scripted(_said(status, message), TryLater(f"http_{status}", after_s=60.0, account=True))


_MAILGUN_ANSWERS = {
    "200 with an id": Scripted(_said(200, "Queued. Thank you.", id=f"<{_ID}>"), Sent(_ID)),
    "200 without an id": Scripted(_said(200, "Queued. Thank you."), Unsure("no_message_id")),
    "200 with a page": Scripted(answer(200, b"<html>It works!</html>"), Unsure("no_message_id")),
    "200 with a huge id": Scripted(_said(200, id="x" * 300), Unsure("no_message_id")),
    "202 with an id": Scripted(_said(202, id=f"<{_ID}>"), Unsure("http_202")),
    "204": Scripted(b"HTTP/1.1 204 No Content\r\n\r\n", Unsure("http_204")),
    "301": Scripted(answer(301), TryNext("http_301")),
    "302": Scripted(answer(302), TryNext("http_302")),
    "303": Scripted(answer(303), Unsure("http_303")),
    "307": Scripted(answer(307), TryNext("http_307")),
    "308": Scripted(answer(308), TryNext("http_308")),
    "400": Scripted(_said(400, "to parameter is not a valid address. please check documentation"), Refused("http_400")),
    "400 for the domain": _paused(400, "Domain mg.example.com is not allowed to send: The domain is unverified"),
    "401": Scripted(answer(401, b"Forbidden"), TryLater("http_401", after_s=60.0, account=True)),
    "402": _paused(402, "Payment required"),
    "403": _paused(403, "Domain mg.example.com is not allowed to send: your account is disabled"),
    "403 for the recipient": Scripted(
        _said(
            403,
            "Domain sandbox1.mailgun.org is not allowed to send: Sandbox subdomains are for test purposes only. "
            "Please add your own domain or add the address to authorized recipients in Account Settings.",
        ),
        Refused("http_403"),
    ),
    "404": _paused(404, "Domain not found: mg.example.com"),
    "405": Scripted(_said(405), Refused("http_405")),
    "408": Scripted(answer(408), TryNext("http_408")),
    "413": Scripted(_said(413), Refused("http_413")),
    "420 until an instant": _limit(
        "recipient limit exceeded, try again after Sun, 22 Nov 2026 12:00:31 UTC", 31.0, status=420
    ),
    "422": Scripted(_said(422), Refused("http_422")),
    "429 for seconds": _limit("account-requests-per-sec limit exceeded, try again after 120 seconds", 120.0),
    "429 until an instant": _limit("bytes limit exceeded, try again after Sun, 22 Nov 2026 12:00:17 GMT", 17.0),
    "429 until long ago": _limit("request limit exceeded, try again after Sun, 22 Nov 2026 11:00:00 GMT", 1.0),
    "429 for hours": _limit("request limit exceeded, try again after Sun, 22 Nov 2026 21:00:00 GMT", 300.0),
    "429 in riddles": _limit("request limit exceeded, try again after the holidays", 10.0),
    "429 without a word": Scripted(answer(429), TryLater("http_429", after_s=10.0, account=True)),
    "429 with a header": Scripted(
        answer(429, headers="Retry-After: 5\r\n"), TryLater("http_429", after_s=5.0, account=True)
    ),
    "500": Scripted(_said(500, "Internal Server Error"), Unsure("http_500")),
    "502": Scripted(answer(502, b"<html>Bad Gateway</html>"), Unsure("http_502")),
    "503": Scripted(_said(503), TryNext("http_503")),
    "503 from a gateway": Scripted(answer(503, b"<html>Service Unavailable</html>"), TryNext("http_503")),
    "504": Scripted(answer(504), Unsure("http_504")),
}


def _signed(key: str) -> Sign:
    """A fresh signature: it covers a time and a token, whatever else the body says."""

    def sign(call: WebhookCall) -> WebhookCall:
        timestamp, token = str(int(time.time())), secrets.token_hex(25)
        signature = hmac.new(key.encode(), (timestamp + token).encode(), hashlib.sha256).hexdigest()
        made = msgspec.json.encode({"timestamp": timestamp, "token": token, "signature": signature})
        return msgspec.structs.replace(call, body=b'{"signature":%b,"event-data":%b}' % (made, call.body))

    return sign


def _forged(call: WebhookCall) -> Iterator[WebhookCall]:
    """The same call with a part of its signature changed. The event itself is not covered."""
    body = msgspec.json.decode(call.body)
    for name, value in body["signature"].items():
        for forged in ("", value[:-1], value[1:], value + "0", "x" * 5000, "\u00e9", "0" * len(value), None, 5, []):
            signature = {**body["signature"], name: forged}
            yield msgspec.structs.replace(call, body=msgspec.json.encode({**body, "signature": signature}))
    for broken in (b"", b"{}", b"[]", call.body[:-1], msgspec.json.encode({"event-data": body["event-data"]})):
        yield msgspec.structs.replace(call, body=broken)


def _vectors(folder: Path) -> Iterator[Vector]:
    recorded = msgspec.json.decode((folder / "mailgun_webhook.json").read_bytes())
    settings = {"webhook_signing_key": recorded["signing_key"], "webhook_age_s": _LONG_AGO_S}
    for one in recorded["cases"]:
        signature = {name: one[name] for name in ("timestamp", "token", "signature")}
        body = msgspec.json.encode({"signature": signature, "event-data": {}})
        yield Vector(one["name"], settings, WebhookCall(WEBHOOK_URL, {}, body), one["valid"])


def _webhook(
    kind: str,
    status: str | None,
    *,
    why: str | None = None,
    gone: Gone | None = None,
    engagement: Engagement | None = None,
    **more: Any,
) -> Webhook:
    event = {
        "id": f"event-{kind}",
        "event": kind,
        "timestamp": 1529701969.818328,
        "recipient": "ada@example.com",
        "message": {"headers": {"to": "ada@example.com", "message-id": _ID}},
        "user-variables": {"ref": REFERENCE},
        **more,
    }
    receipt = Receipt(
        reference=REFERENCE,
        event_key=f"event-{kind}",
        kind=kind,
        status=status,
        reason=why,
        message_id=_ID,
        occurred_at=datetime.fromtimestamp(1529701969.818328, UTC),
        raw=b"",
        gone=gone,
        engagement=engagement,
        address="ada@example.com",
    )
    return Webhook(msgspec.json.encode(event), [receipt])


def _failed(reason: str, why: str, gone: Gone | None, **status: Any) -> Webhook:
    return _webhook(
        "failed",
        "undelivered",
        why=why,
        gone=gone,
        severity="permanent",
        reason=reason,
        **{"delivery-status": {"message": why, "code": 550, **status}},
    )


_MAILGUN_WEBHOOKS = {
    "accepted": _webhook("accepted", "sent"),
    "delivered": _webhook("delivered", "delivered", why="OK", **{"delivery-status": {"code": 250, "message": "OK"}}),
    "failed, no such user": _failed("bounce", "5.1.1 The email account does not exist", Gone.hard_bounce),
    "failed, with its code": _failed("bounce", "550 5.1.1 nobody", Gone.hard_bounce),
    "failed, its code apart": _failed("bounce", "nobody", Gone.hard_bounce, **{"enhanced-code": "5.1.10"}),
    "failed, called hard": _failed("bounce", "nobody", Gone.hard_bounce, **{"bounce-type": "hard"}),
    "failed, for the sender": _failed("bounce", "5.1.8 bad sender", None),
    "failed, blocked": _failed("generic", "5.7.1 blocked", None, **{"bounce-type": "soft"}),
    "failed, given up": _failed("old", "Too old", None),
    "failed, bounced before": _failed(
        "suppress-bounce", "Not delivering to previously bounced address", Gone.hard_bounce
    ),
    "failed, complained before": _failed("suppress-complaint", "Not delivering", Gone.complaint),
    "failed, unsubscribed before": _failed("suppress-unsubscribe", "Not delivering", Gone.unsubscribe),
    "failed for now": _webhook(
        "failed",
        None,
        why="5.1.1 try later",
        severity="temporary",
        reason="generic",
        **{"delivery-status": {"message": "5.1.1 try later"}},
    ),
    "rejected": _webhook("rejected", "undelivered", why="Sandbox", reject={"reason": "Sandbox", "description": ""}),
    "complained": _webhook("complained", None, gone=Gone.complaint),
    "unsubscribed": _webhook("unsubscribed", None, gone=Gone.unsubscribe),
    "opened": _webhook("opened", None, engagement=Engagement.opened),
    "clicked": _webhook("clicked", None, engagement=Engagement.clicked),
    "stored": _webhook("stored", None),
    "a new one": _webhook("a_new_one", None),
    "none": Webhook(b"{}", []),
}

_MAILGUN_HOSTILE = [
    b"null",
    b"[]",
    b"5",
    b'"x"',
    b"{" * 200_000,
    b'{"event": 5}',
    b'{"event": "delivered", "timestamp": 1e300}',
    b'{"event": "delivered", "timestamp": true, "message": [], "user-variables": "x", "id": {}, "severity": []}',
    b'{"event": "failed", "severity": "permanent", "reason": [], "delivery-status": {"message": 5}}',
    b'{"event": "failed\\u0000", "reason": "a\\u0000b", "id": "\\u0000", "user-variables": {"ref": "\\u0000"}}',
    b'{"event": "delivered", "x": "\\ud800"}',
    b'{"event": "delivered", "x": 1e999}',
    b'{"event": "delivered", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    msgspec.json.encode({"timestamp": 1, **dict.fromkeys(("event", "reason", "id", "severity"), "x" * 100_000)}),
]


def _mailgun_mutants() -> Iterator[Mutant]:
    statuses = [(int(name[:3]), None) for name in _MAILGUN_ANSWERS]
    for key in {*mailgun.VERDICTS, *statuses}:
        right = mailgun.judged(mailgun.VERDICTS, mailgun.BY_CLASS, *key)
        for wrong in set(mailgun.Verdict) - {mailgun.Verdict.gone, right}:
            yield mailgun, "VERDICTS", {**mailgun.VERDICTS, key: wrong}
    for name, table in (("VERDICTS", mailgun.VERDICTS), ("BY_CLASS", mailgun.BY_CLASS)):
        for key in table:
            yield mailgun, name, {other: verdict for other, verdict in table.items() if other != key}
    for event in (*mailgun_events.STATUSES, ("failed", "temporary"), ("opened", None), ("stored", None)):
        for status in {"sent", "delivered", "undelivered", None} - {mailgun_events.STATUSES.get(event)}:
            yield mailgun_events, "STATUSES", {**mailgun_events.STATUSES, event: status}
    for name, words in (("GONE", mailgun_events.GONE), ("ENGAGEMENT", mailgun_events.ENGAGEMENT)):
        for key in words:
            yield mailgun_events, name, {other: word for other, word in words.items() if other != key}


MAILGUN = Case(
    kind="mailgun",
    channel=Channel.email,
    settings={"api_key": _API_KEY, "domain": "mg.example.com", "webhook_signing_key": _SIGNING_KEY},
    secrets=[_API_KEY, _SIGNING_KEY],
    message=Message(
        reference=REFERENCE,
        to="ada@example.com",
        content=Content(subject="Order 12345", text="Thank you.\r\n", html="<p>Thank you.</p>"),
        sender={"email": "shop@example.com", "name": "The Shop"},
        headers={"List-Unsubscribe": "<https://example.com/u/1>"},
        reply_to="help@example.com",
    ),
    answers=_MAILGUN_ANSWERS,
    webhooks=_MAILGUN_WEBHOOKS,
    hostile=_MAILGUN_HOSTILE,
    sign=_signed(_SIGNING_KEY),
    sign_as_stranger=_signed("another-key"),
    forgeries=_forged,
    mutants=_mailgun_mutants,
    vectors=_vectors,
)

"""WhatsApp's row."""

import hmac
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
from provider_case import REFERENCE, WEBHOOK_URL, Case, Mutant, Scripted, Sign, Vector, Webhook
from wire_peer import answer

from tidings.domain.lanes import Channel
from tidings.domain.notification import Content
from tidings.domain.outcome import Engagement, Gone, Outcome, Receipt, Refused, Sent, TryLater, TryNext, Unsure
from tidings.ports import Message, WebhookCall
from tidings.providers import whatsapp, whatsapp_webhooks
from tidings.providers.answers import Verdict

_WAMID = "wamid.HBgLMTY1MDM4Nzk0MzkVAgARGBJCOTY3NDc0NDFDRUI3NTA0Q0UA"
_TOKEN, _APP_SECRET, _VERIFY_TOKEN = "EAAthis-must-never-be-shown", "nor-must-this", "and-not-this-either"
_ADA = "+12025550143"
_AT = 1600112492


def _fault(status: int, code: int | None = None, headers: str = "") -> bytes:
    error = {"message": "no", "type": "OAuthException", "error_data": {"details": "not at all"}, "fbtrace_id": "x"}
    return answer(status, msgspec.json.encode({"error": error | ({} if code is None else {"code": code})}), headers)


def _taken(id_: Any = _WAMID, status: int = 200, **more: Any) -> bytes:
    contacts = [{"input": _ADA, "wa_id": _ADA[1:]}]
    taken = {"messaging_product": "whatsapp", "contacts": contacts, "messages": [{"id": id_, **more}]}
    return answer(status, msgspec.json.encode(taken))


def _said(status: int, code: int, becomes: Outcome, headers: str = "") -> Scripted:
    return Scripted(_fault(status, code, headers), becomes)


def _paused(code: str) -> Outcome:
    return TryLater(code, after_s=60.0, account=True)


def _paced(code: str, after_s: float = 10.0) -> Outcome:
    return TryLater(code, after_s=after_s, account=True)


def _usage(*minutes: object) -> str:
    usage = {str(n): [{"type": "whatsapp", "estimated_time_to_regain_access": one}] for n, one in enumerate(minutes)}
    return f"x-business-use-case-usage: {msgspec.json.encode(usage).decode()}\r\n"


_PAUSING = {
    0: "nobody let us in",
    3: "not for this app",
    10: "not allowed",
    190: "the token is over",
    368: "blocked for a while",
    131005: "access denied",
    131031: "locked",
    131042: "not paid",
    131057: "in maintenance",
}
_PACING = {
    4: "too many calls",
    80007: "the business calls too often",
    130429: "the number sends too much",
    131048: "taken for spam",
    133016: "too many registrations",
}
_REFUSING = {
    100: "a bad parameter",
    130472: "an experiment",
    131021: "to itself",
    131026: "undeliverable",
    131030: "not on the list of a test number",
    131047: "more than 24 hours ago",
    131049: "enough for this person today",
    132001: "no such template",
    132015: "the template is paused",
}

_ANSWERS = {
    "200 with an id": Scripted(_taken(), Sent(_WAMID)),
    "200, held": Scripted(_taken(message_status="held_for_quality_assessment"), Sent(_WAMID)),
    "200 without an id": Scripted(_taken(""), Unsure("no_message_id")),
    "200 with a number for an id": Scripted(_taken(7), Unsure("no_message_id")),
    "200 with a huge id": Scripted(_taken("x" * 300), Unsure("no_message_id")),
    "200 with an odd id": Scripted(_taken("\u00e9"), Unsure("no_message_id")),
    "200 without messages": Scripted(answer(200, b"{}"), Unsure("no_message_id")),
    "200 with a page": Scripted(answer(200, b"<html>It works!</html>"), Unsure("no_message_id")),
    "200 with nothing": Scripted(answer(200), Unsure("no_message_id")),
    "200 that is an error": _said(200, 130429, _paced("130429")),
    "200 that is an error nobody knows": _said(200, 4711, Unsure("4711")),
    "201 with an id": Scripted(_taken(status=201), Unsure("http_201")),
    "204": Scripted(b"HTTP/1.1 204 No Content\r\n\r\n", Unsure("http_204")),
    "301": Scripted(answer(301), TryNext("http_301")),
    "302": Scripted(answer(302), TryNext("http_302")),
    "303": Scripted(answer(303), Unsure("http_303")),
    "307": Scripted(answer(307), TryNext("http_307")),
    "308": Scripted(answer(308), TryNext("http_308")),
    "400": Scripted(_fault(400), Refused("http_400")),
    "400 with a page": Scripted(answer(400, b"<html>"), Refused("http_400")),
    **{f"400, {words}": _said(400, code, Refused(str(code))) for code, words in _REFUSING.items()},
    **{f"400, {words}": _said(400, code, _paused(str(code))) for code, words in _PAUSING.items()},
    **{f"400, {words}": _said(400, code, _paced(str(code))) for code, words in _PACING.items()},
    "400, no more marketing": _said(400, 131050, Refused("131050", gone=Gone.unsubscribe)),
    "400, too often to this person": _said(400, 131056, TryLater("131056")),
    "400, something went wrong": _said(400, 131000, Unsure("131000")),
    "400, nobody knows what": _said(400, 1, Unsure("1")),
    "401": Scripted(_fault(401), _paused("http_401")),
    "402": Scripted(_fault(402), _paused("http_402")),
    "403": Scripted(_fault(403), _paused("http_403")),
    "403, not in this country": _said(403, 130497, Refused("130497")),
    "404": Scripted(_fault(404), _paused("http_404")),
    "405": Scripted(_fault(405), Refused("http_405")),
    "408": Scripted(answer(408), TryNext("http_408")),
    "413": Scripted(_fault(413), Refused("http_413")),
    "418": Scripted(_fault(418), TryNext("http_418")),
    "429": Scripted(_fault(429), _paced("http_429")),
    "429 for minutes": _said(429, 130429, _paced("130429", 120.0), _usage(0, 2, 1)),
    "429 for an hour": _said(429, 130429, _paced("130429", 300.0), _usage(60)),
    "429 for no time": _said(429, 130429, _paced("130429"), _usage(0)),
    "429 for seconds": _said(429, 130429, _paced("130429", 5.0), "Retry-After: 5\r\n"),
    "429 in riddles": _said(429, 130429, _paced("130429"), _usage("soon")),
    "429 in nonsense": _said(429, 130429, _paced("130429"), "x-business-use-case-usage: [1, {]\r\n"),
    "500": Scripted(_fault(500), Unsure("http_500")),
    "500, something went wrong": _said(500, 131000, Unsure("131000")),
    "500, not available": _said(500, 131016, TryNext("131016")),
    "500, not available for now": _said(500, 2, TryNext("2")),
    "501": Scripted(answer(501), Unsure("http_501")),
    "502": Scripted(answer(502, b"<html>Bad Gateway</html>"), Unsure("http_502")),
    "503": Scripted(_fault(503), TryNext("http_503")),
    "503 from a gateway": Scripted(answer(503, b"<html>Service Unavailable</html>"), TryNext("http_503")),
    "504": Scripted(answer(504), Unsure("http_504")),
    "520": Scripted(answer(520), Unsure("http_520")),
}


def _signed(secret: str) -> Sign:
    def sign(call: WebhookCall) -> WebhookCall:
        signature = hmac.digest(secret.encode(), call.body, "sha256").hex()
        return msgspec.structs.replace(call, headers={"x-hub-signature-256": f"sha256={signature}"})

    return sign


def _vectors(folder: Path) -> Iterator[Vector]:
    recorded = msgspec.json.decode((folder / "x_hub_signature_256.json").read_bytes())
    for one in recorded["cases"]:
        call = WebhookCall(WEBHOOK_URL, {recorded["header"].lower(): one["signature"]}, one["body"].encode())
        yield Vector(one["name"], {"app_secret": one["secret"]}, call, one["valid"])


def _call(name: str, *items: dict[str, Any], field: str = "messages") -> bytes:
    value = {"messaging_product": "whatsapp", "metadata": {"phone_number_id": "1"}, name: list(items)}
    change = {"field": field, "value": value}
    call = {"object": "whatsapp_business_account", "entry": [{"id": "102", "changes": [change]}]}
    return msgspec.json.encode(call).replace("\u00e9".encode(), b"\\u00e9")


def _receipt(key: str, kind: str, status: str | None = None, /, **more: Any) -> Receipt:
    usual = {"reference": None, "reason": None, "message_id": None, "address": _ADA}
    at = datetime.fromtimestamp(_AT, UTC)
    return Receipt(event_key=key, kind=kind, status=status, occurred_at=at, raw=b"", **(usual | more))


def _status(kind: str, status: str | None, code: int | None = None, **more: Any) -> Webhook:
    one = {"id": _WAMID, "status": kind, "timestamp": str(_AT), "recipient_id": _ADA[1:]}
    one |= {"biz_opaque_callback_data": REFERENCE, "pricing": {"billable": True}}
    errors = {} if code is None else {"errors": [{"code": code, "title": "no", "error_data": {"details": "\u00e9"}}]}
    reason = None if code is None else str(code)
    named = {"reference": REFERENCE, "message_id": _WAMID, "reason": reason, **more}
    return Webhook(_call("statuses", one | errors), [_receipt(f"{_WAMID}-{kind}", kind, status, **named)])


def _reply(body: object, kind: str | None, **more: Any) -> Webhook:
    one = {"id": "wamid.reply", "from": _ADA[1:], "timestamp": str(_AT), "type": "text", "text": {"body": body}}
    gone, lifts = (Gone.stop if kind == word else None for word in ("stop", "start"))
    known = _receipt("wamid.reply", kind or "", message_id="wamid.reply", gone=gone, lifts=lifts)
    return Webhook(_call("messages", one | more), [known] if kind else [])


def _preference(value: str, known: bool = True, **more: Any) -> Webhook:
    one = {"wa_id": _ADA[1:], "category": "marketing_messages", "value": value, "timestamp": _AT}
    key = f"preference-{_ADA}-{value}-{_AT}"
    receipts = [_receipt(key, f"preference_{value}", **more)] if known else []
    return Webhook(_call("user_preferences", one, field="user_preferences"), receipts)


_SENT, _DELIVERED = _status("sent", "sent"), _status("delivered", "delivered")
_WEBHOOKS = {
    "sent": _SENT,
    "delivered": _DELIVERED,
    "read": _status("read", "delivered", engagement=Engagement.read),
    "failed": _status("failed", "undelivered"),
    "failed, more than 24 hours": _status("failed", "undelivered", 131047),
    "failed, no more marketing": _status("failed", "undelivered", 131050, gone=Gone.unsubscribe),
    "a new one": _status("a_new_one", None),
    **{f"a reply, {word}": _reply(word, "stop") for word in sorted(whatsapp_webhooks.STOP)},
    **{f"a reply, {word}": _reply(word, "start") for word in sorted(whatsapp_webhooks.START)},
    "a reply, stop, badly typed": _reply(" Stop\n", "stop"),
    "a reply in words": _reply("Please stop by tomorrow", None),
    "a reply that is a picture": _reply(None, None, type="image", text=None),
    "a reply from nowhere": _reply("STOP", None, **{"from": "\u0661\u0662\u0663"}),
    "no more marketing": _preference("stop", gone=Gone.unsubscribe),
    "marketing again": _preference("resume", lifts=Gone.unsubscribe),
    "a preference that is new": _preference("pause", known=False),
    "several at once": Webhook(
        msgspec.json.encode(
            {"entry": [*msgspec.json.decode(_SENT.body)["entry"], *msgspec.json.decode(_DELIVERED.body)["entry"]]}
        ),
        [*_SENT.receipts, *_DELIVERED.receipts],
    ),
    "another field": Webhook(b'{"entry": [{"changes": [{"field": "account_update", "value": {"event": "x"}}]}]}', []),
    "none": Webhook(b"{}", []),
}

_HOSTILE = [
    b"",
    b"null",
    b"[]",
    b"\xff\xfe",
    b"[" * 200_000,
    b'{"entry": 5}',
    b'{"entry": [1, null, "x", [], {"changes": 5}, {"changes": [1, {}, {"value": 5}, {"value": {"statuses": 5}}]}]}',
    b'{"entry": ' + b'[{"changes": ' * 50_000 + b"]" * 50_000 + b"}",
    _call("statuses", {"status": 5, "id": 5}, {"status": "", "id": ""}, {"status": "sent", "id": None}),
    _call("statuses", {"status": "a\0b", "id": "\0c", "errors": [{"code": "x"}, 5], "timestamp": "1e999"}),
    _call("statuses", {"status": "x" * 100_000, "id": "y" * 100_000, "errors": [{"code": 10**30}]}),
    _call("statuses", {"status": "sent", "id": "a", "recipient_id": "1" * 100_000, "timestamp": True}),
    _call("messages", {"id": "a", "from": "1", "text": 5}, {"id": "a\0", "from": "1", "text": {"body": "STOP"}}),
    _call("user_preferences", {"wa_id": "1", "value": "stop", "timestamp": "\0" * 10_000}, {"wa_id": 5, "value": []}),
]


def _without_one(module: ModuleType, name: str) -> Iterator[Mutant]:
    table = getattr(module, name)
    for key in table:
        yield module, name, {other: value for other, value in table.items() if other != key}


def _mutants() -> Iterator[Mutant]:
    verdicts = set(Verdict) - {Verdict.gone}
    for key in whatsapp.BY_STATUS.keys() | {(int(name[:3]), None) for name in _ANSWERS}:
        for wrong in verdicts - {whatsapp.verdict(key[0], None)}:
            yield whatsapp, "BY_STATUS", {**whatsapp.BY_STATUS, key: wrong}
    for code in (*whatsapp.BY_CODE, *_REFUSING):
        for wrong in verdicts - {whatsapp.BY_CODE.get(code, Verdict.refuse)}:
            yield whatsapp, "BY_CODE", {**whatsapp.BY_CODE, code: wrong}
    for wrong in verdicts - {Verdict.next}:
        yield whatsapp, "BY_CLASS", {4: wrong}
    for name in ("BY_STATUS", "BY_CODE", "GONE"):
        yield from _without_one(whatsapp, name)
    for name in ("STATUSES", "GONE", "ENGAGEMENT", "PREFERENCES", "READ"):
        yield from _without_one(whatsapp_webhooks, name)
    for module in (whatsapp, whatsapp_webhooks):
        for gone in set(Gone) - {Gone.unsubscribe}:
            yield module, "GONE", {131050: gone}
    for kind in (*whatsapp_webhooks.STATUSES, "a_new_one"):
        for status in {"sent", "delivered", "undelivered", None} - {whatsapp_webhooks.STATUSES.get(kind)}:
            yield whatsapp_webhooks, "STATUSES", {**whatsapp_webhooks.STATUSES, kind: status}
    for name in ("STOP", "START"):
        words = getattr(whatsapp_webhooks, name)
        for word in words:
            yield whatsapp_webhooks, name, words - {word}


WHATSAPP = Case(
    kind="whatsapp",
    channel=Channel.whatsapp,
    settings={"token": _TOKEN, "app_secret": _APP_SECRET, "verify_token": _VERIFY_TOKEN, "version": "v23.0"},
    secrets=[_TOKEN, _APP_SECRET, _VERIFY_TOKEN],
    message=Message(
        reference=REFERENCE,
        to=_ADA,
        content=Content(text="Order 12345: thank you.\r\nIt is on its way & soon there, 100 %."),
        sender={"phone_number_id": "106540352242922", "display": "The Shop"},
        headers={},
    ),
    answers=_ANSWERS,
    webhooks=_WEBHOOKS,
    hostile=_HOSTILE,
    sign=_signed(_APP_SECRET),
    sign_as_stranger=_signed("another-secret"),
    mutants=_mutants,
    vectors=_vectors,
)

"""Twilio's row."""

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import parse_qsl, urlencode

import msgspec
from provider_case import ARRIVAL, REFERENCE, WEBHOOK_URL, Case, Mutant, Scripted, Sign, Vector, Webhook, tampered
from twilio.request_validator import RequestValidator
from wire_peer import answer

from tidings.domain.lanes import Channel
from tidings.domain.notification import Content
from tidings.domain.outcome import Engagement, Gone, Outcome, Receipt, Refused, Sent, TryLater, TryNext, Unsure
from tidings.ports import Message, WebhookCall
from tidings.providers import twilio, twilio_webhooks
from tidings.providers.answers import Verdict

ACCOUNT_SID = "AC" + "0123456789abcdef" * 2
SID = "SM" + "00112233445566778899aabbccddeeff"
_AUTH_TOKEN, _STRANGERS = "this-must-never-be-shown", "another-token"
_ADA, _SHOP = "+12025550143", "+15005550006"


def _fault(status: int, code: int | None = None, headers: str = "") -> bytes:
    fault = {"code": code, "message": "no", "more_info": "https://www.twilio.com/docs/errors", "status": status}
    return answer(status, msgspec.json.encode({name: value for name, value in fault.items() if value}), headers)


def _taken(sid: Any = SID, status: int = 201) -> bytes:
    made = {"sid": sid, "status": "queued", "error_code": None, "error_message": None, "num_segments": "1"}
    return answer(status, msgspec.json.encode(made))


def _said(status: int, code: int, becomes: Outcome) -> Scripted:
    return Scripted(_fault(status, code), becomes)


def _paused(code: str) -> Outcome:
    return TryLater(code, after_s=60.0, account=True)


def _paced(code: str, after_s: float = 10.0) -> Outcome:
    return TryLater(code, after_s=after_s, account=True)


_ANSWERS = {
    "201 with an id": Scripted(_taken(), Sent(SID, units=1)),
    "201 of a picture message": Scripted(_taken("MM" + SID[2:]), Sent("MM" + SID[2:], units=1)),
    "201 without an id": Scripted(_taken(None), Unsure("no_message_id")),
    "201 with an empty id": Scripted(_taken(""), Unsure("no_message_id")),
    "201 with a huge id": Scripted(_taken("x" * 300), Unsure("no_message_id")),
    "201 with an odd id": Scripted(_taken("\u00e9"), Unsure("no_message_id")),
    "201 with a number for an id": Scripted(_taken(7), Unsure("no_message_id")),
    "201 with a page": Scripted(answer(201, b"<html>It works!</html>"), Unsure("no_message_id")),
    "201 with nothing": Scripted(answer(201), Unsure("no_message_id")),
    "200 with an id": Scripted(_taken(status=200), Unsure("http_200")),
    "202 with an id": Scripted(_taken(status=202), Unsure("http_202")),
    "204": Scripted(b"HTTP/1.1 204 No Content\r\n\r\n", Unsure("http_204")),
    "301": Scripted(answer(301), TryNext("http_301")),
    "302": Scripted(answer(302), TryNext("http_302")),
    "303": Scripted(answer(303), Unsure("http_303")),
    "307": Scripted(answer(307), TryNext("http_307")),
    "308": Scripted(answer(308), TryNext("http_308")),
    "400": Scripted(_fault(400), Refused("http_400")),
    "400 with a page": Scripted(answer(400, b"<html>"), Refused("http_400")),
    "400, the number is none": _said(400, 21211, Refused("21211")),
    "400, a bad sender": _said(400, 21212, Refused("21212")),
    "400, not our sender": _said(400, 21606, Refused("21606")),
    "400, no way from there to there": _said(400, 21612, Refused("21612")),
    "400, too long": _said(400, 21617, Refused("21617")),
    "400, opted out": _said(400, 21610, Refused("21610", gone=Gone.stop)),
    "403, opted out": _said(403, 21610, Refused("21610", gone=Gone.stop)),
    "400, no mobile telephone": _said(400, 21614, Refused("21614", gone=Gone.hard_bounce)),
    "400, a country that is not allowed": _said(400, 21408, Refused("21408")),
    "403, a country that is not allowed": _said(403, 21408, Refused("21408")),
    "400, our address for callbacks is none": _said(400, 21609, _paused("21609")),
    "400, the account is not active": _said(400, 10001, _paused("10001")),
    "400, the sender's queue is full": _said(400, 21611, TryNext("21611")),
    "429, the sender's queue is full": _said(429, 21611, TryNext("21611")),
    "400, wrong credentials": _said(400, 20003, _paused("20003")),
    "400, suspended": _said(400, 20005, _paused("20005")),
    "400, access denied": _said(400, 20006, _paused("20006")),
    "400, not with test credentials": _said(400, 20008, _paused("20008")),
    "401": Scripted(_fault(401), _paused("http_401")),
    "401, wrong credentials": _said(401, 20003, _paused("20003")),
    "402": Scripted(_fault(402), _paused("http_402")),
    "403": Scripted(_fault(403), _paused("http_403")),
    "403, suspended": _said(403, 20005, _paused("20005")),
    "404": Scripted(_fault(404), _paused("http_404")),
    "404, no such account": _said(404, 20404, _paused("20404")),
    "400, no such account": _said(400, 20404, _paused("20404")),
    "405": Scripted(_fault(405), Refused("http_405")),
    "408": Scripted(answer(408), TryNext("http_408")),
    "413": Scripted(_fault(413), Refused("http_413")),
    "415": Scripted(_fault(415), Refused("http_415")),
    "418": Scripted(_fault(418), TryNext("http_418")),
    "422": Scripted(_fault(422), Refused("http_422")),
    "429": Scripted(_fault(429), _paced("http_429")),
    "429, too many requests": _said(429, 20429, _paced("20429")),
    "400, too many requests": _said(400, 20429, _paced("20429")),
    "429, the day's limit": _said(429, 63038, _paused("63038")),
    "429 for seconds": Scripted(_fault(429, 20429, "Retry-After: 5\r\n"), _paced("20429", 5.0)),
    "429 for hours": Scripted(_fault(429, 20429, "Retry-After: 7200\r\n"), _paced("20429", 300.0)),
    "429 in riddles": Scripted(_fault(429, 20429, "Retry-After: soon\r\n"), _paced("20429")),
    "500": Scripted(_fault(500), Unsure("http_500")),
    "500, it broke": _said(500, 20500, Unsure("20500")),
    "500 with a number of a refusal": _said(500, 21610, Unsure("21610")),
    "501": Scripted(answer(501), Unsure("http_501")),
    "502": Scripted(answer(502, b"<html>Bad Gateway</html>"), Unsure("http_502")),
    "503": Scripted(_fault(503), TryNext("http_503")),
    "503 from a gateway": Scripted(answer(503, b"<html>Service Unavailable</html>"), TryNext("http_503")),
    "504": Scripted(answer(504), Unsure("http_504")),
    "520": Scripted(answer(520), Unsure("http_520")),
}


class _Form(dict[str, list[str]]):
    """Fields as Twilio's own validator wants them, which stands here for Twilio."""

    def __init__(self, body: bytes) -> None:
        super().__init__()
        for name, value in parse_qsl(body.decode("latin-1"), keep_blank_values=True):
            self.setdefault(name, []).append(value)

    def getlist(self, name: str) -> list[str]:
        return self[name]


def _signed(token: str) -> Sign:
    def sign(call: WebhookCall) -> WebhookCall:
        signature = RequestValidator(token).compute_signature(call.url, _Form(call.body))
        return msgspec.structs.replace(call, headers={"x-twilio-signature": signature})

    return sign


def _forged(call: WebhookCall) -> Iterator[WebhookCall]:
    """Whatever the signature covers is changed: a field, the header, any part of the address."""
    yield from tampered(call)
    yield msgspec.structs.replace(call, body=call.body + b"&x=y")
    for old, new in (
        ("https:", "http:"),
        ("tidings.", "evil."),
        ("/token", "/other"),
        ("ref=0", "ref=1"),
        ("?", "?a&"),
    ):
        yield msgspec.structs.replace(call, url=call.url.replace(old, new, 1))
    settings = {"x-twilio-webhooks-signature-settings": "key=any,algorithm=HMAC_SHA256"}
    yield msgspec.structs.replace(call, headers={**call.headers, **settings})


def _vectors(folder: Path) -> Iterator[Vector]:
    recorded = msgspec.json.decode((folder / "twilio_request_validator.json").read_bytes())
    settings = {"auth_token": recorded["auth_token"]}
    for one in recorded["cases"]:
        body = one["body"].encode() if "body" in one else urlencode([tuple(pair) for pair in one["params"]]).encode()
        call = WebhookCall(one["url"], {recorded["header"].lower(): one["signature"]}, body)
        yield Vector(one["name"], settings, call, one["valid"])
        yield Vector(f"{one['name']}, another token", {"auth_token": "54321"}, call, False)
        yield Vector(f"{one['name']}, another body", settings, msgspec.structs.replace(call, body=body + b"0"), False)


def _status(kind: str, status: str | None, code: str | None = None, **more: Any) -> Webhook:
    """A status callback of a message of ours."""
    form = {"MessageSid": SID, "SmsSid": SID, "AccountSid": ACCOUNT_SID, "ApiVersion": "2010-04-01"}
    form |= {"MessageStatus": kind, "SmsStatus": kind, "From": _SHOP, "To": _ADA}
    receipt = Receipt(
        reference=REFERENCE,
        event_key=f"{SID}-{kind}",
        kind=kind,
        status=status,
        reason=code,
        message_id=SID,
        occurred_at=ARRIVAL,
        raw=b"",
        address=_ADA,
        **more,
    )
    return Webhook(urlencode(form | ({"ErrorCode": code} if code else {})).encode(), [receipt], f"?ref={REFERENCE}")


def _reply(body: str, kind: str | None, **form: str) -> Webhook:
    """What a person wrote back; no delivery is named."""
    fields = {"MessageSid": SID, "AccountSid": ACCOUNT_SID, "SmsStatus": "received", "Body": body}
    receipt = Receipt(
        reference=None,
        event_key=SID,
        kind=kind or "",
        status=None,
        reason=None,
        message_id=SID,
        occurred_at=ARRIVAL,
        raw=b"",
        gone=Gone.stop if kind == "stop" else None,
        lifts=Gone.stop if kind == "start" else None,
        address=_ADA,
    )
    return Webhook(urlencode(fields | {"From": _ADA, "To": _SHOP} | form).encode(), [receipt] if kind else [])


_WEBHOOKS = {
    **{kind: _status(kind, "sent") for kind in ("accepted", "scheduled", "queued", "sending", "sent")},
    "delivered": _status("delivered", "delivered"),
    "read": _status("read", "delivered", engagement=Engagement.read),
    "undelivered, nobody knows why": _status("undelivered", "undelivered", "30008"),
    "undelivered, switched off": _status("undelivered", "undelivered", "30003"),
    "undelivered, does not exist": _status("undelivered", "undelivered", "30005", gone=Gone.hard_bounce),
    "undelivered, a landline": _status("undelivered", "undelivered", "30006", gone=Gone.hard_bounce),
    "failed, the queue overflowed": _status("failed", "undelivered", "30001"),
    "failed, opted out": _status("failed", "undelivered", "21610", gone=Gone.stop),
    "failed": _status("failed", "undelivered"),
    "canceled": _status("canceled", "undelivered"),
    "partially delivered": _status("partially_delivered", None),
    "a new one": _status("a_new_one", None),
    **{f"a reply, {word}": _reply(word, "stop") for word in sorted(twilio_webhooks.STOP)},
    **{f"a reply, {word}": _reply(word, "start") for word in sorted(twilio_webhooks.START)},
    "a reply, stop, badly typed": _reply(" Stop\n", "stop"),
    "a reply that Twilio understood": _reply("arrêt", "stop", OptOutType="STOP"),
    "a reply that Twilio understood, back again": _reply("stop", "start", OptOutType="START"),
    "a reply that asks for help": _reply("help", None, OptOutType="HELP"),
    "a reply in words": _reply("Please stop by tomorrow", None),
    "an empty reply": _reply("", None),
    "a reply over another channel": _reply("STOP", None, From=f"whatsapp:{_ADA}"),
    "nothing": Webhook(b"", []),
}

_HOSTILE = [
    b"MessageStatus=delivered",
    b"MessageStatus=&MessageSid=",
    b"MessageStatus=delivered&MessageSid=" + b"x" * 100_000,
    urlencode({"MessageStatus": "x" * 100_000, "MessageSid": SID, "ErrorCode": "y" * 100_000, "To": _ADA}).encode(),
    b"MessageStatus=a%00b&MessageSid=%00c&ErrorCode=%00&To=%00",
    b"MessageStatus=%ff%fe&MessageSid=%ed%a0%80&ErrorCode=%f0%9f",
    b"MessageStatus=sent&MessageStatus=delivered&MessageSid=a&MessageSid=b",
    b"Body=STOP&MessageSid=a&From=" + b"%2B" + b"1" * 100_000,
    b"Body=STOP&MessageSid=%00a&From=%2B1500555%00",
    b"\xff\xfe",
    b"&".join([b"a=b"] * 100_000),
    b"=" * 10_000,
    b"%" * 10_000,
    b'{"MessageStatus": "delivered"}',
]


def _mutants() -> Iterator[Mutant]:
    verdicts = set(Verdict) - {Verdict.gone}
    statuses = {(int(name[:3]), None) for name in _ANSWERS}
    for key in twilio.BY_STATUS.keys() | statuses:
        for wrong in verdicts - {twilio.verdict(key[0], None)}:
            yield twilio, "BY_STATUS", {**twilio.BY_STATUS, key: wrong}
    for code, right in twilio.BY_CODE.items():
        for wrong in verdicts - {right}:
            yield twilio, "BY_CODE", {**twilio.BY_CODE, code: wrong}
    for wrong in verdicts - {Verdict.next}:
        yield twilio, "BY_CLASS", {4: wrong}
    for name in ("BY_STATUS", "BY_CODE", "GONE"):
        yield from _without_one(twilio, name)
    for name in ("STATUSES", "GONE", "ENGAGEMENT"):
        yield from _without_one(twilio_webhooks, name)
    for module in (twilio, twilio_webhooks):
        for code, right in module.GONE.items():
            for gone in set(Gone) - {right}:
                yield module, "GONE", {**module.GONE, code: gone}
    for kind in (*twilio_webhooks.STATUSES, "partially_delivered", "a_new_one"):
        for status in {"sent", "delivered", "undelivered", None} - {twilio_webhooks.STATUSES.get(kind)}:
            yield twilio_webhooks, "STATUSES", {**twilio_webhooks.STATUSES, kind: status}
    for word in twilio_webhooks.STOP:
        yield twilio_webhooks, "STOP", twilio_webhooks.STOP - {word}
    for word in twilio_webhooks.START:
        yield twilio_webhooks, "START", twilio_webhooks.START - {word}


def _without_one(module: ModuleType, name: str) -> Iterator[Mutant]:
    table = getattr(module, name)
    for key in table:
        yield module, name, {other: value for other, value in table.items() if other != key}


TWILIO = Case(
    kind="twilio",
    channel=Channel.sms,
    settings={"account_sid": ACCOUNT_SID, "auth_token": _AUTH_TOKEN, "receipts_url": WEBHOOK_URL},
    secrets=[_AUTH_TOKEN],
    message=Message(
        reference=REFERENCE,
        to=_ADA,
        content=Content(text="Order 12345: thank you.\r\nIt is on its way & soon there, 100 %."),
        sender={"number": _SHOP},
        headers={},
    ),
    answers=_ANSWERS,
    webhooks=_WEBHOOKS,
    hostile=_HOSTILE,
    sign=_signed(_AUTH_TOKEN),
    sign_as_stranger=_signed(_STRANGERS),
    forgeries=_forged,
    mutants=_mutants,
    vectors=_vectors,
    undated=True,
)

"""Twilio's Messages: sending, the list, status callbacks, and what people reply."""

import base64
import binascii
import hashlib
import hmac
import math
import random
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any, Final, Literal
from urllib.parse import urlencode

import aiohttp
import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from tidings.domain.segments import count
from tidings.sandbox.faults import Fault, FaultKind
from tidings.sandbox.signing import SigningKey
from tidings.sandbox.standin import LIVE, TEST, Account, Answer, Fate, Look, Message, News, Parcel, Taken
from tidings.sandbox.twilio_rules import INVALID, MORE, OPTED_OUT, START, STOP, UNREACHABLE, Complaint, Order, read

MESSAGES: Final = "/2010-04-01/Accounts/{account}/Messages.json"
ONE: Final = "/2010-04-01/Accounts/{account}/Messages/{sid}.json"
OWN: Final = "/2010-04-01/Accounts/{account}.json"
REPLIES: Final = "/_replies"
OUR_NUMBER: Final = "+15005550006"
MOST_LISTED: Final = 10_000
_JSON: Final = "application/json"
_FORM: Final = "application/x-www-form-urlencoded"
_SID: Final = re.compile(r"AC[0-9a-fA-F]{32}")
_GARBAGE: Final = b"<html><head><title>Welcome</title></head><body><h1>It works!</h1></body></html>"
_CODES: Final = {401: 20003, 405: 20004}
_WORDS: Final = {
    401: "Authenticate",
    403: "Forbidden",
    404: "The requested resource was not found",
    405: "Method not allowed",
    413: "Request entity too large",
    429: "Too Many Requests",
    500: "An internal server error has occurred",
    503: "Service unavailable",
}
_STATUS: Final = {
    FaultKind.refuse: 400,
    FaultKind.bad_address: 400,
    FaultKind.unauthorized: 401,
    FaultKind.rate_limit: 429,
    FaultKind.error: 503,
    FaultKind.accept_then_error: 500,
    FaultKind.garbage: 201,
}
_COMPLAINTS: Final = {FaultKind.refuse: UNREACHABLE, FaultKind.bad_address: INVALID}
_TOLD: Final[Mapping[Fate, Sequence[Mapping[str, str]]]] = {
    Fate.delivered: ({"MessageStatus": "sent"}, {"MessageStatus": "delivered"}),
    Fate.bounced: ({"MessageStatus": "sent"}, {"MessageStatus": "undelivered", "ErrorCode": "30005"}),
}
"""The callbacks of each fate; who unsubscribes replies STOP; Twilio hears of nothing else."""


class Reply(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"from_": "from"}):
    """What a person writes back, to the live customer or the test one."""

    from_: str
    body: str
    to: str = OUR_NUMBER
    customer: Literal["live", "test"] = LIVE


class Twilio:
    """The stand-in for Twilio and its two customers. A number that has replied STOP takes nothing until it replies
    START, as at the real one."""

    name: str = "twilio"
    channel: str = "sms"
    paths: Sequence[str] = (MESSAGES,)
    limit_bytes: int = 1 << 20
    reports: bool = True

    def __init__(self, account: Account) -> None:
        self._account = account
        self._made: dict[str, dict[str, Any]] = {}
        self._opted_out: set[tuple[str, str]] = set()

    def read(self, request: Request, body: bytes) -> Taken | Answer:
        account = request.path_params["account"]
        wrong = self._unwelcome(request, account)
        order = wrong or read(body)
        if isinstance(order, Complaint):
            return _refused(order)
        if (self._customer(account), order.to) in self._opted_out:
            return _refused(OPTED_OUT)
        made = _resource(order, account)
        self._keep(made)
        message = Message(
            recipients=(order.to,),
            reference=order.reference,
            content=_content(order),
            message_id=made["sid"],
            echoed={"AccountSid": account, "From": made["from"] or OUR_NUMBER, "To": order.to},
            callback=order.callback,
            size=len(body),
        )
        return Taken((message,), Answer(201, msgspec.json.encode(made), _JSON))

    def error(self, status: int) -> Answer:
        return _refused(Complaint(status, _CODES.get(status, 20_000 + status), _WORDS.get(status, f"error {status}")))

    def misbehave(self, fault: Fault) -> Answer:
        status, complaint = fault.status or _STATUS[fault.fault], _COMPLAINTS.get(fault.fault)
        if fault.fault == FaultKind.garbage:
            return Answer(status, _GARBAGE, "text/html")
        answer = _refused(msgspec.structs.replace(complaint, status=status)) if complaint else self.error(status)
        wait = {} if fault.retry_after_s is None else {"Retry-After": str(math.ceil(fault.retry_after_s))}
        return msgspec.structs.replace(answer, headers=wait)

    @staticmethod
    def customer(url: str, key: SigningKey, who: str) -> Mapping[str, str]:
        return {"url": url, "account_sid": _account_sid(key, who), "auth_token": _auth_token(key, who)}

    def account(self) -> Mapping[str, Look]:
        return {OWN: self._own}

    def routes(self) -> Sequence[BaseRoute]:
        return [Route(MESSAGES, self._list), Route(ONE, self._one), Route(REPLIES, self._reply, methods=["POST"])]

    def webhooks(self, news: Sequence[News], *, shuffle: bool) -> Sequence[Parcel]:
        """A call for each status of each message."""
        parcels = [parcel for item in news for parcel in self._parcels(item)]
        if shuffle:
            random.shuffle(parcels)
        return parcels

    def _parcels(self, news: News) -> Iterator[Parcel]:
        message = news.message
        for step in _TOLD.get(news.fate, ()):
            self._note(message.message_id, step, news.at)
            status = {"SmsSid": message.message_id, "SmsStatus": step["MessageStatus"], "ApiVersion": "2010-04-01"}
            form = {**message.echoed, "MessageSid": message.message_id, **status, **step}
            if message.callback is not None:
                yield self._parcel(message.callback, form)
        if news.fate == Fate.unsubscribed:
            sid = "SM" + hashlib.sha256(message.message_id.encode()).hexdigest()[:32]
            to, from_, who = (message.echoed[name] for name in ("To", "From", "AccountSid"))
            yield from self._said(Reply(to, "STOP", from_, self._customer(who)), sid)

    def _said(self, reply: Reply, sid: str) -> Iterator[Parcel]:
        """Nothing where the customer has no address for it."""
        word, who = reply.body.strip().upper(), (reply.customer, reply.from_)
        if word in STOP:
            self._opted_out.add(who)
        elif word in START:
            self._opted_out.discard(who)
        url = self._account.callback(reply.customer)
        form = {"MessageSid": sid, "SmsSid": sid, "SmsMessageSid": sid, "SmsStatus": "received", "NumMedia": "0"}
        form |= {"AccountSid": _account_sid(self._account.key, reply.customer), "ApiVersion": "2010-04-01"}
        if url is not None:
            yield self._parcel(url, {**form, "From": reply.from_, "To": reply.to, "Body": reply.body})

    def _parcel(self, url: str, form: Mapping[str, str]) -> Parcel:
        token = self._account.api_key or _auth_token(self._account.key, self._customer(form["AccountSid"]))
        covered = url + "".join(name + value for name, value in sorted(form.items()))
        signature = base64.b64encode(hmac.digest(token.encode(), covered.encode(), "sha1")).decode()
        return Parcel(url, {"Content-Type": _FORM, "X-Twilio-Signature": signature}, urlencode(form).encode())

    def _customer(self, account_sid: str) -> Literal["live", "test"]:
        return TEST if account_sid == _account_sid(self._account.key, TEST) else LIVE

    def _unwelcome(self, request: Request, account: str) -> Complaint | None:
        """What turns a caller away before its request is read."""
        user, password = _basic(request.headers.get("authorization", ""))
        known = password and (user == account or user.startswith("SK"))
        expected = self._account.api_key
        if not known or (expected is not None and not secrets.compare_digest(password.encode(), expected.encode())):
            return Complaint(401, 20003, _WORDS[401])
        return None if _SID.fullmatch(account) else Complaint(404, 20404, _WORDS[404])

    def _keep(self, made: dict[str, Any]) -> None:
        self._made[made["sid"]] = made
        if len(self._made) > MOST_LISTED:
            self._made.pop(next(iter(self._made)))

    def _note(self, sid: str, step: Mapping[str, str], at: datetime) -> None:
        if made := self._made.get(sid):
            code = step.get("ErrorCode")
            made |= {"status": step["MessageStatus"], "error_code": code and int(code)}
            made |= {"date_sent": made["date_sent"] or format_datetime(at), "date_updated": format_datetime(at)}

    def _own(self, request: Request) -> Answer:
        """The account. Keys do not see it, only the token does."""
        account = request.path_params["account"]
        if wrong := self._unwelcome(request, account):
            return _refused(wrong)
        user, token = _basic(request.headers["authorization"])
        if user != account:
            return _refused(Complaint(401, 20003, "Authentication Error - invalid username"))
        about = {"sid": account, "auth_token": token, "friendly_name": "Sandbox", "status": "active", "type": "Full"}
        uri = OWN.format(account=account)
        return Answer(200, msgspec.json.encode({**about, "owner_account_sid": account, "uri": uri}), _JSON)

    async def _list(self, request: Request) -> Response:
        """The newest first, by pages."""
        account, query = request.path_params["account"], request.query_params
        if wrong := self._unwelcome(request, account):
            return _response(_refused(wrong))
        size, page = min(_number(query, "PageSize", 50), 1000), _number(query, "Page", 0)
        found = [one for one in reversed(self._made.values()) if one["account_sid"] == account and _asked(one, query)]
        shown = found[page * size : (page + 1) * size]
        uri, more = MESSAGES.format(account=account), len(found) > (page + 1) * size
        next_ = f"{uri}?{urlencode({**query, 'Page': page + 1})}" if more else None
        listed = {"messages": shown, "page": page, "page_size": size, "next_page_uri": next_, "uri": uri}
        return _response(Answer(200, msgspec.json.encode(listed), _JSON))

    async def _one(self, request: Request) -> Response:
        account = request.path_params["account"]
        made = self._made.get(request.path_params["sid"])
        if wrong := self._unwelcome(request, account):
            return _response(_refused(wrong))
        if made is None or made["account_sid"] != account:
            return _response(self.error(404))
        return _response(Answer(200, msgspec.json.encode(made), _JSON))

    async def _reply(self, request: Request) -> Response:
        """A person replies. Answers with the statuses that the customer's webhook gave, none without one."""
        try:
            reply = msgspec.json.decode(await request.body(), type=Reply)
        except (msgspec.MsgspecError, UnicodeDecodeError) as fault:
            return Response(str(fault), 422, media_type="text/plain")
        statuses = list[int]()
        try:
            async with aiohttp.ClientSession() as session:
                for parcel in self._said(reply, "SM" + secrets.token_hex(16)):
                    async with session.post(parcel.url, data=parcel.body, headers=parcel.headers) as answer:
                        statuses.append(answer.status)
        except (aiohttp.ClientError, OSError) as fault:
            return Response(str(fault), 502, media_type="text/plain")
        return Response(msgspec.json.encode({"answered": statuses}), media_type=_JSON)


def _account_sid(key: SigningKey, who: str) -> str:
    return "AC" + key.secret(f"twilio account {who}")


def _auth_token(key: SigningKey, who: str) -> str:
    return f"{key.secret(f'twilio token {who}')}-{who}"


def _basic(authorization: str) -> tuple[str, str]:
    """User and password, both empty where there are none."""
    scheme, _, given = authorization.partition(" ")
    try:
        plain = base64.b64decode(given, validate=True).decode() if scheme.lower() == "basic" else ""
    except (binascii.Error, UnicodeDecodeError):
        plain = ""
    user, _, password = plain.partition(":")
    return user, password


def _resource(order: Order, account: str) -> dict[str, Any]:
    """The message as Twilio shows it. A messaging service has neither chosen a number yet nor counted segments."""
    now, sid = format_datetime(datetime.now(UTC)), "SM" + secrets.token_hex(16)
    at_service = order.service is not None
    uri = f"/2010-04-01/Accounts/{account}/Messages/{sid}"
    return {
        "account_sid": account,
        "api_version": "2010-04-01",
        "body": order.body,
        "date_created": now,
        "date_sent": None,
        "date_updated": now,
        "direction": "outbound-api",
        "error_code": None,
        "error_message": None,
        "from": order.sender,
        "messaging_service_sid": order.service,
        "num_media": "0",
        "num_segments": "0" if at_service else str(count(order.body).segments),
        "price": None,
        "price_unit": "USD",
        "sid": sid,
        "status": "accepted" if at_service else "queued",
        "subresource_uris": {"media": f"{uri}/Media.json"},
        "to": order.to,
        "uri": f"{uri}.json",
    }


def _content(order: Order) -> dict[str, object]:
    """What the page and the ledger show."""
    counted = count(order.body)
    return {
        "from": order.sender or order.service,
        "text": order.body,
        "segments": counted.segments,
        "encoding": counted.encoding.name,
    }


def _asked(made: Mapping[str, Any], query: Mapping[str, str]) -> bool:
    """Whether the filters of a list let it through. By date, only what has been sent already."""
    sent_on = made["date_sent"] and datetime.strptime(made["date_sent"], "%a, %d %b %Y %H:%M:%S %z").date().isoformat()
    return (
        query.get("To", made["to"]) == made["to"]
        and query.get("From", made["from"]) == made["from"]
        and ("DateSent" not in query or sent_on == query["DateSent"])
        and ("DateSent>" not in query or (sent_on is not None and sent_on >= query["DateSent>"][:10]))
        and ("DateSent<" not in query or (sent_on is not None and sent_on <= query["DateSent<"][:10]))
    )


def _number(query: Mapping[str, str], name: str, usual: int) -> int:
    given = query.get(name, "")
    return int(given) if given.isdecimal() and len(given) < 10 else usual


def _refused(wrong: Complaint) -> Answer:
    words = {"code": wrong.code, "message": wrong.message, "more_info": f"{MORE}{wrong.code}", "status": wrong.status}
    return Answer(wrong.status, msgspec.json.encode(words), _JSON)


def _response(answer: Answer) -> Response:
    return Response(answer.body, answer.status, answer.headers, answer.media_type)

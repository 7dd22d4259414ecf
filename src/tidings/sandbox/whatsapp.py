"""WhatsApp's Cloud API: sending, the 24 hours in which text may go, signed webhooks, and what people write."""

import hmac
import math
import random
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal

import aiohttp
import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from tidings.sandbox.faults import Fault, FaultKind
from tidings.sandbox.signing import SigningKey
from tidings.sandbox.standin import LIVE, TEST, Account, Answer, Fate, Look, Message, News, Parcel, Taken
from tidings.sandbox.whatsapp_rules import (
    BAD_TOKEN,
    CLOSED,
    NO_TEMPLATE,
    UNDELIVERABLE,
    Complaint,
    Order,
    read,
)

NUMBER: Final = "/{version}/{number:int}"
REPLIES: Final = "/_replies"
WINDOW_S: Final = 24 * 3600
SIGNATURE: Final = "X-Hub-Signature-256"
USAGE: Final = "x-business-use-case-usage"
OUR_NUMBER_ID: Final = "106540352242922"
DISPLAYED: Final = "15550783881"
_JSON: Final = "application/json"
_GARBAGE: Final = b"<html><head><title>Welcome</title></head><body><h1>It works!</h1></body></html>"
_ERRORS: Final = {
    401: (190, "Invalid OAuth access token"),
    403: (10, "Application does not have permission for this action"),
    404: (100, "Unsupported request"),
    405: (100, "Unsupported method"),
    413: (100, "The request is too large"),
    429: (130429, "Rate limit hit"),
    500: (131000, "Something went wrong"),
    503: (2, "Service temporarily unavailable"),
}
_STATUS: Final = {
    FaultKind.refuse: 400,
    FaultKind.bad_address: 400,
    FaultKind.unauthorized: 401,
    FaultKind.rate_limit: 429,
    FaultKind.error: 503,
    FaultKind.accept_then_error: 500,
    FaultKind.garbage: 200,
}
_COMPLAINTS: Final = {FaultKind.refuse: NO_TEMPLATE, FaultKind.bad_address: UNDELIVERABLE}
_FAILED: Final = {
    "code": UNDELIVERABLE.code,
    "title": UNDELIVERABLE.message,
    "message": UNDELIVERABLE.message,
    "error_data": {"details": UNDELIVERABLE.details},
    "href": "https://developers.facebook.com/docs/whatsapp/cloud-api/support/error-codes/",
}
_TOLD: Final[Mapping[Fate, Sequence[Mapping[str, object]]]] = {
    Fate.delivered: ({"status": "sent"}, {"status": "delivered"}),
    Fate.bounced: (
        {"status": "sent"},
        {"status": "failed", "errors": [_FAILED]},
    ),
    Fate.opened: ({"status": "read"},),
}
"""The statuses of each fate; who unsubscribes does so in WhatsApp itself; of anything else WhatsApp hears nothing."""

Who = Literal["live", "test"]


class Reply(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"from_": "from"}):
    """What a person writes, to the live customer or the test one: for 24 hours they may be answered in text."""

    from_: str
    body: str
    to: str = OUR_NUMBER_ID
    customer: Who = LIVE


class WhatsApp:
    """The stand-in for WhatsApp and its two customers."""

    name: str = "whatsapp"
    channel: str = "whatsapp"
    paths: Sequence[str] = ("/{version}/{number:int}/messages",)
    limit_bytes: int = 1 << 20
    reports: bool = True

    def __init__(self, account: Account) -> None:
        self._account = account
        self._written_s: dict[tuple[Who, str], float] = {}

    def read(self, request: Request, body: bytes) -> Taken | Answer:
        token = _bearer(request)
        if not self._lets_in(token):
            return _refused(BAD_TOKEN)
        order, who = read(body), _who(token)
        if isinstance(order, Complaint):
            return _refused(order)
        if order.type == "text" and not self._is_open(who, order.number):
            return _refused(CLOSED)
        message_id = f"wamid.{secrets.token_urlsafe(32)}"
        message = Message(
            recipients=(order.number,),
            reference=order.biz_opaque_callback_data,
            content=order.content(str(request.path_params["number"])),
            message_id=message_id,
            echoed={"number": str(request.path_params["number"]), "customer": who},
            callback=self._account.callback(token),
            size=len(body),
        )
        return Taken((message,), Answer(200, msgspec.json.encode(_taken(order, message_id)), _JSON))

    def error(self, status: int) -> Answer:
        code, words = _ERRORS.get(status, (1, f"error {status}"))
        return _refused(Complaint(status, code, words))

    def misbehave(self, fault: Fault) -> Answer:
        status, complaint = fault.status or _STATUS[fault.fault], _COMPLAINTS.get(fault.fault)
        if fault.fault == FaultKind.garbage:
            return Answer(status, _GARBAGE, "text/html")
        answer = _refused(msgspec.structs.replace(complaint, status=status)) if complaint else self.error(status)
        wait = {} if fault.retry_after_s is None else {"Retry-After": str(math.ceil(fault.retry_after_s))}
        return msgspec.structs.replace(answer, headers=wait | (_usage() if status == 429 else {}))

    @staticmethod
    def customer(url: str, key: SigningKey, who: str) -> Mapping[str, str]:
        return {
            "url": url,
            "token": f"EAA{key.secret(f'whatsapp token {who}')}-{who}",
            "app_secret": _app_secret(key, who),
            "verify_token": key.secret(f"whatsapp webhook {who}"),
        }

    def account(self) -> Mapping[str, Look]:
        return {NUMBER: self._number}

    def routes(self) -> Sequence[BaseRoute]:
        return [Route(REPLIES, self._reply, methods=["POST"])]

    def webhooks(self, news: Sequence[News], *, shuffle: bool) -> Sequence[Parcel]:
        """A call for each status of each message."""
        parcels = [parcel for item in news for parcel in self._parcels(item)]
        if shuffle:
            random.shuffle(parcels)
        return parcels

    def _parcels(self, news: News) -> Iterator[Parcel]:
        message, at = news.message, str(int(news.at.timestamp()))
        if message.callback is None:
            return
        to, who, number = message.recipients[0].removeprefix("+"), message.echoed["customer"], message.echoed["number"]
        echoed = {} if message.reference is None else {"biz_opaque_callback_data": message.reference}
        for step in _TOLD.get(news.fate, ()):
            status = {"id": message.message_id, "recipient_id": to, "timestamp": at, **step, **echoed}
            yield self._parcel(message.callback, who, number, {"contacts": _contacts(to), "statuses": [status]})
        if news.fate == Fate.unsubscribed:
            chosen = {"wa_id": to, "category": "marketing_messages", "value": "stop", "timestamp": at}
            value = {"contacts": _contacts(to), "user_preferences": [chosen]}
            yield self._parcel(message.callback, who, number, value)

    def _parcel(self, url: str, who: str, number: str, value: Mapping[str, object]) -> Parcel:
        metadata = {"display_phone_number": DISPLAYED, "phone_number_id": number}
        field = "user_preferences" if "user_preferences" in value else "messages"
        change = {"field": field, "value": {"messaging_product": "whatsapp", "metadata": metadata, **value}}
        call = {"object": "whatsapp_business_account", "entry": [{"id": "102290129340398", "changes": [change]}]}
        body = msgspec.json.encode(call)
        signature = "sha256=" + hmac.digest(_app_secret(self._account.key, who).encode(), body, "sha256").hex()
        return Parcel(url, {"Content-Type": _JSON, SIGNATURE: signature}, body)

    def _lets_in(self, token: str) -> bool:
        wanted = self._account.api_key
        return bool(token) and (wanted is None or secrets.compare_digest(token.encode(), wanted.encode()))

    def _number(self, request: Request) -> Answer:
        """Whatever number it is: the customer's own."""
        if not self._lets_in(_bearer(request)):
            return _refused(BAD_TOKEN)
        number = str(request.path_params["number"])
        about = {"id": number, "display_phone_number": DISPLAYED, "verified_name": "Sandbox", "quality_rating": "GREEN"}
        return Answer(200, msgspec.json.encode({**about, "code_verification_status": "VERIFIED"}), _JSON)

    def _is_open(self, who: Who, number: str) -> bool:
        return time.monotonic() - self._written_s.get((who, number), -math.inf) < WINDOW_S

    async def _reply(self, request: Request) -> Response:
        """A person writes. Answers with the status that the customer's webhook gave, none without one."""
        try:
            reply = msgspec.json.decode(await request.body(), type=Reply)
        except (msgspec.MsgspecError, UnicodeDecodeError) as fault:
            return Response(str(fault), 422, media_type="text/plain")
        self._written_s[reply.customer, reply.from_] = time.monotonic()
        url, statuses = self._account.callback(reply.customer), list[int]()
        if url is not None:
            value = {"contacts": _contacts(reply.from_.removeprefix("+")), "messages": [_written(reply)]}
            parcel = self._parcel(url, reply.customer, reply.to, value)
            try:
                async with (
                    aiohttp.ClientSession() as session,
                    session.post(parcel.url, data=parcel.body, headers=parcel.headers) as answer,
                ):
                    statuses.append(answer.status)
            except (aiohttp.ClientError, OSError) as fault:
                return Response(str(fault), 502, media_type="text/plain")
        return Response(msgspec.json.encode({"answered": statuses}), media_type=_JSON)


def _written(reply: Reply) -> dict[str, Any]:
    return {
        "id": f"wamid.{secrets.token_urlsafe(32)}",
        "from": reply.from_.removeprefix("+"),
        "timestamp": str(int(time.time())),
        "type": "text",
        "text": {"body": reply.body},
    }


def _contacts(number: str) -> list[dict[str, Any]]:
    return [{"wa_id": number, "profile": {"name": "Somebody"}}]


def _taken(order: Order, message_id: str) -> dict[str, Any]:
    return {
        "messaging_product": "whatsapp",
        "contacts": [{"input": order.to, "wa_id": order.number.removeprefix("+")}],
        "messages": [{"id": message_id, "message_status": "accepted"}],
    }


def _app_secret(key: SigningKey, who: str) -> str:
    return key.secret(f"whatsapp app {who}")


def _who(token: str) -> Who:
    return TEST if token.endswith(TEST) else LIVE


def _bearer(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _usage() -> dict[str, str]:
    """WhatsApp says here, in minutes, how long a business has to wait; 0 of them for a short burst."""
    usage = [{"type": "whatsapp", "call_count": 100, "estimated_time_to_regain_access": 0}]
    return {USAGE: msgspec.json.encode({"102290129340398": usage}).decode()}


def _refused(wrong: Complaint) -> Answer:
    error: dict[str, object] = {
        "message": f"(#{wrong.code}) {wrong.message}",
        "type": "OAuthException",
        "code": wrong.code,
        "fbtrace_id": secrets.token_urlsafe(8),
    }
    if wrong.details:
        error["error_data"] = {"messaging_product": "whatsapp", "details": wrong.details}
    return Answer(wrong.status, msgspec.json.encode({"error": error}), _JSON)

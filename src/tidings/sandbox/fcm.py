"""Firebase Cloud Messaging, HTTP v1, and the endpoint that its tokens come from. It has no webhooks."""

import math
import re
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import parse_qsl

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from tidings.sandbox.faults import Fault, FaultKind
from tidings.sandbox.google_accounts import TOKEN_PATH, Accounts, Denied, key_file
from tidings.sandbox.signing import SigningKey
from tidings.sandbox.standin import Account, Answer, Look, Message, News, Parcel, Taken

JSON: Final = "application/json; charset=UTF-8"
REFERENCE: Final = "ref"
DEAD: Final = "unregistered"
"""A registration token with this word in it belongs to an app that is no longer there."""
MOST_BYTES: Final = 4096
MOST_COLLAPSE_BYTES: Final = 64
_TOKEN: Final = re.compile(r"[A-Za-z0-9_:-]{1,4096}")
_RESERVED: Final = re.compile(r"from|message_type|gcm|(?:google|gcm\.notification)\..*")
_FCM_ERROR: Final = "type.googleapis.com/google.firebase.fcm.v1.FcmError"
_BAD_REQUEST: Final = "type.googleapis.com/google.rpc.BadRequest"
_GARBAGE: Final = b"<html><head><title>Welcome</title></head><body><h1>It works!</h1></body></html>"
_STATUSES: Final = {
    400: ("INVALID_ARGUMENT", "Request contains an invalid argument."),
    401: ("UNAUTHENTICATED", "Request had invalid authentication credentials. Expected OAuth 2 access token."),
    403: ("PERMISSION_DENIED", "Permission 'cloudmessaging.messages.create' denied on this resource."),
    404: ("NOT_FOUND", "Requested entity was not found."),
    405: ("METHOD_NOT_ALLOWED", "The request method is not supported for this resource."),
    413: ("INVALID_ARGUMENT", "Request payload size exceeds the limit."),
    429: ("RESOURCE_EXHAUSTED", "Quota exceeded for quota metric 'Send messages' of this project."),
    500: ("INTERNAL", "Internal error encountered."),
    503: ("UNAVAILABLE", "The service is currently unavailable."),
}
_CODES: Final = {429: "QUOTA_EXCEEDED", 500: "INTERNAL", 503: "UNAVAILABLE"}
_STATUS: Final = {
    FaultKind.refuse: 400,
    FaultKind.bad_address: 404,
    FaultKind.unauthorized: 401,
    FaultKind.rate_limit: 429,
    FaultKind.error: 503,
    FaultKind.accept_then_error: 500,
    FaultKind.garbage: 200,
}


class _Notification(msgspec.Struct, forbid_unknown_fields=True):
    title: str = ""
    body: str = ""
    image: str = ""


class _Apns(msgspec.Struct):
    headers: dict[str, str] = {}
    payload: dict[str, Any] = {}


class _Message(msgspec.Struct, forbid_unknown_fields=True):
    token: str = ""
    fid: str = ""
    topic: str = ""
    condition: str = ""
    notification: _Notification | None = None
    data: dict[str, str] = {}
    android: dict[str, Any] = {}
    apns: _Apns | None = None
    webpush: dict[str, Any] = {}
    fcm_options: dict[str, Any] = {}


class _Call(msgspec.Struct, forbid_unknown_fields=True):
    message: _Message
    validate_only: bool = False


class _Wrong(Exception):
    """What an answer says is wrong: ``code`` is FCM's own word, ``field`` where the fault lies."""

    def __init__(self, status: int, words: str = "", *, code: str = "", field: str = "") -> None:
        self.status, self.words, self.code, self.field = status, words, code, field
        super().__init__(words)


class Fcm:
    """The stand-in for one customer's projects."""

    name: str = "fcm"
    channel: str = "push"
    paths: Sequence[str] = ("/v1/projects/{project}/messages:send",)
    limit_bytes: int = 1 << 20
    reports: bool = False

    def __init__(self, account: Account) -> None:
        self._account = account
        self._accounts = Accounts(account.key)

    def read(self, request: Request, body: bytes) -> Taken | Answer:
        project = request.path_params["project"]
        try:
            self._let_in(request, project)
            call = _read(body)
            to = _target(call.message)
            _check(call.message)
        except _Wrong as wrong:
            return _refused(wrong)
        name = f"projects/{project}/messages/" + ("fake_message_id" if call.validate_only else _message_id())
        answer = Answer(200, msgspec.json.encode({"name": name}), JSON)
        return Taken(() if call.validate_only else (_message(call.message, to, name, len(body)),), answer)

    def error(self, status: int) -> Answer:
        return _refused(_Wrong(status, code=_CODES.get(status, "")))

    def misbehave(self, fault: Fault) -> Answer:
        status = fault.status or _STATUS[fault.fault]
        if fault.fault == FaultKind.garbage:
            return Answer(status, _GARBAGE, "text/html")
        if fault.fault == FaultKind.bad_address:
            return _refused(_Wrong(status, code="UNREGISTERED"))
        wait = {} if fault.retry_after_s is None else {"Retry-After": str(math.ceil(fault.retry_after_s))}
        return msgspec.structs.replace(self.error(status), headers=wait)

    def account(self) -> Mapping[str, Look]:
        """Nothing: who wants to know sends a message that is only validated."""
        return {}

    def routes(self) -> Sequence[BaseRoute]:
        return [Route(TOKEN_PATH, self._token, methods=["POST"])]

    @staticmethod
    def customer(url: str, key: SigningKey, who: str) -> Mapping[str, str]:
        return {"url": url, "service_account": key_file(url, key, who)}

    def webhooks(self, news: Sequence[News], *, shuffle: bool) -> Sequence[Parcel]:
        """None ever: FCM tells nothing afterwards."""
        return ()

    def _let_in(self, request: Request, project: str) -> None:
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        if self._account.api_key is not None and secrets.compare_digest(
            bearer.encode(), self._account.api_key.encode()
        ):
            return
        owner = self._accounts.project(bearer) if scheme.lower() == "bearer" else None
        if owner is None:
            raise _Wrong(401)
        if owner != project:
            raise _Wrong(403)

    async def _token(self, request: Request) -> Response:
        form = dict(parse_qsl((await request.body()).decode("latin-1")))
        try:
            granted = self._accounts.granted(form)
        except Denied as denied:
            wrong = {"error": denied.error, "error_description": denied.words}
            return Response(msgspec.json.encode(wrong), 400, media_type=JSON)
        return Response(msgspec.json.encode(granted), media_type=JSON)


def _read(body: bytes) -> _Call:
    try:
        return msgspec.convert(_snake(msgspec.json.decode(body)), _Call)
    except msgspec.ValidationError as fault:
        field = str(fault).rpartition("`$.")[2].rstrip("`") if "`$." in str(fault) else "message"
        raise _Wrong(400, f"Invalid JSON payload received. {fault}", field=field) from fault
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
        raise _Wrong(400, "Invalid JSON payload received. It cannot be parsed.") from fault


def _snake(call: object) -> object:
    """Both spellings of a name are taken; they differ in two of those that are read here."""
    if not isinstance(call, dict):
        return call
    named = {"validate_only" if name == "validateOnly" else name: value for name, value in call.items()}
    if isinstance(message := named.get("message"), dict):
        named["message"] = {"fcm_options" if name == "fcmOptions" else name: value for name, value in message.items()}
    return named


def _target(message: _Message) -> str:
    """Whom it goes to."""
    named = [value for value in (message.token, message.fid, message.topic, message.condition) if value]
    if not named:
        raise _Wrong(400, "Recipient of the message is not set.", code="INVALID_ARGUMENT", field="message")
    if len(named) > 1:
        raise _Wrong(400, "Invalid value (oneof), oneof field 'target' is already set.", field="message")
    if message.token and not _TOKEN.fullmatch(message.token):
        raise _Wrong(400, "The registration token is not a valid FCM registration token", code="INVALID_ARGUMENT")
    if DEAD in message.token:
        raise _Wrong(404, code="UNREGISTERED")
    return named[0]


def _check(message: _Message) -> None:
    if reserved := next(filter(_RESERVED.fullmatch, message.data), None):
        raise _Wrong(400, f"Invalid data payload key: {reserved}", code="INVALID_ARGUMENT", field="message.data")
    if sum(map(len, _payload(message))) > MOST_BYTES:
        raise _Wrong(400, "Android message is too big", code="INVALID_ARGUMENT", field="message")
    collapse_id = message.apns.headers.get("apns-collapse-id", "") if message.apns else ""
    if len(collapse_id.encode()) > MOST_COLLAPSE_BYTES:
        raise _Wrong(400, code="INVALID_ARGUMENT", field="message.apns.headers")


def _payload(message: _Message) -> Iterator[bytes]:
    """What counts against the limit: keys and values."""
    for part in (message.data, msgspec.structs.asdict(message.notification) if message.notification else {}):
        for name, value in part.items():
            yield from (name.encode(), value.encode()) if value else ()


def _message(message: _Message, to: str, name: str, size: int) -> Message:
    """What the page and the ledger show; fields without a value are left out."""
    shown = message.notification or _Notification()
    content = {
        "app": name.split("/")[1],
        "title": shown.title,
        "body": shown.body,
        "image": shown.image,
        "data": message.data,
        "android": message.android,
        "apns": msgspec.to_builtins(message.apns),
        "webpush": message.webpush,
    }
    return Message(
        recipients=(to,),
        reference=message.data.get(REFERENCE),
        content={name: value for name, value in content.items() if value},
        message_id=name,
        echoed={},
        callback=None,
        size=size,
    )


def _message_id() -> str:
    return f"0:{time.time_ns() // 1000}%{secrets.token_hex(8)}"


def _refused(wrong: _Wrong) -> Answer:
    status, words = _STATUSES.get(wrong.status, ("UNKNOWN", f"error {wrong.status}"))
    details: list[dict[str, object]] = []
    if wrong.code:
        details.append({"@type": _FCM_ERROR, "errorCode": wrong.code})
    if wrong.field:
        violation = {"field": wrong.field, "description": wrong.words or words}
        details.append({"@type": _BAD_REQUEST, "fieldViolations": [violation]})
    error = {"code": wrong.status, "message": wrong.words or words, "status": status, "details": details}
    return Answer(wrong.status, msgspec.json.encode({"error": error}), JSON)

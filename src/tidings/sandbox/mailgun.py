"""Mailgun, v3: messages by form, the events API, and webhooks whose signature is in the body."""

import base64
import hashlib
import hmac
import math
import random
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import formataddr, parseaddr
from typing import Any, Final, cast

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from tidings.sandbox.faults import Fault, FaultKind
from tidings.sandbox.mailgun_log import BadQuery, Log
from tidings.sandbox.mailgun_rules import Letter, read
from tidings.sandbox.signing import SigningKey
from tidings.sandbox.standin import Account, Answer, Fate, Look, Message, News, Parcel, Taken

JSON: Final = "application/json"
REFERENCE: Final = "ref"
DOMAIN: Final = "mg.example.com"
DOMAIN_PATHS: Final = ("/v3/domains/{domain}", "/v4/domains/{domain}")
"""The newer one is the one that is described; the older one is what libraries call."""
_SECRET: Final = "mailgun"  # noqa: S105, the name of a secret
_GARBAGE: Final = b"<html><head><title>Welcome</title></head><body><h1>It works!</h1></body></html>"
_WORDS: Final = {
    400: "Bad request",
    402: "Payment required",
    403: "Domain is not allowed to send: Your account is disabled",
    404: "Domain not found",
    405: "Method not allowed",
    413: "Request entity too large",
    500: "Internal Server Error",
    503: "Service Unavailable",
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
_ACCEPTED: Final[Mapping[str, object]] = {"event": "accepted", "log-level": "info", "method": "http"}
_BOUNCE: Final = "5.1.1 The email account that you tried to reach does not exist"
_CLIENT: Final = {"client-name": "Firefox", "client-type": "browser", "device-type": "desktop"}
_TOLD: Final[Mapping[Fate, Sequence[Mapping[str, object]]]] = {
    Fate.delivered: (
        _ACCEPTED,
        {"event": "delivered", "log-level": "info", "delivery-status": {"code": 250, "message": "OK", "attempt-no": 1}},
    ),
    Fate.bounced: (
        _ACCEPTED,
        {
            "event": "failed",
            "log-level": "error",
            "severity": "permanent",
            "reason": "bounce",
            "delivery-status": {"code": 550, "message": _BOUNCE, "description": "", "bounce-type": "hard"},
        },
    ),
    Fate.opened: ({"event": "opened", "log-level": "info", "ip": "127.0.0.1", "client-info": _CLIENT},),
    Fate.clicked: ({"event": "clicked", "log-level": "info", "url": "https://example.com/", "client-info": _CLIENT},),
    Fate.complained: ({"event": "complained", "log-level": "warn"},),
    Fate.unsubscribed: ({"event": "unsubscribed", "log-level": "info", "client-info": _CLIENT},),
}


class Mailgun:
    """The stand-in for one Mailgun account. Any domain is its own."""

    name: str = "mailgun"
    channel: str = "email"
    paths: Sequence[str] = ("/v3/{domain}/messages",)
    limit_bytes: int = 25 << 20
    reports: bool = True

    def __init__(self, account: Account) -> None:
        self._account = account
        self._log = Log()

    def read(self, request: Request, body: bytes) -> Taken | Answer:
        key = self._key(request)
        if key is None:
            return self.error(401)
        domain = request.path_params["domain"]
        if "." not in domain:
            return _said(404, f"Domain not found: {domain}")
        letter = read(request.headers.get("content-type", ""), body)
        if isinstance(letter, str):
            return _said(400, letter)
        message = _message(letter, domain, self._account.callback(key), len(body))
        answer = _said(200, "Queued. Thank you.", id=f"<{message.message_id}>")
        if letter.first("o:testmode") == "yes":
            return Taken((), answer)
        self._log.begin(domain, message.message_id, list(_events(message, (_ACCEPTED,), datetime.now(UTC))))
        return Taken((message,), answer)

    def error(self, status: int) -> Answer:
        return Answer(401, b"Forbidden", "text/plain") if status == 401 else _said(status, _WORDS.get(status, "error"))

    def misbehave(self, fault: Fault) -> Answer:
        status = fault.status or _STATUS[fault.fault]
        match fault.fault:
            case FaultKind.garbage:
                return Answer(status, _GARBAGE, "text/html")
            case FaultKind.bad_address:
                return _said(status, "to parameter is not a valid address. please check documentation")
            case FaultKind.rate_limit:
                wait_s = math.ceil(1 if fault.retry_after_s is None else fault.retry_after_s)
                limit = f"account-requests-per-sec limit exceeded, try again after {wait_s} seconds"
                return _said(status, f"Domain {DOMAIN} is not allowed to send: {limit}")
        wait = {} if fault.retry_after_s is None else {"Retry-After": str(math.ceil(fault.retry_after_s))}
        return msgspec.structs.replace(self.error(status), headers=wait)

    def account(self) -> Mapping[str, Look]:
        return dict.fromkeys(DOMAIN_PATHS, self._domain)

    def routes(self) -> Sequence[BaseRoute]:
        path = "/v3/{domain}/events"
        return [Route(path, self._find, methods=["GET"]), Route(path + "/{page}", self._find, methods=["GET"])]

    @staticmethod
    def customer(url: str, key: SigningKey, who: str) -> Mapping[str, str]:
        signing = key.secret(_SECRET)
        # Events are there at once, so that their absence proves something at once.
        return {"url": url, "api_key": f"key-{who}", "domain": DOMAIN, "webhook_signing_key": signing, "absence_s": "1"}

    def webhooks(self, news: Sequence[News], *, shuffle: bool) -> Sequence[Parcel]:
        """One event in each call."""
        parcels = [parcel for item in news for parcel in self._parcels(item)]
        if shuffle:
            random.shuffle(parcels)
        return parcels

    def _parcels(self, news: News) -> Iterator[Parcel]:
        message = news.message
        domain = str(message.content["domain"])
        for event in _events(message, _TOLD[news.fate], news.at):
            self._log.add(domain, message.message_id, event)
            if message.callback is not None:
                body = msgspec.json.encode({"signature": self._signature(), "event-data": event})
                yield Parcel(message.callback, {"Content-Type": JSON}, body)

    def _signature(self) -> Mapping[str, str]:
        timestamp, token = str(int(time.time())), secrets.token_hex(25)
        key = self._account.key.secret(_SECRET).encode()
        signed = hmac.new(key, f"{timestamp}{token}".encode(), hashlib.sha256).hexdigest()
        return {"timestamp": timestamp, "token": token, "signature": signed}

    def _key(self, request: Request) -> str | None:
        """The caller's key; None for one that is not welcome."""
        scheme, _, credential = request.headers.get("authorization", "").partition(" ")
        try:
            user, _, key = base64.b64decode(credential, validate=True).decode().partition(":")
        except ValueError:
            return None
        if scheme.lower() != "basic" or user != "api" or not key:
            return None
        expected = self._account.api_key
        welcome = expected is None or secrets.compare_digest(key.encode(), expected.encode())
        return key if welcome else None

    def _domain(self, request: Request) -> Answer:
        if self._key(request) is None:
            return self.error(401)
        name = request.path_params["domain"]
        if "." not in name:
            return self.error(404)
        about = {"name": name, "state": "active", "type": "custom", "smtp_login": f"postmaster@{name}"}
        records: Mapping[str, object] = {"sending_dns_records": [], "receiving_dns_records": []}
        return Answer(200, msgspec.json.encode({"domain": about, **records}), JSON)

    async def _find(self, request: Request) -> Response:
        if self._key(request) is None:
            return Response("Forbidden", 401)
        domain, page = request.path_params["domain"], request.path_params.get("page")
        try:
            items, next_, previous = self._log.page(domain, page or dict(request.query_params))
        except BadQuery as wrong:
            return Response(_said(400, str(wrong)).body, 400, media_type=JSON)
        base = f"{request.url.scheme}://{request.url.netloc}{request.scope.get('root_path', '')}/v3/{domain}/events"
        paging = {"next": f"{base}/{next_}", "previous": f"{base}/{previous}"}
        return Response(msgspec.json.encode({"items": items, "paging": paging}), media_type=JSON)


def _said(status: int, message: str, **more: str) -> Answer:
    return Answer(status, msgspec.json.encode({**more, "message": message}), JSON)


def _message(letter: Letter, domain: str, callback: str | None, size: int) -> Message:
    variables = letter.options("v:")
    return Message(
        recipients=tuple(letter.recipients),
        reference=variables.get(REFERENCE),
        content=_content(letter, domain),
        message_id=letter.message_id or f"{secrets.token_hex(8)}.{time.time():.0f}@{domain}",
        echoed=variables,
        callback=callback,
        size=size,
    )


def _content(letter: Letter, domain: str) -> dict[str, object]:
    """What the page and the ledger show; fields without a value are left out."""
    headers = letter.options("h:")
    name, email = parseaddr(letter.first("from") or "")
    reply_to = next((value for name, value in headers.items() if name.lower() == "reply-to"), None)
    content = {
        "from": {"email": email, "name": name},
        "domain": domain,
        "reply_to": reply_to,
        **{part: letter.first(part) for part in ("subject", "text", "html", "template")},
        "cc": letter.people("cc"),
        "bcc": letter.people("bcc"),
        "headers": headers,
        "variables": letter.options("v:"),
        "tags": letter.all("o:tag"),
        "attachments": letter.files,
    }
    return {field: value for field, value in content.items() if value}


def _events(message: Message, steps: Sequence[Mapping[str, object]], at: datetime) -> Iterator[dict[str, Any]]:
    """What is told of one message, for each of its recipients. The same message always makes the same event ids."""
    for i, email in enumerate(message.recipients):
        for step in steps:
            event_id = f"{step['event']}-{i}-{message.message_id}"
            yield {
                "id": base64.urlsafe_b64encode(hashlib.sha256(event_id.encode()).digest()[:16]).decode().rstrip("="),
                "timestamp": at.timestamp(),
                "recipient": email,
                "tags": message.content.get("tags", []),
                "user-variables": message.echoed,
                "flags": {"is-test-mode": False},
                "message": {"headers": _headers(message, email), "size": message.size},
                **step,
            }


def _headers(message: Message, to: str) -> dict[str, object]:
    sender, subject = cast(dict[str, str], message.content["from"]), message.content.get("subject", "")
    written = formataddr((sender["name"], sender["email"]))
    return {"message-id": message.message_id, "to": to, "from": written, "subject": subject}

"""SendGrid, v3 Mail Send and its signed event webhook."""

import base64
import math
import random
import secrets
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from tidings.sandbox.faults import Fault, FaultKind
from tidings.sandbox.sendgrid_rules import HELP, Complaint, Envelope, Letter, read
from tidings.sandbox.signing import SigningKey
from tidings.sandbox.standin import Account, Answer, Fate, Look, Message, News, Parcel, Taken

JSON: Final = "application/json"
REFERENCE: Final = "ref"
SIGNATURE: Final = "X-Twilio-Email-Event-Webhook-Signature"
TIMESTAMP: Final = "X-Twilio-Email-Event-Webhook-Timestamp"
KEY_PATH: Final = "/v3/user/webhooks/event/settings/signed"
SCOPES_PATH: Final = "/v3/scopes"
SCOPES: Final = ("mail.send", "sender_verification_eligible", "2fa_required")
"""What a key that is for sending may do."""
_NO_KEY: Final = Complaint("Permission denied, wrong credentials")
_GARBAGE: Final = b"<html><head><title>Welcome</title></head><body><h1>It works!</h1></body></html>"
_WORDS: Final = {
    400: "Bad Request",
    401: "The provided authorization grant is invalid, expired, or revoked",
    403: "access forbidden",
    404: "not found",
    405: "method not allowed",
    413: "content too large",
    415: "Content-Type should be application/json.",
    429: "too many requests",
    500: "internal server error",
    503: "service unavailable",
}
_STATUS: Final = {
    FaultKind.refuse: 400,
    FaultKind.bad_address: 400,
    FaultKind.unauthorized: 401,
    FaultKind.rate_limit: 429,
    FaultKind.error: 503,
    FaultKind.accept_then_error: 500,
    FaultKind.garbage: 202,
}
_TOLD: Final[Mapping[Fate, Sequence[Mapping[str, object]]]] = {
    Fate.delivered: (
        {"event": "processed"},
        {"event": "delivered", "response": "250 2.0.0 OK", "ip": "127.0.0.1", "tls": 1},
    ),
    Fate.bounced: (
        {"event": "processed"},
        {
            "event": "bounce",
            "type": "bounce",
            "reason": "550 5.1.1 The email account that you tried to reach does not exist",
            "status": "5.1.1",
            "bounce_classification": "Invalid Address",
            "ip": "127.0.0.1",
            "tls": 1,
        },
    ),
    Fate.opened: ({"event": "open", "useragent": "Mozilla/5.0", "ip": "127.0.0.1", "sg_machine_open": False},),
    Fate.clicked: ({"event": "click", "url": "https://example.com/", "useragent": "Mozilla/5.0", "ip": "127.0.0.1"},),
    Fate.complained: ({"event": "spamreport"},),
    Fate.unsubscribed: ({"event": "unsubscribe"},),
}


class SendGrid:
    """The stand-in for one SendGrid account."""

    name: str = "sendgrid"
    channel: str = "email"
    paths: Sequence[str] = ("/v3/mail/send",)
    limit_bytes: int = 30 << 20
    reports: bool = True

    def __init__(self, account: Account) -> None:
        self._account = account

    def read(self, request: Request, body: bytes) -> Taken | Answer:
        if (status := self._unwelcome(request)) is not None:
            return self.error(status) if request.headers.get("authorization") else _refused(401, _NO_KEY)
        letter = read(body)
        if isinstance(letter, list):
            return _refused(400, *letter)
        if letter.mail_settings.sandbox_mode.enable:
            return Taken((), Answer(200))
        message_id = secrets.token_urlsafe(16)
        callback = self._account.callback(request.headers["authorization"])
        messages = tuple(self._messages(letter, message_id, callback, len(body)))
        return Taken(messages, Answer(202, headers={"X-Message-Id": message_id}))

    def error(self, status: int) -> Answer:
        return _refused(status, Complaint(_WORDS.get(status, f"error {status}")))

    def misbehave(self, fault: Fault) -> Answer:
        status = fault.status or _STATUS[fault.fault]
        if fault.fault == FaultKind.garbage:
            return Answer(status, _GARBAGE, "text/html")
        if fault.fault == FaultKind.bad_address:
            field = "personalizations.0.to.0.email"
            return _refused(
                status, Complaint("Does not contain a valid address.", field, HELP + "message.personalizations.to")
            )
        return msgspec.structs.replace(self.error(status), headers=_wait(fault))

    def account(self) -> Mapping[str, Look]:
        return {SCOPES_PATH: self._granted}

    def routes(self) -> Sequence[BaseRoute]:
        return [Route(KEY_PATH, self._public_key), Route(KEY_PATH + "/{id}", self._public_key)]

    @staticmethod
    def customer(url: str, key: SigningKey, who: str) -> Mapping[str, str]:
        return {"url": url, "api_key": f"SG.{who}", "webhook_public_key": key.public_base64}

    def webhooks(self, news: Sequence[News], *, shuffle: bool) -> Sequence[Parcel]:
        by_callback = defaultdict[str, list[dict[str, object]]](list)
        for item in news:
            if item.message.callback is not None:
                by_callback[item.message.callback] += _events(item)
        return [self._parcel(url, events, shuffle=shuffle) for url, events in by_callback.items()]

    def _parcel(self, url: str, events: list[dict[str, object]], *, shuffle: bool) -> Parcel:
        if shuffle:
            random.shuffle(events)
        body = msgspec.json.encode(events) + b"\r\n"
        timestamp = str(int(time.time()))
        signature = self._account.key.sign(timestamp.encode() + body)
        return Parcel(url, {"Content-Type": JSON, SIGNATURE: signature, TIMESTAMP: timestamp}, body)

    def _unwelcome(self, request: Request) -> int | None:
        """The status that turns a caller away before its request is read; None for a welcome one."""
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            return 401
        if self._account.api_key is not None and not secrets.compare_digest(
            key.encode(), self._account.api_key.encode()
        ):
            return 401
        if request.method == "POST" and not request.headers.get("content-type", "").lower().startswith(JSON):
            return 415
        return None

    def _messages(self, letter: Letter, message_id: str, callback: str | None, size: int) -> Iterator[Message]:
        """One for each personalization: each is an envelope of its own, with its own reference."""
        for envelope in letter.personalizations:
            echoed = letter.custom_args | envelope.custom_args
            yield Message(
                recipients=tuple([person.email for person in envelope.to + envelope.cc + envelope.bcc]),
                reference=echoed.get(REFERENCE),
                content=_content(letter, envelope, echoed),
                message_id=message_id,
                echoed=echoed,
                callback=callback,
                size=size,
            )

    def _granted(self, request: Request) -> Answer:
        status = self._unwelcome(request)
        return Answer(200, msgspec.json.encode({"scopes": SCOPES}), JSON) if status is None else self.error(status)

    async def _public_key(self, request: Request) -> Response:
        if (status := self._unwelcome(request)) is not None:
            return Response(self.error(status).body, status, media_type=JSON)
        public = {"id": request.path_params.get("id", ""), "public_key": self._account.key.public_base64}
        return Response(msgspec.json.encode(public), media_type=JSON)


def _refused(status: int, *wrong: Complaint) -> Answer:
    return Answer(status, msgspec.json.encode({"errors": wrong}), JSON)


def _wait(fault: Fault) -> dict[str, str]:
    """How long to wait, in the words of the real one: a unix time with 429, seconds with anything else."""
    if fault.fault == FaultKind.rate_limit:
        reset_at = math.ceil(time.time() + (1 if fault.retry_after_s is None else fault.retry_after_s))
        return {"X-RateLimit-Limit": "600", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(reset_at)}
    return {} if fault.retry_after_s is None else {"Retry-After": str(math.ceil(fault.retry_after_s))}


def _content(letter: Letter, envelope: Envelope, custom_args: Mapping[str, str]) -> dict[str, object]:
    """What the page and the ledger show; fields without a value are left out."""
    parts = {part.type: part.value for part in letter.content}
    content = {
        "from": envelope.from_ or letter.from_,
        "reply_to": letter.reply_to or letter.reply_to_list,
        "subject": envelope.subject or letter.subject,
        "text": parts.get("text/plain"),
        "html": parts.get("text/html"),
        "cc": envelope.cc,
        "bcc": envelope.bcc,
        "headers": letter.headers | envelope.headers,
        "custom_args": custom_args,
        "categories": letter.categories,
        "template_id": letter.template_id,
        "dynamic_template_data": envelope.dynamic_template_data,
        "attachments": [attachment.filename for attachment in letter.attachments],
    }
    return {name: value for name, value in content.items() if value}


def _events(news: News) -> Iterator[dict[str, object]]:
    """What is told of one message, for each of its recipients. The same message always makes the same event ids."""
    at = int(news.at.timestamp())
    message_id = news.message.message_id
    for i, email in enumerate(news.message.recipients):
        for step in _TOLD[news.fate]:
            event_id = f"{step['event']}-{news.message.reference or i}-{i}-{message_id}"
            yield {
                **news.message.echoed,
                "email": email,
                "timestamp": at,
                "smtp-id": f"<{message_id}@geopod-ismtpd-1>",
                "sg_event_id": base64.urlsafe_b64encode(event_id.encode()).decode().rstrip("="),
                "sg_message_id": f"{message_id}.filterdrecv-sandbox-{i}.0",
                **step,
            }

"""SendGrid, v3: ``POST /v3/mail/send`` out, the signed Event Webhook back."""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from enum import Enum, auto
from math import ceil, inf
from typing import Final
from urllib.parse import urlsplit

import msgspec

from tidings.domain.catalog import Account
from tidings.domain.outcome import Outcome, Receipt, Refused, Sent, TryLater, TryNext, Unsure
from tidings.ports import Message
from tidings.providers.mail_headers import unsafe_field
from tidings.providers.sendgrid_events import Events
from tidings.providers.wire import DEFAULT_LIMITS, Answer, Fenced, Limits, NoAnswer, NotSent, Wire

API: Final = "https://api.sendgrid.com"
PATH: Final = "/v3/mail/send"
LONGEST_WAIT_S: Final = 300.0
_DETAIL_LENGTH: Final = 300
_MESSAGE_ID_LENGTH: Final = 128


class Verdict(Enum):
    """What a complete answer means: ``accept`` if it names a message id, ``refuse`` for good, ``pause`` the account,
    ``pace`` it for as long as it asks, ``next`` (not taken, elsewhere perhaps), ``unsure`` (it may have been taken)."""

    accept = auto()
    refuse = auto()
    pause = auto()
    pace = auto()
    next = auto()
    unsure = auto()


VERDICTS: Final[Mapping[tuple[int, str | None], Verdict]] = {
    (202, None): Verdict.accept,
    (301, None): Verdict.next,
    (302, None): Verdict.next,
    (307, None): Verdict.next,
    (308, None): Verdict.next,
    (400, None): Verdict.refuse,
    (401, None): Verdict.pause,
    (402, None): Verdict.pause,
    # A From address that is not verified is one sender's fault: pausing would stop every other sender of the account,
    # and nothing but a person can change the answer.
    (403, "from"): Verdict.refuse,
    (403, None): Verdict.pause,
    (404, None): Verdict.refuse,
    (405, None): Verdict.refuse,
    (413, None): Verdict.refuse,
    (422, None): Verdict.refuse,
    (429, None): Verdict.pace,
    (503, None): Verdict.next,
}
"""By status, and by the field that the first error names where that matters. Why: ADR 0002."""

BY_CLASS: Final[Mapping[int, Verdict]] = {4: Verdict.next}
"""What an answer that is not listed means, by the first digit of its status; ``unsure`` for all others."""


class _Address(msgspec.Struct, omit_defaults=True):
    email: str
    name: str | None = None


class _Part(msgspec.Struct):
    type: str
    value: str


class _Envelope(msgspec.Struct):
    to: tuple[_Address]
    custom_args: dict[str, str]


class _Letter(msgspec.Struct, omit_defaults=True, rename={"from_": "from"}):
    personalizations: tuple[_Envelope]
    from_: _Address
    subject: str
    content: Sequence[_Part]
    reply_to: _Address | None = None
    headers: Mapping[str, str] | None = None


class _Fault(msgspec.Struct):
    message: str = ""
    field: str | None = None


class _Faults(msgspec.Struct):
    errors: Sequence[_Fault] = ()


class SendGrid:
    """One account. Settings: ``api_key``, ``url`` (the API's), ``webhook_public_key`` (base64 DER; without it no
    receipt is believed), ``pause_s`` (after a refused key or credit used up), ``slow_down_s`` (after a 429 that does
    not say for how long), ``timeout_s`` of a call and ``connect_timeout_s`` of its connection alone, ``connections`` at
    once. Raises ValueError for what cannot be used, and never shows the key."""

    def __init__(self, account: Account) -> None:
        settings = account.settings
        if not settings.get("api_key"):
            raise ValueError(f"account {account.name!r}: the setting api_key is missing")
        url = urlsplit(settings.get("url") or API)
        self._secret = settings["api_key"]
        self._pause_s = _above_0(settings, "pause_s", 60)
        self._slow_down_s = _above_0(settings, "slow_down_s", 10)
        self._events = Events(settings.get("webhook_public_key"))
        limits = Limits(
            connections=ceil(_above_0(settings, "connections", DEFAULT_LIMITS.connections)),
            connect_s=_above_0(settings, "connect_timeout_s", DEFAULT_LIMITS.connect_s),
            total_s=_above_0(settings, "timeout_s", DEFAULT_LIMITS.total_s),
        )
        self._wire = Wire(f"{url.scheme}://{url.netloc}", limits=limits)
        self._head = self._wire.head(
            "POST",
            url.path.rstrip("/") + PATH,
            {"Authorization": f"Bearer {self._secret}", "Content-Type": "application/json", "User-Agent": "tidings"},
        )

    async def send(self, message: Message, may_write: Callable[[], bool]) -> Outcome:
        field = unsafe_field(message)
        if field is not None:
            return Refused("unsafe_header", field)
        match await self._wire.call(self._head, msgspec.json.encode(_letter(message)), may_write):
            case Answer() as answer:
                return self._outcome(answer)
            case NotSent(code=code, detail=detail):
                return TryNext(code, detail)
            case NoAnswer(code=code, detail=detail):
                return Unsure(code, detail)
            case Fenced() as fenced:
                return fenced

    def receipts(self, headers: Mapping[str, str], body: bytes) -> Sequence[Receipt] | None:
        return self._events.receipts(headers, body)

    async def look_up(self, reference: str, to: str, started_at: datetime) -> Outcome | None:
        """Always None: no search of SendGrid's takes a reference of ours."""
        return None

    async def close(self) -> None:
        self._wire.close()

    def _outcome(self, answer: Answer) -> Outcome:
        field, detail = self._fault(answer.body)
        code = f"http_{answer.status}"
        match verdict(answer.status, field):
            case Verdict.accept:
                return _accepted(answer)
            case Verdict.refuse:
                return Refused(code, detail)
            case Verdict.pause:
                return TryLater(code, detail, self._pause_s, account=True)
            case Verdict.pace:
                return TryLater(code, detail, asked_wait_s(answer) or self._slow_down_s, account=True)
            case Verdict.next:
                return TryNext(code, detail)
            case Verdict.unsure:
                return Unsure(code, detail)

    def _fault(self, body: bytes) -> tuple[str | None, str]:
        """The field that the first error names, and its words, without what must not be shown or stored."""
        if not body:
            return None, ""
        try:
            fault = next(iter(msgspec.json.decode(body, type=_Faults).errors), _Fault())
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None, "an answer that is not SendGrid's"
        words = f"{fault.field}: {fault.message}" if fault.field else fault.message
        shown = "".join(c for c in words.replace(self._secret, "***") if c.isprintable())
        return fault.field, shown[:_DETAIL_LENGTH]


def _above_0(settings: Mapping[str, str], name: str, usual: float) -> float:
    """Raises ValueError for what is not a number above 0."""
    number = float(settings.get(name, usual))
    if not 0 < number < inf:
        raise ValueError(f"{name} must be above 0")
    return number


def verdict(status: int, field: str | None) -> Verdict:
    """What a complete answer with this status means, whose first error names ``field``."""
    known = VERDICTS.get((status, field)) or VERDICTS.get((status, None))
    return known or BY_CLASS.get(status // 100, Verdict.unsure)


def asked_wait_s(answer: Answer) -> float | None:
    """How long the answer asks us to wait, between a second and five minutes; None when it does not say.

    ``X-RateLimit-Reset`` is an instant by the provider's clock, and so is ``Date``: their difference holds even where
    our clock is wrong.
    """
    try:
        reset = answer.header(b"x-ratelimit-reset")
        wait_s = int(reset) - _answered_at_s(answer) if reset else float(int(answer.header(b"retry-after") or b""))
    except ValueError:
        return None
    return min(max(wait_s, 1.0), LONGEST_WAIT_S)


def _answered_at_s(answer: Answer) -> float:
    date = (answer.header(b"date") or b"").decode("latin-1")
    try:
        return datetime.strptime(date, "%a, %d %b %Y %H:%M:%S GMT").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return time.time()


def _accepted(answer: Answer) -> Sent | Unsure:
    message_id = (answer.header(b"x-message-id") or b"").decode("latin-1")
    if not message_id.isascii() or not message_id.isprintable() or not 0 < len(message_id) <= _MESSAGE_ID_LENGTH:
        return Unsure("no_message_id", "accepted, but without an id that events could name")
    return Sent(message_id)


def _letter(message: Message) -> _Letter:
    content = message.content
    parts = (("text/plain", content.text), ("text/html", content.html))
    return _Letter(
        personalizations=(_Envelope((_Address(message.to),), {"ref": message.reference}),),
        from_=_Address(message.sender["email"], message.sender.get("name") or None),
        subject=content.subject or "",
        content=[_Part(type_, value) for type_, value in parts if value],
        reply_to=_Address(message.reply_to) if message.reply_to else None,
        headers=message.headers or None,
    )

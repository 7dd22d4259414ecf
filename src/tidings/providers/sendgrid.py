"""SendGrid, v3: ``POST /v3/mail/send`` out, the signed Event Webhook back."""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec

from tidings.domain.catalog import Account
from tidings.domain.outcome import Outcome, Receipt, Refused, Trouble
from tidings.ports import Message, WebhookCall
from tidings.providers.answers import (
    ByClass,
    Heard,
    Rests,
    Verdict,
    Verdicts,
    ask,
    bounded,
    judged,
    needed,
    outcome,
    retry_after_s,
    shown,
    wire_to,
)
from tidings.providers.credentials import Advice, answered, asked
from tidings.providers.mail_headers import unsafe_field
from tidings.providers.sendgrid_events import Events
from tidings.providers.wire import Answer

API: Final = "https://api.sendgrid.com"
PATH: Final = "/v3/mail/send"
SCOPES: Final = "/v3/scopes"
MAY_SEND: Final = "mail.send"


VERDICTS: Final[Verdicts] = {
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

BY_CLASS: Final[ByClass] = {4: Verdict.next}
"""What an answer that is not listed means, by the first digit of its status; ``unsure`` for all others."""

ADVICE: Final[Advice] = {
    (401, None): "the key is wrong or was revoked: make another at SendGrid, and give it to the account as `api_key`",
    (403, None): "SendGrid turns this key away: look at its permissions, and at the addresses that may use the account",
}


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


class _Granted(msgspec.Struct):
    scopes: Sequence[str]


class SendGrid:
    """One account. Settings: ``api_key``, ``url`` (the API's), ``webhook_public_key`` (base64 DER; without it no
    receipt is believed), ``pause_s`` (after a refused key or credit used up), ``slow_down_s`` (after a 429 that does
    not say for how long), ``timeout_s`` of a call and ``connect_timeout_s`` of its connection alone, ``connections`` at
    once. Raises ValueError for what cannot be used, and never shows the key."""

    def __init__(self, account: Account) -> None:
        settings = account.settings
        (self._secret,) = needed(settings, account.name, "api_key")
        self._rests = Rests.of(settings)
        self._events = Events(settings.get("webhook_public_key"))
        self._wire, prefix = wire_to(settings, API)
        authorization = {"Authorization": f"Bearer {self._secret}", "User-Agent": "tidings"}
        self._head = self._wire.head("POST", prefix + PATH, {**authorization, "Content-Type": "application/json"})
        self._scopes = self._wire.head("GET", prefix + SCOPES, authorization)

    async def send(self, message: Message, may_write: Callable[[], bool]) -> Outcome:
        field = unsafe_field(message)
        if field is not None:
            return Refused("unsafe_header", field)
        said = await ask(self._wire, self._head, msgspec.json.encode(_letter(message)), may_write)
        return self._outcome(said) if isinstance(said, Answer) else said

    def receipts(self, call: WebhookCall) -> Sequence[Receipt] | None:
        return self._events.receipts(call.headers, call.body)

    def challenge(self, query: Mapping[str, str]) -> str | None:
        """SendGrid asks nothing."""
        return None

    async def look_up(self, reference: str, to: str, started_at: datetime) -> Outcome | None:
        """Always None: no search of SendGrid's takes a reference of ours."""
        return None

    async def check(self, senders: Sequence[Mapping[str, str]]) -> Trouble | None:
        """Asks what the key may do."""
        granted = await asked(self._wire, self._scopes, _Granted, self._trouble)
        if isinstance(granted, Trouble):
            return granted
        advice = "give it the permission to send mail at SendGrid, or make another key"
        return None if MAY_SEND in granted.scopes else Trouble("the key may not send mail", advice)

    async def close(self) -> None:
        self._wire.close()

    def _outcome(self, answer: Answer) -> Outcome:
        field, detail = self._fault(answer.body)
        message_id = (answer.header(b"x-message-id") or b"").decode("latin-1")
        heard = Heard(f"http_{answer.status}", detail, message_id, asked_wait_s(answer))
        return outcome(verdict(answer.status, field), heard, self._rests)

    def _trouble(self, answer: Answer) -> Trouble:
        return answered(answer.status, self._fault(answer.body)[1], ADVICE)

    def _fault(self, body: bytes) -> tuple[str | None, str]:
        """The field that the first error names, and its words, without what must not be shown or stored."""
        if not body:
            return None, ""
        try:
            fault = next(iter(msgspec.json.decode(body, type=_Faults).errors), _Fault())
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None, "an answer that is not SendGrid's"
        words = f"{fault.field}: {fault.message}" if fault.field else fault.message
        return fault.field, shown(words, self._secret)


def verdict(status: int, field: str | None) -> Verdict:
    """What a complete answer with this status means, whose first error names ``field``."""
    return judged(VERDICTS, BY_CLASS, status, field)


def asked_wait_s(answer: Answer) -> float | None:
    """How long the answer asks us to wait, bounded; None when it does not say.

    ``X-RateLimit-Reset`` is an instant by the provider's clock, and so is ``Date``: their difference holds even where
    our clock is wrong.
    """
    reset = answer.header(b"x-ratelimit-reset")
    if not reset:
        return retry_after_s(answer)
    try:
        return bounded(int(reset) - _answered_at_s(answer))
    except ValueError:
        return None


def _answered_at_s(answer: Answer) -> float:
    date = (answer.header(b"date") or b"").decode("latin-1")
    try:
        return datetime.strptime(date, "%a, %d %b %Y %H:%M:%S GMT").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return time.time()


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

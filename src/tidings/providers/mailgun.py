"""Mailgun, v3: ``POST /v3/{domain}/messages`` out, signed webhooks back, and the events to look a message up."""

import base64
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urlencode

import msgspec

from tidings.domain.catalog import Account
from tidings.domain.outcome import Outcome, Receipt, Refused, Sent, Trouble, TryNext
from tidings.ports import Message, WebhookCall
from tidings.providers.answers import (
    ByClass,
    Heard,
    Rests,
    Verdict,
    Verdicts,
    above_0,
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
from tidings.providers.mail_headers import named, unsafe_field
from tidings.providers.mailgun_events import USUAL_AGE_S, Events
from tidings.providers.multipart import Multipart
from tidings.providers.wire import Answer

API: Final = "https://api.mailgun.net"
VERDICTS: Final[Verdicts] = {
    (200, None): Verdict.accept,
    (301, None): Verdict.next,
    (302, None): Verdict.next,
    (307, None): Verdict.next,
    (308, None): Verdict.next,
    (400, "domain"): Verdict.pause,
    (400, None): Verdict.refuse,
    (401, None): Verdict.pause,
    (402, None): Verdict.pause,
    # A sandbox domain reaches only those who agreed to it: this recipient has not, others may have.
    (403, "recipient"): Verdict.refuse,
    (403, None): Verdict.pause,
    # The domain is in the path: an unknown one is the account's fault, and so is the wrong region.
    (404, None): Verdict.pause,
    (405, None): Verdict.refuse,
    (413, None): Verdict.refuse,
    (420, None): Verdict.pace,
    (422, None): Verdict.refuse,
    (429, None): Verdict.pace,
    (503, None): Verdict.next,
}
"""By status, and by what the words are about where that matters. Why: docs/how-to/email.md."""

BY_CLASS: Final[ByClass] = {4: Verdict.next}
"""What an answer that is not listed means, by the first digit of its status; ``unsure`` for all others."""

ADVICE: Final[Advice] = {
    (401, None): "the key is wrong, was revoked, or is of the other region: correct `api_key` or `url`",
    (403, None): "the key may not use this domain: make another, and give it to the account as `api_key`",
    (404, None): "Mailgun knows no such domain here: correct `domain`, or `url` if it is in the other region",
}

_ABOUT: Final = (("authorized recipients", "recipient"), ("not allowed to send", "domain"), ("unverified", "domain"))
_DOMAIN: Final = re.compile(r"(?=.{1,253}$)[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+")
_SECRET: Final = re.compile(r"[!-~]+")
_WAIT: Final = re.compile(r"try again (?:after|in) (?:(\d{1,9}) seconds|(.{1,40}))")
_USUAL_ABSENCE_S: Final = 1800.0
_KEPT_S: Final = 20 * 3600.0
_CLOCKS: Final = timedelta(hours=1)


class _Said(msgspec.Struct):
    message: str = ""
    id: str = ""


class _Page(msgspec.Struct):
    items: Sequence[msgspec.Raw]


class _Domain(msgspec.Struct):
    state: str


class _Known(msgspec.Struct):
    domain: _Domain


class Mailgun:
    """One sending domain. Settings: ``api_key``, ``domain``, ``url`` (the API's; Europe has its own),
    ``webhook_signing_key`` (without it no receipt is believed), ``webhook_age_s`` (how old a signature may be),
    ``absence_s`` (after which the events are complete enough to say that a message was not taken), ``pause_s``,
    ``slow_down_s``, ``timeout_s``, ``connect_timeout_s`` and ``connections`` as for every account. Raises ValueError
    for what cannot be used, and never shows a key."""

    def __init__(self, account: Account) -> None:
        settings = account.settings
        key, self._domain = needed(settings, account.name, "api_key", "domain")
        if not _DOMAIN.fullmatch(self._domain) or not _SECRET.fullmatch(key):
            raise ValueError("the domain or the key has characters that cannot stand there")
        self._rests = Rests.of(settings)
        self._absence_s = above_0(settings, "absence_s", _USUAL_ABSENCE_S)
        signing_key = _signing_key(settings)
        self._events = Events(signing_key, above_0(settings, "webhook_age_s", USUAL_AGE_S))
        self._wire, prefix = wire_to(settings, API)
        self._form = Multipart()
        self._base = f"{prefix}/v3/{self._domain}"
        credential = base64.b64encode(f"api:{key}".encode()).decode()
        self._headers = {"Authorization": f"Basic {credential}", "User-Agent": "tidings"}
        self._hidden = [secret for secret in (key, credential, signing_key) if secret]
        head = self._headers | {"Content-Type": self._form.content_type}
        self._head = self._wire.head("POST", f"{self._base}/messages", head)
        self._known = self._wire.head("GET", f"{prefix}/v4/domains/{self._domain}", self._headers)

    async def send(self, message: Message, may_write: Callable[[], bool]) -> Outcome:
        field = unsafe_field(message)
        if field is not None:
            return Refused("unsafe_header", field)
        body = self._form.body(self._fields(message))
        said = await ask(self._wire, self._head, body, may_write)
        return self._outcome(said) if isinstance(said, Answer) else said

    def receipts(self, call: WebhookCall) -> Sequence[Receipt] | None:
        return self._events.receipts(call.body)

    def challenge(self, query: Mapping[str, str]) -> str | None:
        """Mailgun asks nothing."""
        return None

    async def look_up(self, reference: str, to: str, started_at: datetime) -> Outcome | None:
        """By the Message-Id, which is made of the reference. An event proves that the message was taken. None proves
        the contrary only after ``absence_s``, because events come late, and not after a day, because they are kept for
        no longer on the smallest plan."""
        message_id = f"{reference}@{self._domain}"
        page = await self._page(message_id, started_at - _CLOCKS)
        if page is None:
            return None
        if page.items:
            return Sent(message_id, "look_up")
        age_s = (datetime.now(UTC) - started_at).total_seconds()
        absent = TryNext("absent", "the provider knows of no such message")
        return absent if self._absence_s <= age_s <= _KEPT_S else None

    async def check(self, senders: Sequence[Mapping[str, str]]) -> Trouble | None:
        """Asks for the domain. A key that is for sending alone may not; such a one is known by an empty message, which
        is refused for being empty and for nothing else."""
        known = await asked(self._wire, self._known, _Known, self._trouble)
        if isinstance(known, _Known):
            state = shown(known.domain.state, *self._hidden)
            advice = "finish its setup at Mailgun (DNS records), or settle there what it was disabled for"
            return None if state == "active" else Trouble(f"the domain is {state}", advice)
        return known if known.away or not await self._may_send() else None

    async def close(self) -> None:
        self._wire.close()

    async def _may_send(self) -> bool:
        said = await ask(self._wire, self._head, self._form.body([("o:testmode", "yes")]), lambda: True)
        return isinstance(said, Answer) and said.status == 400 and "parameter" in _said(said.body).message

    async def _page(self, message_id: str, begin_at: datetime) -> _Page | None:
        query = {"message-id": message_id, "begin": int(begin_at.timestamp()), "ascending": "yes", "limit": 1}
        head = self._wire.head("GET", f"{self._base}/events?{urlencode(query)}", self._headers)
        said = await ask(self._wire, head, b"", lambda: True)
        if not isinstance(said, Answer) or said.status != 200:
            return None
        try:
            return msgspec.json.decode(said.body, type=_Page)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None

    def _fields(self, message: Message) -> Iterator[tuple[str, str]]:
        content = message.content
        yield "from", named(message.sender["email"], message.sender.get("name"))
        yield "to", message.to
        yield "subject", content.subject or ""
        for part, body in (("text", content.text), ("html", content.html)):
            if body:
                yield part, body
        yield "v:ref", message.reference
        yield "o:suppress-headers", "X-Mailgun-Variables"  # else the recipient sees our variables
        yield "h:Message-Id", f"<{message.reference}@{self._domain}>"
        if message.reply_to:
            yield "h:Reply-To", message.reply_to
        for name, value in message.headers.items():
            yield f"h:{name}", value

    def _outcome(self, answer: Answer) -> Outcome:
        said = _said(answer.body)
        detail = shown(said.message, *self._hidden)
        message_id = said.id.removeprefix("<").removesuffix(">")
        heard = Heard(f"http_{answer.status}", detail, message_id, asked_wait_s(answer, said.message))
        return outcome(verdict(answer.status, said.message), heard, self._rests)

    def _trouble(self, answer: Answer) -> Trouble:
        return answered(answer.status, shown(_said(answer.body).message, *self._hidden), ADVICE)


def verdict(status: int, words: str) -> Verdict:
    """What a complete answer with this status and these words means."""
    return judged(VERDICTS, BY_CLASS, status, next((about for part, about in _ABOUT if part in words), None))


def asked_wait_s(answer: Answer, words: str) -> float | None:
    """How long the answer asks us to wait, bounded; None when it does not say. Mailgun says it in words: for so many
    seconds, or until an instant by its own clock, which its ``Date`` shows."""
    asked = _WAIT.search(words)
    if asked is None:
        return retry_after_s(answer)
    if asked[1]:
        return bounded(int(asked[1]))
    until = _date(asked[2])
    now = _date((answer.header(b"date") or b"").decode("latin-1")) or datetime.now(UTC)
    return bounded((until - now).total_seconds()) if until else retry_after_s(answer)


def _date(words: str) -> datetime | None:
    """A date as mail has it; without a zone it is taken for UTC."""
    try:
        at = parsedate_to_datetime(words)
    except (ValueError, OverflowError):
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _said(body: bytes) -> _Said:
    try:
        return msgspec.json.decode(body, type=_Said)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _Said("" if body in (b"", b"Forbidden") else "an answer that is not Mailgun's")


def _signing_key(settings: Mapping[str, str]) -> str | None:
    key = settings.get("webhook_signing_key")
    if key and not _SECRET.fullmatch(key):
        raise ValueError("the webhook's signing key has characters that cannot stand there")
    return key

"""Firebase Cloud Messaging, HTTP v1: ``POST /v1/projects/{project}/messages:send`` out; nothing ever comes back."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Final
from urllib.parse import quote

import msgspec

from tidings.domain.catalog import Account
from tidings.domain.lanes import Channel
from tidings.domain.notification import Content
from tidings.domain.outcome import Gone, Outcome, Receipt, Trouble, TryLater
from tidings.ports import Message, WebhookCall
from tidings.providers.answers import (
    ByClass,
    Heard,
    Rests,
    Verdict,
    Verdicts,
    ask,
    judged,
    needed,
    outcome,
    retry_after_s,
    shown,
    wire_to,
)
from tidings.providers.credentials import FOREIGN, Advice, answered, asked
from tidings.providers.fcm_token import Token, Tokens, service_account
from tidings.providers.wire import Answer, Head

API: Final = "https://fcm.googleapis.com"
REFERENCE: Final = "ref"
SLOW_DOWN_S: Final = "60"
"""What Google asks for after a 429 that does not say."""
RENEW_S: Final = 1.0
"""How long the account rests after a token that had run out, until there is another."""
BAD_TOKEN: Final = "BAD_TOKEN"  # noqa: S105
"""Our word for the one INVALID_ARGUMENT that is not the message's fault but the registration token's."""
THIRD_PARTY: Final = "THIRD_PARTY_AUTH_ERROR"
PUSH_KEY: Final = "push_key"
"""The project's key for Apple's devices, or for browsers, is wrong: somebody has to put the right one there."""

VERDICTS: Final[Verdicts] = {
    (200, None): Verdict.accept,
    (301, None): Verdict.next,
    (302, None): Verdict.next,
    (307, None): Verdict.next,
    (308, None): Verdict.next,
    (400, BAD_TOKEN): Verdict.gone,
    (400, None): Verdict.refuse,
    (401, None): Verdict.pause,
    # The token is of another project's app. Not gone: with the wrong service account every token of every user would be
    # forgotten.
    (403, "SENDER_ID_MISMATCH"): Verdict.refuse,
    (403, None): Verdict.pause,
    (404, "UNREGISTERED"): Verdict.gone,
    (404, None): Verdict.pause,
    (405, None): Verdict.refuse,
    (413, None): Verdict.refuse,
    (429, None): Verdict.pace,
    (503, None): Verdict.next,
}
"""By status, and by FCM's own code where that matters. Why: ADR 0016."""

BY_CLASS: Final[ByClass] = {4: Verdict.next}
"""What an answer that is not listed means, by the first digit of its status; ``unsure`` for all others."""

ADVICE: Final[Advice] = {
    (401, None): "Google does not take its own token: is `url` the API of FCM?",
    (403, None): "enable the Firebase Cloud Messaging API in the project, and give the service account its role there",
    (404, None): "there is no such project: correct `project`, of the account or of the sender",
}
REHEARSAL: Final = b'{"validate_only":true,"message":{"topic":"tidings","notification":{"title":"Tidings"}}}'
"""Goes to nobody: it is checked as if it went, and so is who sends it."""


class _Notification(msgspec.Struct, omit_defaults=True):
    title: str | None = None
    body: str | None = None


class _Message(msgspec.Struct):
    token: str
    notification: _Notification
    data: Mapping[str, str]
    android: Mapping[str, Any]
    apns: Mapping[str, Any]
    webpush: Mapping[str, Any]


class _Call(msgspec.Struct):
    message: _Message


class _Sent(msgspec.Struct):
    name: str = ""


class _Violation(msgspec.Struct):
    description: str = ""


class _Detail(msgspec.Struct):
    """Of any type: each has some of these fields."""

    error_code: str = msgspec.field(name="errorCode", default="")
    violations: Sequence[_Violation] = msgspec.field(name="fieldViolations", default=())


class _Fault(msgspec.Struct):
    message: str = ""
    status: str = ""
    details: Sequence[_Detail] = ()


class _Faults(msgspec.Struct):
    error: _Fault = msgspec.field(default_factory=_Fault)


class Fcm:
    """One account. Settings: ``service_account`` (the JSON file that Google made for it), ``project`` (where it is not
    the service account's own), ``url`` (the API's; its token endpoint is then ``/token`` under it), ``pause_s`` (after
    a refused key), ``slow_down_s`` (after a 429 that does not say for how long), ``timeout_s`` of a call and
    ``connect_timeout_s`` of its connection alone, ``connections`` at once. Raises ValueError for what cannot be used,
    and never shows the key."""

    def __init__(self, account: Account) -> None:
        settings = {"slow_down_s": SLOW_DOWN_S, **account.settings}
        google = service_account(*needed(settings, account.name, "service_account"))
        self._project = settings.get("project") or google.project_id
        self._rests = Rests.of(settings)
        self._wire, self._prefix = wire_to(settings, API)
        self._tokens = Tokens(google, settings, (self._wire, self._prefix))
        self._heads: dict[str, Head] = {}
        self._heads_of = ""
        self._head(self._project, self._heads_of)  # raises for a project that cannot stand in a path

    async def send(self, message: Message, may_write: Callable[[], bool]) -> Outcome:
        token = await self._tokens.current()
        if not isinstance(token, Token):
            return token
        head = self._head(self._project_of(message.sender), token.bearer)
        said = await ask(self._wire, head, msgspec.json.encode(_call(message)), may_write)
        return self._outcome(said, token) if isinstance(said, Answer) else said

    def receipts(self, call: WebhookCall) -> Sequence[Receipt] | None:
        """FCM has no webhooks, so nobody is believed."""
        return None

    def challenge(self, query: Mapping[str, str]) -> str | None:
        return None

    async def look_up(self, reference: str, to: str, started_at: datetime) -> Outcome | None:
        """Always None: FCM keeps nothing that could be asked for."""
        return None

    async def check(self, senders: Sequence[Mapping[str, str]]) -> Trouble | None:
        """Gets a token, and rehearses a message for each project that is sent for."""
        token = await self._tokens.tried()
        if isinstance(token, Trouble):
            return token
        explain = partial(_trouble, token)
        for project in dict.fromkeys(map(self._project_of, senders or ({},))):
            sent = await asked(self._wire, self._head(project, token.bearer), _Sent, explain, REHEARSAL)
            if isinstance(sent, Trouble):
                return sent
            if not sent.name:
                return FOREIGN
        return None

    async def close(self) -> None:
        self._tokens.close()
        self._wire.close()

    def _project_of(self, sender: Mapping[str, str]) -> str:
        return quote(sender.get("project", ""), safe=":") or self._project

    def _head(self, project: str, bearer: str) -> Head:
        """Made once for each project and token."""
        if self._heads_of != bearer:
            self._heads_of, self._heads = bearer, {}
        if project not in self._heads:
            path = f"{self._prefix}/v1/projects/{project}/messages:send"
            headers = {"Authorization": f"Bearer {bearer}", "Content-Type": "application/json", "User-Agent": "tidings"}
            self._heads[project] = self._wire.head("POST", path, headers)
        return self._heads[project]

    def _outcome(self, answer: Answer, token: Token) -> Outcome:
        if answer.status == 200:
            return outcome(verdict(200, None), Heard("http_200", message_id=_name(answer.body)), self._rests)
        word, detail = _fault(answer.body, token.bearer)
        if (answer.status, word) == (401, THIRD_PARTY):  # those of Android need no such key
            return TryLater(PUSH_KEY, detail)
        code = f"http_{answer.status}"
        if answer.status == 401 and self._tokens.refused(token):
            return TryLater(code, detail, RENEW_S, account=True)
        heard = Heard(code, detail, wait_s=retry_after_s(answer), gone=Gone.unregistered)
        return outcome(verdict(answer.status, word), heard, self._rests)


def verdict(status: int, word: str | None) -> Verdict:
    """What a complete answer with this status and FCM's own code means."""
    return judged(VERDICTS, BY_CLASS, status, word)


def _trouble(token: Token, answer: Answer) -> Trouble:
    word, detail = _fault(answer.body, token.bearer)
    return answered(answer.status, detail, ADVICE, word)


def _call(message: Message) -> _Call:
    """A message that comes twice replaces itself on the device: both bear the delivery's id."""
    delivery = message.reference.partition("-")[0]
    content = message.content
    return _Call(
        _Message(
            token=message.to,
            notification=_Notification(content.title, content.body),
            data={**_data(content), REFERENCE: message.reference},
            android={"notification": {"tag": delivery}},
            apns={"headers": {"apns-collapse-id": delivery}},
            webpush={"headers": {"Topic": delivery}},
        )
    )


def _data(content: Content) -> Mapping[str, str]:
    """What the channel calls ``data.order`` is ``order`` to the app."""
    own = (content.channels or {}).get(Channel.push.name, {})
    return {part.partition(".")[2]: value for part, value in own.items()}


def _name(body: bytes) -> str:
    try:
        return msgspec.json.decode(body, type=_Sent).name
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ""


def _fault(body: bytes, *secrets: str) -> tuple[str, str]:
    """FCM's own code for it, and its words, without what must not be shown or stored."""
    if not body:
        return "", ""
    try:
        fault = msgspec.json.decode(body, type=_Faults).error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return "", "an answer that is not FCM's"
    word = next((detail.error_code for detail in fault.details if detail.error_code), "")
    told = [fault.message, *(one.description for detail in fault.details for one in detail.violations)]
    if word == "INVALID_ARGUMENT" and any("registration token" in text.lower() for text in told):
        word = BAD_TOKEN
    return word, shown(": ".join(filter(None, (word or fault.status, *told[:1]))), *secrets)

"""WhatsApp, Cloud API: ``POST /{version}/{phone-number-id}/messages`` out, signed webhooks back."""

import hmac
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

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
from tidings.providers.whatsapp_webhooks import GONE, Webhooks
from tidings.providers.wire import Answer, Head

API: Final = "https://graph.facebook.com"
VERSION: Final = "v23.0"
USAGE: Final = b"x-business-use-case-usage"

BY_CODE: Final[Mapping[int, Verdict]] = {
    0: Verdict.pause,
    1: Verdict.unsure,
    2: Verdict.next,
    3: Verdict.pause,
    4: Verdict.pace,
    10: Verdict.pause,
    190: Verdict.pause,
    368: Verdict.pause,
    80007: Verdict.pace,
    130429: Verdict.pace,
    130497: Verdict.refuse,
    131000: Verdict.unsure,
    131005: Verdict.pause,
    131016: Verdict.next,
    131031: Verdict.pause,
    131042: Verdict.pause,
    131048: Verdict.pace,
    131056: Verdict.later,
    131057: Verdict.pause,
    133016: Verdict.pace,
}
"""What WhatsApp's own number says, whatever the status; where it has none here, the status decides. Why: ADR 15."""

BY_STATUS: Final[Verdicts] = {
    (200, None): Verdict.accept,
    (301, None): Verdict.next,
    (302, None): Verdict.next,
    (307, None): Verdict.next,
    (308, None): Verdict.next,
    (400, None): Verdict.refuse,
    (401, None): Verdict.pause,
    (402, None): Verdict.pause,
    (403, None): Verdict.pause,
    (404, None): Verdict.pause,
    (405, None): Verdict.refuse,
    (413, None): Verdict.refuse,
    (429, None): Verdict.pace,
    (503, None): Verdict.next,
}

BY_CLASS: Final[ByClass] = {4: Verdict.next}

_NO_NUMBER: Final = "correct the sender's `phone_number_id`, or give the token's system user that number"
_NO_RIGHT: Final = "give the token's system user the number, and the right whatsapp_business_messaging"
ADVICE: Final[Advice] = {
    (None, 10): _NO_RIGHT,
    (None, 100): _NO_NUMBER,
    (None, 190): "the token has run out or was revoked: make another for the system user",
    (None, 200): _NO_RIGHT,
    (None, 803): _NO_NUMBER,
    (401, None): "the token is wrong or was revoked: make another for the system user",
    (403, None): _NO_RIGHT,
    (404, None): _NO_NUMBER,
}

_NOT_JSON: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_SECRET: Final = re.compile(r"[ -~]+")
_VERSION: Final = re.compile(r"v[0-9]{1,3}\.[0-9]{1,2}")


class _Fault(msgspec.Struct):
    code: int | None = None
    message: str = ""
    error_data: dict[str, Any] | None = None


class _Taken(msgspec.Struct):
    id: str = ""


class _Said(msgspec.Struct):
    error: _Fault | None = None
    messages: Sequence[_Taken] = ()


class _Number(msgspec.Struct):
    id: str


class WhatsApp:
    """One business account. Settings: ``token`` (of a system user), ``app_secret`` (what webhooks are signed with;
    without it none is believed), ``verify_token`` (what WhatsApp shows when it asks whether the webhook is ours),
    ``version`` of the API, ``url`` (the API's), ``pause_s``, ``slow_down_s``, ``timeout_s``, ``connect_timeout_s``,
    ``connections``. Raises ValueError for what cannot be used, and never shows a secret."""

    def __init__(self, account: Account) -> None:
        settings = account.settings
        (token,) = needed(settings, account.name, "token")
        self._secrets = [token, *filter(None, (settings.get("app_secret"), settings.get("verify_token")))]
        if not all(_SECRET.fullmatch(secret) for secret in self._secrets):
            raise ValueError("a credential has characters that none of WhatsApp's has")
        version = settings.get("version") or VERSION
        if not _VERSION.fullmatch(version):
            raise ValueError("version is a v, a number, a dot and a number")
        self._verify_token = settings.get("verify_token")
        self._rests = Rests.of(settings)
        self._webhooks = Webhooks(settings.get("app_secret"))
        self._wire, prefix = wire_to(settings, API)
        self._path = f"{prefix}/{version}"
        self._headers = {
            "Authorization": f"Bearer {token}",
            "Content-Type": "application/json",
            "User-Agent": "tidings",
        }
        self._heads: dict[str, Head] = {}

    async def send(self, message: Message, may_write: Callable[[], bool]) -> Outcome:
        try:
            head = self._head(message.sender["phone_number_id"])
        except ValueError:
            return Refused("unsafe_header", "phone_number_id")
        said = await ask(self._wire, head, msgspec.json.encode(_body(message)), may_write)
        return self._outcome(said) if isinstance(said, Answer) else said

    def receipts(self, call: WebhookCall) -> Sequence[Receipt] | None:
        return self._webhooks.receipts(call)

    def challenge(self, query: Mapping[str, str]) -> str | None:
        """WhatsApp asks when the address of the webhook is entered, and shows the token that was entered with it."""
        token, said = self._verify_token, query.get("hub.verify_token", "")
        if query.get("hub.mode") != "subscribe" or token is None:
            return None
        return query.get("hub.challenge") if hmac.compare_digest(said.encode(), token.encode()) else None

    async def look_up(self, reference: str, to: str, started_at: datetime) -> Outcome | None:
        """Always None: what was sent can be asked for by WhatsApp's own id alone."""
        return None

    async def check(self, senders: Sequence[Mapping[str, str]]) -> Trouble | None:
        """Asks for each number that is sent from: to be allowed to see one is to have a part in it."""
        numbers = dict.fromkeys(one.get("phone_number_id", "") for one in senders)
        if not numbers:
            return Trouble("no sender of the channel has a phone_number_id", "make a sender, then try again")
        for number in numbers:
            trouble = await self._trouble_with(number)
            if trouble is not None:
                return msgspec.structs.replace(trouble, found=f"phone number {shown(number)}: {trouble.found}")
        return None

    async def _trouble_with(self, number: str) -> Trouble | None:
        if not (number.isascii() and number.isdecimal()):
            return Trouble("it is no number", _NO_NUMBER)
        head = self._wire.head("GET", f"{self._path}/{number}?fields=id", self._headers)
        found = await asked(self._wire, head, _Number, self._trouble)
        return found if isinstance(found, Trouble) else None

    async def close(self) -> None:
        self._wire.close()

    def _head(self, number: str) -> Head:
        """Raises ValueError for what cannot stand in a path."""
        if number not in self._heads:
            self._heads[number] = self._wire.head("POST", f"{self._path}/{number}/messages", self._headers)
        return self._heads[number]

    def _outcome(self, answer: Answer) -> Outcome:
        said = _said(answer)
        fault = said.error or _Fault()
        heard = Heard(
            code=f"http_{answer.status}" if fault.code is None else str(fault.code),
            detail=shown(_words(fault), *self._secrets),
            message_id=said.messages[0].id if said.messages and not said.error else "",
            wait_s=retry_after_s(answer) or usage_wait_s(answer),
            gone=GONE.get(fault.code or 0),
        )
        return outcome(verdict(answer.status, fault.code), heard, self._rests)

    def _trouble(self, answer: Answer) -> Trouble:
        fault = _said(answer).error or _Fault()
        return answered(answer.status, shown(_words(fault), *self._secrets), ADVICE, fault.code)


def _said(answer: Answer) -> _Said:
    try:
        return msgspec.json.decode(answer.body, type=_Said)
    except _NOT_JSON:
        return _Said(_Fault(message="an answer that is not WhatsApp's") if answer.status != 200 else None)


def verdict(status: int, code: int | None) -> Verdict:
    """What a complete answer means; ``code`` is WhatsApp's own number for what is wrong."""
    if code is not None:
        known = Verdict.gone if code in GONE else BY_CODE.get(code)
        if known is not None or status == 200:
            return known or Verdict.unsure
    return judged(BY_STATUS, BY_CLASS, status, None)


def usage_wait_s(answer: Answer) -> float | None:
    """How long the business account has to wait before it may call again, bounded; None when it need not, or when the
    header is a riddle. WhatsApp counts it in minutes."""
    try:
        usage = msgspec.json.decode(answer.header(USAGE) or b"{}", type=dict[str, Sequence[dict[str, Any]]])
        waits = [int(one.get("estimated_time_to_regain_access", 0)) for some in usage.values() for one in some]
    except (*_NOT_JSON, ValueError, TypeError):
        return None
    longest = max(waits, default=0)
    return bounded(longest * 60.0) if longest > 0 else None


def _words(fault: _Fault) -> str:
    details = (fault.error_data or {}).get("details")
    return f"{fault.message}: {details}" if isinstance(details, str) else fault.message


def _body(message: Message) -> dict[str, Any]:
    own = (message.content.channels or {}).get("whatsapp", {})
    kind = "template" if own else "text"
    return {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        "to": message.to,
        "type": kind,
        kind: _template(own) if own else {"body": message.content.text or "", "preview_url": False},
        "biz_opaque_callback_data": message.reference,
    }


def _template(own: Mapping[str, str]) -> dict[str, Any]:
    components = [*_texts("header", own), *_texts("body", own), *_buttons(own)]
    named = {"name": own.get("template"), "language": {"code": own.get("language")}}
    return {**named, "components": components} if components else named


def _texts(component: str, own: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """The component with its parameters: by number, or each with its name."""
    given = _given(component, own)
    if given:
        parameters = [
            {"type": "text", "text": text}
            if name.isdecimal()
            else {"type": "text", "parameter_name": name, "text": text}
            for name, text in given
        ]
        yield {"type": component, "parameters": parameters}


def _buttons(own: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    for index, text in _given("button", own):
        yield {"type": "button", "sub_type": "url", "index": index, "parameters": [{"type": "text", "text": text}]}


def _given(component: str, own: Mapping[str, str]) -> list[tuple[str, str]]:
    """Names and texts, the numbered ones in their order."""
    found = [(part.partition(".")[2], text) for part, text in own.items() if part.startswith(f"{component}.")]
    return sorted(found, key=lambda one: int(one[0]) if one[0].isdecimal() else 0)

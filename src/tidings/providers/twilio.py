"""Twilio, Programmable Messaging: ``POST …/Messages.json`` out, signed status callbacks and replies back."""

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urlencode

import msgspec

from tidings.domain.catalog import Account
from tidings.domain.outcome import Gone, Outcome, Receipt, Trouble, TryNext
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
from tidings.providers.twilio_webhooks import REFERENCE, Webhooks
from tidings.providers.wire import Answer

API: Final = "https://api.twilio.com"

BY_CODE: Final[Mapping[int, Verdict]] = {
    10001: Verdict.pause,
    20003: Verdict.pause,
    20005: Verdict.pause,
    20006: Verdict.pause,
    20008: Verdict.pause,
    20404: Verdict.pause,
    20429: Verdict.pace,
    21408: Verdict.refuse,
    21609: Verdict.pause,
    21611: Verdict.next,
    63038: Verdict.pause,
}
"""What Twilio's own number says, where the status alone would be read otherwise, or may vary. Why: ADR 14."""

GONE: Final[Mapping[int, Gone]] = {21610: Gone.stop, 21614: Gone.hard_bounce}
"""Numbers that say that this telephone takes no SMS, whoever sends."""

BY_STATUS: Final[Verdicts] = {
    (201, None): Verdict.accept,
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
    (415, None): Verdict.refuse,
    (422, None): Verdict.refuse,
    (429, None): Verdict.pace,
    (503, None): Verdict.next,
}

BY_CLASS: Final[ByClass] = {4: Verdict.next}

ADVICE: Final[Advice] = {
    (401, None): "the credentials do not belong together, or were revoked: correct `account_sid` and `auth_token`, or "
    "`api_key_sid` and `api_key_secret`",
    (403, None): "the credentials may not use this account: correct them, or give them the right to send",
    (404, None): "Twilio knows no such account: correct `account_sid`",
    (None, 20005): "settle at Twilio what the account was suspended for",
    (None, 20008): "these are test credentials, which send nothing: give the account the live ones",
}

LISTED_AT_ONCE: Final = 200
CLOCKS_APART: Final = timedelta(minutes=5)
"""Twilio's clock and ours are not believed to agree any better."""

_ACCOUNT_SID: Final = re.compile(r"AC[0-9a-fA-F]{32}")
_KEY_SID: Final = re.compile(r"SK[0-9a-fA-F]{32}")
_SECRET: Final = re.compile(r"[!-~]+")
_WEB: Final = re.compile(r"https?://[!-~]+")
_SEGMENTS: Final = re.compile(r"[1-9][0-9]?")
_REWRITTEN: Final = ("+521", "+549")
"""Mobile numbers of Mexico and Argentina have a second form, without the digit; Twilio may list them under that."""


class _Said(msgspec.Struct):
    """``num_segments`` is whatever came: what it is must never make a doubt of a message that was taken."""

    sid: str | None = None
    num_segments: object = None
    code: int | None = None
    message: str | None = None


class _Listed(msgspec.Struct):
    date_created: str | None


class _Page(msgspec.Struct):
    messages: Sequence[_Listed]
    next_page_uri: str | None


class _Own(msgspec.Struct):
    """The account, or the list of its messages: whichever the credentials may see."""

    status: str = ""
    messages: Sequence[msgspec.Raw] | None = None


class Twilio:
    """One account. Settings: ``account_sid``; ``auth_token``, or ``api_key_sid`` and ``api_key_secret`` to send with
    those (webhooks are signed with the token all the same: without it none is believed); ``webhook_key``, the secret of
    a shared key, if webhooks are signed with one; ``url`` (the API's), ``receipts_url`` (where Twilio reports),
    ``pause_s``, ``slow_down_s``, ``timeout_s``, ``connect_timeout_s``, ``connections``. Raises ValueError for what
    cannot be used, and never shows a secret."""

    def __init__(self, account: Account) -> None:
        settings = account.settings
        user, self._secret = _credential(account)
        self._receipts_url = _web(settings, "receipts_url")
        self._rests = Rests.of(settings)
        self._webhooks = Webhooks(settings.get("auth_token"), settings.get("webhook_key"))
        self._wire, prefix = wire_to(settings, API)
        base = f"{prefix}/2010-04-01/Accounts/{settings['account_sid']}"
        self._path = f"{base}/Messages.json"
        basic = base64.b64encode(f"{user}:{self._secret}".encode()).decode()
        self._headers = {"Authorization": f"Basic {basic}", "User-Agent": "tidings"}
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        self._head = self._wire.head("POST", self._path, self._headers | form)
        own = f"{base}/Messages.json?PageSize=1" if settings.get("api_key_sid") else f"{base}.json"
        self._own = self._wire.head("GET", own, self._headers)

    async def send(self, message: Message, may_write: Callable[[], bool]) -> Outcome:
        said = await ask(self._wire, self._head, urlencode(self._form(message)).encode(), may_write)
        return self._outcome(said) if isinstance(said, Answer) else said

    def receipts(self, call: WebhookCall) -> Sequence[Receipt] | None:
        return self._webhooks.receipts(call)

    def challenge(self, query: Mapping[str, str]) -> str | None:
        """Twilio asks nothing."""
        return None

    async def look_up(self, reference: str, to: str, started_at: datetime) -> Outcome | None:
        """Surely not taken when Twilio lists all that went to this number, and nothing of it is as young as the call.
        A young one may be another's: Twilio lists no reference, so which it is only receipts can tell."""
        if to.startswith(_REWRITTEN):
            return None
        # Not by the date of sending, which a message that still waits in Twilio's queue does not have.
        query = urlencode({"To": to, "PageSize": LISTED_AT_ONCE})
        head = self._wire.head("GET", f"{self._path}?{query}", self._headers)
        answer = await ask(self._wire, head, b"", lambda: True)
        if not isinstance(answer, Answer) or answer.status != 200:
            return None
        created_at = _created_at(answer.body)
        if created_at is None or any(one > started_at - CLOCKS_APART for one in created_at):
            return None
        return TryNext("absent", "Twilio lists no message to this number since the call")

    async def check(self, senders: Sequence[Mapping[str, str]]) -> Trouble | None:
        """Asks for the account itself. A key may not see that, as a rule, and asks for the newest message instead."""
        own = await asked(self._wire, self._own, _Own, self._trouble)
        if isinstance(own, Trouble):
            return own
        if own.messages is not None or own.status == "active":
            return None
        status = shown(own.status, self._secret)
        return Trouble(f"the account is {status}", ADVICE[None, 20005]) if status else FOREIGN

    async def close(self) -> None:
        self._wire.close()

    def _form(self, message: Message) -> Mapping[str, str]:
        sender, service = message.sender, message.sender.get("messaging_service")
        form = {
            "To": message.to,
            **({"MessagingServiceSid": service} if service else {"From": sender["number"]}),
            "Body": message.content.text or "",
        }
        if self._receipts_url:
            form["StatusCallback"] = f"{self._receipts_url}?{urlencode({REFERENCE: message.reference})}"
        return form

    def _outcome(self, answer: Answer) -> Outcome:
        said = _said(answer.body)
        heard = Heard(
            code=f"http_{answer.status}" if said.code is None else str(said.code),
            detail=shown(said.message or "", self._secret),
            message_id=said.sid or "",
            wait_s=retry_after_s(answer),
            gone=GONE.get(said.code or 0),
            units=_segments(said.num_segments),
        )
        return outcome(verdict(answer.status, said.code), heard, self._rests)

    def _trouble(self, answer: Answer) -> Trouble:
        said = _said(answer.body)
        return answered(answer.status, shown(said.message or "", self._secret), ADVICE, said.code)


def verdict(status: int, code: int | None) -> Verdict:
    """What a complete answer means; ``code`` is Twilio's own number for what is wrong, which counts in refusals
    alone."""
    if code is not None and status // 100 == 4:
        known = Verdict.gone if code in GONE else BY_CODE.get(code)
        if known is not None:
            return known
    return judged(BY_STATUS, BY_CLASS, status, None)


def _said(body: bytes) -> _Said:
    try:
        return msgspec.json.decode(body, type=_Said)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _Said(message="an answer that is not Twilio's")


def _credential(account: Account) -> tuple[str, str]:
    """User and password. Raises ValueError."""
    settings, name = account.settings, account.name
    (sid,) = needed(settings, name, "account_sid")
    if not _ACCOUNT_SID.fullmatch(sid):
        raise ValueError("account_sid is AC and 32 hexadecimal digits")
    for secret in ("auth_token", "api_key_secret", "webhook_key"):
        if not _SECRET.fullmatch(settings.get(secret) or "-"):
            raise ValueError(f"{secret} has characters that no credential of Twilio's has")
    if not settings.get("api_key_sid"):
        (token,) = needed(settings, name, "auth_token")
        return sid, token
    key, secret = needed(settings, name, "api_key_sid", "api_key_secret")
    if not _KEY_SID.fullmatch(key):
        raise ValueError("api_key_sid is SK and 32 hexadecimal digits")
    return key, secret


def _web(settings: Mapping[str, str], name: str) -> str | None:
    """Raises ValueError for what is no address in the web."""
    url = settings.get(name)
    if url and not _WEB.fullmatch(url):
        raise ValueError(f"{name} is not an address in the web")
    return url


def _segments(said: object) -> int | None:
    """None for 0, too: a messaging service counts them later."""
    return int(said) if isinstance(said, str) and _SEGMENTS.fullmatch(said) else None


def _created_at(body: bytes) -> Sequence[datetime] | None:
    """When each of the listed messages was made; None when that is not all of them, or cannot be read."""
    try:
        page = msgspec.json.decode(body, type=_Page)
        found = [parsedate_to_datetime(one.date_created or "") for one in page.messages]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError, OverflowError):
        return None
    return None if page.next_page_uri else [one if one.tzinfo else one.replace(tzinfo=UTC) for one in found]

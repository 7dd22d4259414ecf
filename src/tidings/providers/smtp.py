"""SMTP: any mail server that takes messages for others, such as the one that everybody has."""

import re
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

import msgspec

from tidings.domain.catalog import Account
from tidings.domain.egress import Egress
from tidings.domain.outcome import Gone, Outcome, Receipt, Refused, Sent, Trouble, TryNext, Unsure
from tidings.ports import Message, WebhookCall
from tidings.providers.answers import (
    ByClass,
    Heard,
    Rests,
    Verdict,
    Verdicts,
    judged,
    limits_of,
    needed,
    outcome,
    reach_of,
    shown,
)
from tidings.providers.credentials import unanswered
from tidings.providers.mail_bounces import bounced
from tidings.providers.mail_headers import unsafe_field
from tidings.providers.smtp_letter import letter
from tidings.providers.smtp_reports import reported
from tidings.providers.smtp_wire import DOT, Answered, Envelope, Server, SmtpWire
from tidings.providers.wire import NoAnswer, NotSent
from tidings.providers.wire_reach import Reach

NOBODY: Final = "nobody"
VERDICTS: Final[Verdicts] = {
    # The server goes out of service, now or for this connection: a complete answer, even one to the last dot.
    (421, None): Verdict.next,
    (530, None): Verdict.pause,
    (534, None): Verdict.pause,
    (535, None): Verdict.pause,
    (538, None): Verdict.pause,
    (550, NOBODY): Verdict.gone,
    (551, NOBODY): Verdict.gone,
    (553, NOBODY): Verdict.gone,
}
"""By the reply's code, and by whether it puts a recipient down as nobody. Why: docs/how-to/email.md."""

_SERVER: Final[ByClass] = {2: Verdict.next, 3: Verdict.next, 4: Verdict.next, 5: Verdict.next}
_MESSAGE: Final[ByClass] = {2: Verdict.next, 3: Verdict.next, 4: Verdict.later, 5: Verdict.refuse}
BY_CLASS: Final[Mapping[str, ByClass]] = {
    "greeting": _SERVER,
    "EHLO": _SERVER,
    "STARTTLS": _SERVER,
    "AUTH": {2: Verdict.next, 3: Verdict.next, 4: Verdict.pace, 5: Verdict.pause},
    "MAIL": _MESSAGE,
    "RCPT": _MESSAGE,
    "DATA": _MESSAGE,
    DOT: {2: Verdict.accept, 4: Verdict.later, 5: Verdict.refuse},
}
"""What a reply that is not listed means, by the step that it answers and its first digit. Before the dot no reply can
leave a doubt."""

_LOGIN: Final = "`username` or `password` is wrong, or the server wants another way to log in: correct them"
ADVICE: Final[Mapping[tuple[str, int], str]] = {
    ("AUTH", 5): _LOGIN,
    ("MAIL", 5): "let this account send from the sender's address, at the mail server, or change the sender",
}
"""What to do about a reply, by its step and first digit. Others say that the server does not serve us, or not now."""

_NOT_SERVED: Final = "the server does not serve us: its own words say why"
_NOT_NOW: Final = "the server does not serve us now: try again later"
_UNSAFE: Final = {"tls": "set `ca` if the authority is your own, or `tls` to what the server speaks"}

_PORTS: Final = {"starttls": 587, "tls": 465, "none": 25}
_SCHEMES: Final = ("smtp", "smtps")
_HOST: Final = re.compile(r"[A-Za-z0-9.:-]+|\[[A-Za-z0-9.:-]+\]")
_ADDRESS: Final = re.compile(r"[!-;=?-~]+@[!-;=?-~]+")
_WORD: Final = re.compile(r"[^\x00-\x1f\x7f]*")
_SECRET: Final = re.compile(r"[!-~]+")


class Smtp:
    """One mail server. Settings: ``url`` (``smtp://host:port``, or ``smtps://`` for TLS from the first byte), ``tls``
    (``starttls``, ``tls`` or ``none``; by default STARTTLS is insisted on, except on this machine), ``username`` and
    ``password``, ``hello`` (our own name), ``ca`` (PEM; trusted instead of the system's authorities), ``return_path``
    (where bounces go; to the sender without it), ``bounce_secret`` (without it no bounce is believed), ``pause_s``,
    ``slow_down_s``, ``timeout_s``, ``connect_timeout_s`` and ``connections`` as for every account. Raises ValueError
    for what cannot be used, and never shows the password."""

    def __init__(self, account: Account) -> None:
        settings = account.settings
        needed(settings, account.name, "url")
        self._server = _server(settings)
        self._rests = Rests.of(settings)
        self._return_path = _plain(settings, "return_path", _ADDRESS)
        self._bounce_secret = _plain(settings, "bounce_secret", _SECRET)
        self._wire = SmtpWire(self._server, limits_of(settings), _reach(settings, self._server))

    async def send(self, message: Message, may_write: Callable[[], bool]) -> Outcome:
        field = unsafe_field(message) or _unsafe_address(message)
        if field is not None:
            return Refused("unsafe_header", field)
        sender = message.sender["email"]
        message_id = f"{message.reference}@{sender.rpartition('@')[2]}"
        content = letter(message, message_id)
        envelope = Envelope(self._return_path or sender, message.to, content, message.reference)
        said = await self._wire.call(envelope, may_write)
        match said:
            case Answered():
                return self._outcome(said, message_id)
            case NotSent(code=code, detail=detail):
                return TryNext(code, detail)
            case NoAnswer(code=code, detail=detail):
                return Unsure(code, detail)
        return said

    def receipts(self, call: WebhookCall) -> Sequence[Receipt] | None:
        """Those in a bounce that was handed on. None without the account's own secret."""
        return reported(call, self._bounce_secret)

    def challenge(self, query: Mapping[str, str]) -> str | None:
        """None: a mail server asks nothing."""
        return None

    async def look_up(self, reference: str, to: str, started_at: datetime) -> Outcome | None:
        """Always None: a mail server cannot be asked what it took."""
        return None

    async def check(self, senders: Sequence[Mapping[str, str]]) -> Trouble | None:
        """Logs in, and begins a message from each address that messages leave from, which goes no further."""
        addresses = dict.fromkeys(self._return_path or one.get("email", "") for one in senders)
        match await self._wire.try_out(filter(_ADDRESS.fullmatch, addresses)):
            case Answered(step=step, reply=reply):
                return Trouble(f"{step}: {reply.code} {self._shown(reply.text)}", _advice(step, reply.code))
            case NotSent(code=code, detail=detail):
                return unanswered(code, detail, _UNSAFE)
        return None

    async def close(self) -> None:
        self._wire.close()

    def _shown(self, words: str) -> str:
        return shown(words, *filter(None, (self._server.password, self._bounce_secret)))

    def _outcome(self, said: Answered, message_id: str) -> Outcome:
        words = self._shown(said.reply.text)
        heard = Heard(f"smtp_{said.reply.code}", f"{said.step}: {words}", message_id, gone=Gone.hard_bounce)
        made = outcome(verdict(said.step, said.reply.code, said.reply.text), heard, self._rests)
        return msgspec.structs.replace(made, detail=words) if isinstance(made, Sent) else made


def verdict(step: str, code: int, words: str) -> Verdict:
    """What a reply means that ended a call at this step."""
    nobody = step == "RCPT" and bounced(words)
    return judged(VERDICTS, BY_CLASS[step], code, NOBODY if nobody else None)


def _advice(step: str, code: int) -> str:
    if VERDICTS.get((code, None)) is Verdict.pause:
        return _LOGIN
    return ADVICE.get((step, code // 100)) or (_NOT_SERVED if code // 100 == 5 else _NOT_NOW)


def _unsafe_address(message: Message) -> str | None:
    """The name of an address that cannot stand in a command."""
    addresses = (("to", message.to), ("sender.email", message.sender["email"]))
    return next((name for name, address in addresses if not _ADDRESS.fullmatch(address)), None)


def _server(settings: Mapping[str, str]) -> Server:
    """Raises ValueError."""
    url = urlsplit(settings["url"])
    host, rest = url.hostname or "", (url.path.strip("/"), url.query, url.fragment)
    if url.scheme not in _SCHEMES or "@" in url.netloc or any(rest) or not _HOST.fullmatch(host):
        raise ValueError("url is smtp:// or smtps:// with a host and perhaps a port, nothing more")
    usual = "tls" if url.scheme == "smtps" else "none" if _is_here(host) else "starttls"
    tls = settings.get("tls") or usual
    if tls not in _PORTS:
        raise ValueError("tls is starttls, tls or none")
    return Server(
        host=host,
        port=url.port or _PORTS[tls],
        tls=None if tls == "none" else _trusting(settings.get("ca") or None),
        at_once=tls == "tls",
        hello=_plain(settings, "hello", _HOST) or _own_name(),
        username=_plain(settings, "username", _WORD),
        password=_plain(settings, "password", _WORD),
    )


def _plain(settings: Mapping[str, str], name: str, shape: re.Pattern[str]) -> str:
    value = settings.get(name) or ""
    if value and not shape.fullmatch(value):
        raise ValueError(f"{name} has characters that cannot stand there")
    return value


def _trusting(authority: str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cadata=authority)
    except ssl.SSLError:
        raise ValueError("ca is no certificate in PEM") from None


def _is_here(host: str) -> bool:
    """Is that this machine, so that nobody else can listen?"""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _own_name() -> str:
    name = socket.gethostname()
    return name if _HOST.fullmatch(name) else "localhost"


def _reach(settings: Mapping[str, str], server: Server) -> Reach:
    """As far as an operator lets tenants' accounts reach, on the ports of mail. Raises ValueError."""
    reach = reach_of(settings)
    egress: Egress = msgspec.structs.replace(reach.egress, ports=(*_PORTS.values(), 2525))
    host = f"[{server.host}]" if ":" in server.host else server.host
    flaw = egress.flaw(f"{'https' if server.tls else 'http'}://{host}:{server.port}")
    if flaw is not None:
        raise ValueError(f"url: {flaw}")
    return msgspec.structs.replace(reach, egress=egress)

"""The stand-in of mail servers, as it speaks: every step of a conversation, and what goes wrong at it."""

import asyncio
import contextlib
import secrets
import ssl
from collections.abc import Mapping, Sequence
from typing import Any, AnyStr, Final, cast

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from tidings.sandbox.certificate import serving
from tidings.sandbox.faults import TAKES, Fault, FaultKind
from tidings.sandbox.intake import Intake
from tidings.sandbox.listener import cut
from tidings.sandbox.smtp import Mail, Smtp

HOSTNAME: Final = "sandbox.localhost"
IDLE_S: Final = 300.0
DOT: Final = "."
GOODBYE: Final = "421 4.3.2 Service not available, closing transmission channel"
UNKNOWN: Final = "530 5.7.0 Authentication required"
WRONG: Final[Mapping[FaultKind, tuple[str, str]]] = {
    FaultKind.down: ("MAIL", GOODBYE),
    FaultKind.unauthorized: ("MAIL", UNKNOWN),
    FaultKind.bad_address: ("RCPT", "550 5.1.1 Recipient address rejected: User unknown"),
    FaultKind.rate_limit: ("RCPT", "450 4.7.1 Greylisted, please try again later"),
    FaultKind.refuse: (DOT, "550 5.7.1 Message rejected by content filter"),
    FaultKind.error: (DOT, GOODBYE),
    FaultKind.accept_then_error: (DOT, "451 4.3.0 Queue file write error"),
    FaultKind.garbage: (DOT, "What?"),
}
"""The step at which a fault shows, and the reply to it."""


class Transaction(Envelope):
    """One message, and the fault that hits it."""

    fault: Fault | None = None


class MailDoor:
    """Speaks SMTP with whoever connects; logging in and STARTTLS are offered."""

    def __init__(self, standin: Smtp, intake: Intake) -> None:
        self._steps = Steps(standin, intake)
        self._tls = serving(standin.key)
        self._open: set[Conversation] = set()

    def protocol(self) -> asyncio.BaseProtocol:
        return Conversation(self._steps, self._tls, self._open)

    def close_idle(self) -> None:
        for one in list(self._open):
            one.leave()

    async def close(self) -> None:
        ends = [one.cut_off() for one in self._open]
        await asyncio.gather(*ends, return_exceptions=True)


class Steps:
    """What is said at each step. The names are those that the library looks for."""

    def __init__(self, standin: Smtp, intake: Intake) -> None:
        self._standin = standin
        self._intake = intake
        self.limit_bytes = standin.limit_bytes

    def log_in(self, _server: SMTP, _session: Session, _envelope: Envelope, _how: str, given: Any) -> AuthResult:
        fault = self._intake.fault()
        known = isinstance(given, LoginPassword) and self._standin.welcomes(_word(given))
        turned_away = fault is not None and fault.fault == FaultKind.unauthorized
        return AuthResult(success=known and not turned_away, handled=False, auth_data=given)

    async def handle_MAIL(
        self, _server: SMTP, session: Session, envelope: Transaction, address: str, options: Sequence[str]
    ) -> str:
        envelope.fault = self._intake.asked()
        if (reply := await self._wrong(envelope, "MAIL")) is not None:
            return reply
        if not self._standin.welcomes(_password(session)):
            return self._refused(UNKNOWN)
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 2.1.0 Ok"

    async def handle_RCPT(
        self, _server: SMTP, _session: Session, envelope: Transaction, address: str, options: Sequence[str]
    ) -> str:
        if (reply := await self._wrong(envelope, "RCPT")) is not None:
            return reply
        if not all(address.rpartition("@")[::2]):
            return self._refused("504 5.5.2 Recipient address rejected: need fully-qualified address")
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)
        return "250 2.1.5 Ok"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Transaction) -> str:
        fault, queue_id = envelope.fault, secrets.token_hex(5).upper()
        if (reply := await self._wrong(envelope, DOT)) is not None:
            return reply
        content = envelope.original_content or b""
        mail = Mail(envelope.mail_from or "", envelope.rcpt_tos, content, _password(session))
        read = self._standin.read(mail, queue_id)
        if isinstance(read, str):
            return self._refused(read)
        reply = _reply(fault, DOT) or f"250 2.0.0 Ok: queued as {queue_id}"
        told = TAKES[fault.fault] if fault is not None else None
        self._intake.took([read], told or reply[:3])
        await _pause(fault)
        if told is not None:
            await silence(server, resetting=told == "reset")
        return reply

    async def broken(self, server: SMTP) -> None:
        """Nothing is taken, and the connection is reset in the middle of a message. Does not return."""
        self._intake.refused()
        await silence(server, resetting=True)

    async def _wrong(self, envelope: Transaction, step: str) -> str | None:
        """The reply of a fault under which nothing is taken, if this is its step."""
        fault = envelope.fault
        reply = _reply(fault, step)
        if reply is None or (fault is not None and fault.fault in TAKES):
            return None
        await _pause(fault)
        return self._refused(reply)

    def _refused(self, reply: str) -> str:
        self._intake.refused()
        return reply


class Conversation(SMTP):
    """One connection. ``known`` holds it as long as it lasts."""

    def __init__(self, steps: Steps, tls: ssl.SSLContext, known: set["Conversation"]) -> None:
        super().__init__(
            steps,
            hostname=HOSTNAME,
            ident="ESMTP Tidings sandbox",
            data_size_limit=steps.limit_bytes,
            tls_context=tls,
            auth_require_tls=False,
            authenticator=steps.log_in,
            timeout=IDLE_S,
            loop=asyncio.get_running_loop(),
        )
        self._steps = steps
        self._known = known
        self._leaving = False

    def leave(self) -> None:
        """At once where no message is under way, else after its last reply."""
        self._leaving = True
        if not self._under_way and self._out is not None:
            self._out.write(f"{GOODBYE}\r\n".encode())
            self._out.close()

    def cut_off(self) -> asyncio.Future[None]:
        """Ends it now; done when all that was under way in it has ended."""
        assert self._handler_coroutine is not None
        if self._out is not None:
            self._out.abort()
        self._handler_coroutine.cancel()
        return self._handler_coroutine

    async def push(self, status: AnyStr) -> None:
        """Says it. Whoever says 421 hangs up."""
        await super().push(status)
        if isinstance(status, str) and status.startswith("421") and self._out is not None:
            self._out.close()
        elif self._leaving:
            self.leave()

    async def smtp_DATA(self, arg: str) -> None:
        """Resets where it has to: of a message that is whole the library tells, of one that has begun nobody."""
        now = cast(Transaction, self.envelope)
        if now.rcpt_tos and now.fault is not None and now.fault.fault == FaultKind.reset:
            await self.push("354 End data with <CR><LF>.<CR><LF>")
            await self._reader.read(1)
            await self._steps.broken(self)
        await super().smtp_DATA(arg)

    def _create_envelope(self) -> Envelope:
        return Transaction()

    async def _handle_client(self) -> None:
        """The whole of it. A client that breaks off is no error."""
        self._known.add(self)
        try:
            with contextlib.suppress(ConnectionError):
                await super()._handle_client()
        finally:
            self._known.discard(self)

    @property
    def _out(self) -> asyncio.Transport | None:
        return cast("asyncio.Transport | None", self.transport)

    @property
    def _under_way(self) -> bool:
        return self.envelope is not None and bool(self.envelope.mail_from)


async def silence(server: SMTP, *, resetting: bool) -> None:
    """No answer, ever. Does not return: it is cancelled when the connection ends."""
    if resetting and server.transport is not None:
        cut(server.transport)
    await asyncio.get_running_loop().create_future()


async def _pause(fault: Fault | None) -> None:
    if fault is not None:
        await asyncio.sleep(fault.delay_s)


def _reply(fault: Fault | None, step: str) -> str | None:
    """What this fault makes of the step; None where it changes nothing."""
    at, usual = WRONG.get(fault.fault, ("", "")) if fault is not None else ("", "")
    if fault is None or at != step:
        return None
    return usual if fault.status is None else f"{fault.status} As it was asked for"


def _password(session: Session) -> str:
    return _word(session.auth_data) if isinstance(session.auth_data, LoginPassword) else ""


def _word(given: LoginPassword) -> str:
    return given.password.decode("utf-8", "replace")

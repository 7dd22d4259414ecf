"""The way out to a mail server: SMTP on a bounded pool of kept connections.

A message is taken when its last line, a lone dot, was read. That dot is held back until all before it has left, and the
caller is asked right before it goes: whatever breaks earlier is surely not sent.
"""

import asyncio
import base64
import ssl
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final

import msgspec

from tidings.domain.outcome import Fenced
from tidings.providers.smtp_connection import Reply, SmtpConnection
from tidings.providers.wire import Limits, NoAnswer, NotSent, not_connected
from tidings.providers.wire_reach import Reach
from tidings.providers.wire_turns import Turns

DOT: Final = "."
"""The last step of a call, after which the message may have been taken."""


class Server(msgspec.Struct, frozen=True):
    """Where and as whom. ``tls`` None speaks openly; ``at_once`` encrypts from the first byte, else by STARTTLS, which
    is insisted on. ``hello`` is our own name; without ``username`` nobody logs in."""

    host: str
    port: int
    tls: ssl.SSLContext | None
    at_once: bool
    hello: str
    username: str = ""
    password: str = ""

    def __repr__(self) -> str:
        return f"Server({self.host!r}, {self.port})"


class Envelope(msgspec.Struct, frozen=True, gc=False):
    """``sender`` and ``to`` are addresses that may stand in a command; ``content`` is a message as it is written.
    ``id`` may stand there too, and comes back in bounces where the server knows how."""

    sender: str
    to: str
    content: bytes
    id: str = ""


class Answered(msgspec.Struct, frozen=True, gc=False):
    """The reply that ended the call, and the step that it answers: a verb, ``greeting``, or ``DOT``."""

    step: str
    reply: Reply


Said = Answered | NotSent | NoAnswer | Fenced
Stopped = Answered | NotSent
Step = tuple[str, bytes, int]
"""A name, a command, and the first digit of the reply that leads on."""


class SmtpWire:
    """Lives on one event loop. ``limits`` bound connections and times as they do for ``Wire``."""

    def __init__(self, server: Server, limits: Limits, reach: Reach) -> None:
        self._server = server
        self._limits = limits
        self._reach = reach
        self._turns = Turns(limits.connections)
        self._idle: list[SmtpConnection] = []
        self._busy: set[SmtpConnection] = set()
        self._closed = False

    async def call(self, envelope: Envelope, may_write: Callable[[], bool]) -> Said:
        """One message, once. A connection that was kept may prove to be gone before the message is begun; then another
        is opened."""
        deadline_s = asyncio.get_running_loop().time() + self._limits.total_s
        if not (self._turns.take() or await self._turns.wait(self._limits.wait_s)):
            return self._crowded()
        connection: SmtpConnection | Stopped | None = None
        try:
            connection = await self._ready(deadline_s)
            if not isinstance(connection, SmtpConnection):
                return connection
            connection.deadline_s = deadline_s
            return await _handed_over(connection, envelope, may_write)
        finally:
            self._turns.give()
            if isinstance(connection, SmtpConnection):
                self._release(connection)

    async def try_out(self, senders: Iterable[str]) -> Stopped | None:
        """Logs in on a connection of its own and begins a message from each of these addresses, which goes no further.
        None when the server lets all of that pass."""
        deadline_s = asyncio.get_running_loop().time() + self._limits.total_s
        if not (self._turns.take() or await self._turns.wait(self._limits.wait_s)):
            return self._crowded()
        try:
            fresh = await self._fresh(deadline_s)
            if not isinstance(fresh, SmtpConnection):
                return fresh
            fresh.deadline_s = deadline_s
            try:
                return await _through(fresh, _begun(senders))
            finally:
                self._busy.discard(fresh)
                fresh.leave()
        finally:
            self._turns.give()

    def close(self) -> None:
        """Drops every connection at once. Calls under way end as ``NoAnswer`` or ``NotSent``, later ones as
        ``NotSent``."""
        self._closed = True
        for connection in self._idle:
            connection.leave()
        for connection in self._busy:
            connection.give_up("shutdown")
        self._idle.clear()

    def _crowded(self) -> NotSent:
        return NotSent("pool_timeout", f"all {self._limits.connections} connections are busy")

    def _release(self, connection: SmtpConnection) -> None:
        self._busy.discard(connection)
        if connection.reusable and not self._closed:
            connection.idle_since_s = time.monotonic()
            self._idle.append(connection)
        else:
            connection.abort()

    async def _ready(self, deadline_s: float) -> SmtpConnection | Stopped:
        """A connection that takes messages: one that was kept and still serves, else a new one."""
        while self._idle:
            kept = self._idle.pop()
            if time.monotonic() - kept.idle_since_s >= self._limits.idle_s:
                kept.leave()
            # RSET asks whether it still serves, and ends what a refusal left open.
            elif await self._prepared(kept, deadline_s, _through(kept, [("RSET", b"RSET", 2)])) is None:
                return kept
        return await self._fresh(deadline_s)

    async def _fresh(self, deadline_s: float) -> SmtpConnection | Stopped:
        """A new connection, ready for messages."""
        try:
            fresh = await self._connected(self._by_s(deadline_s))
        except OSError as error:
            return not_connected(error)
        if self._closed:
            fresh.abort()
            return NotSent("shutdown")
        return await self._prepared(fresh, deadline_s, self._introduced(fresh)) or fresh

    def _by_s(self, deadline_s: float) -> float:
        return min(asyncio.get_running_loop().time() + self._limits.connect_s, deadline_s)

    async def _prepared(
        self, connection: SmtpConnection, deadline_s: float, preparing: Awaitable[Stopped | None]
    ) -> Stopped | None:
        """What kept the connection from being ready; then it is dropped."""
        connection.deadline_s = self._by_s(deadline_s)
        self._busy.add(connection)
        ready = False
        try:
            stopped = await preparing
            ready = stopped is None
        finally:
            if not ready:
                self._busy.discard(connection)
                connection.abort()
        return stopped

    async def _connected(self, by_s: float) -> SmtpConnection:
        """Raises OSError."""
        loop, server = asyncio.get_running_loop(), self._server
        async with asyncio.timeout_at(by_s):
            sock = await self._reach.open(server.host, server.port, encrypted=server.tls is not None)
            _, connection = await loop.create_connection(lambda: SmtpConnection(loop), sock=sock)
        return connection

    async def _introduced(self, connection: SmtpConnection) -> Stopped | None:
        """Greeted, encrypted and logged in, as far as the server is to be spoken with so."""
        server = self._server
        try:
            if server.tls is not None and server.at_once:
                await connection.secure(server.tls, server.host)
            if stopped := _stop("greeting", await connection.reply(), 2) or await self._hello(connection):
                return stopped
            if server.tls is not None and not server.at_once:
                if "STARTTLS" not in connection.offers:
                    return NotSent("tls", "the server does not offer STARTTLS")
                if stopped := await _through(connection, [("STARTTLS", b"STARTTLS", 2)]):
                    return stopped
                await connection.secure(server.tls, server.host)
                if stopped := await self._hello(connection):  # what was offered openly does not count
                    return stopped
        except OSError as error:
            return not_connected(error)
        return await _through(connection, _login(server, connection.offers))

    async def _hello(self, connection: SmtpConnection) -> Stopped | None:
        said = await connection.ask(f"EHLO {self._server.hello}\r\n".encode())
        if isinstance(said, Reply):
            words = (line.upper().partition(" ") for line in said.lines[1:])
            connection.offers = {name: parameters for name, _, parameters in words}
        return _stop("EHLO", said, 2)


def _login(server: Server, offers: Mapping[str, str]) -> Iterable[Step]:
    if not server.username:
        return
    name, password = (base64.b64encode(word.encode()) for word in (server.username, server.password))
    if "LOGIN" in offers.get("AUTH", "").split() and "PLAIN" not in offers["AUTH"].split():
        yield from (("AUTH", b"AUTH LOGIN", 3), ("AUTH", name, 3), ("AUTH", password, 2))
    else:
        both = f"\0{server.username}\0{server.password}".encode()
        yield "AUTH", b"AUTH PLAIN " + base64.b64encode(both), 2


async def _through(connection: SmtpConnection, steps: Iterable[Step]) -> Stopped | None:
    """None when every step led on. Nothing was handed over in any of them."""
    for name, command, leads_on in steps:
        stopped = _stop(name, await connection.ask(command + b"\r\n"), leads_on)
        if stopped is not None:
            return stopped
    return None


def _stop(step: str, said: Reply | NoAnswer, leads_on: int) -> Stopped | None:
    return None if isinstance(said, Reply) and said.code // 100 == leads_on else _stopped(step, said)


def _stopped(step: str, said: Reply | NoAnswer) -> Stopped:
    return Answered(step, said) if isinstance(said, Reply) else NotSent(said.code, said.detail)


async def _handed_over(connection: SmtpConnection, envelope: Envelope, may_write: Callable[[], bool]) -> Said:
    noted = f" RET=HDRS ENVID={envelope.id}" if envelope.id and "DSN" in connection.offers else ""
    steps = (
        ("MAIL", f"MAIL FROM:<{envelope.sender}>{noted}".encode(), 2),
        ("RCPT", f"RCPT TO:<{envelope.to}>".encode(), 2),
        ("DATA", b"DATA", 3),
    )
    stopped = await _through(connection, steps)
    if stopped is not None:
        return stopped
    connection.expect()
    await connection.pour(_stuffed(envelope.content))
    if connection.answered:  # before the end: it takes no more
        early = _stopped("DATA", await connection.reply())
        connection.abort()
        return early
    if not may_write():
        connection.abort()
        return Fenced()
    connection.transport.write(b".\r\n")
    said = await connection.reply()
    return Answered(DOT, said) if isinstance(said, Reply) else said


def _begun(senders: Iterable[str]) -> Iterable[Step]:
    for sender in senders:
        yield "MAIL", f"MAIL FROM:<{sender}>".encode(), 2
        yield "RSET", b"RSET", 2
    yield "NOOP", b"NOOP", 2


def _stuffed(content: bytes) -> bytes:
    """Every line ends as the protocol wants it, and none can be taken for the last one."""
    lines = content.splitlines()
    return b"".join([b"%b%b\r\n" % (b"." if line.startswith(b".") else b"", line) for line in lines])

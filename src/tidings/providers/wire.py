"""The way out to a provider: HTTP/1.1 on a bounded pool of kept connections to one origin.

Written for one thing that general clients do not offer: to say for certain whether a byte of a request left this
machine, and to ask the caller right before the first one does. It never repeats a call, never follows a redirect, and
what the network does comes back as a value.
"""

import asyncio
import re
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from typing import Final, NewType
from urllib.parse import urlsplit

import msgspec

from tidings.domain.outcome import Fenced
from tidings.providers.wire_connection import Answer, Connection, NoAnswer
from tidings.providers.wire_reach import AddressRefused, Reach
from tidings.providers.wire_turns import Turns

__all__ = ["DEFAULT_LIMITS", "Answer", "Fenced", "Head", "Limits", "NoAnswer", "NotSent", "Said", "Wire"]

Head = NewType("Head", bytes)
"""The checked beginning of a request, made once by ``Wire.head`` and used for every call."""

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_TARGET: Final = re.compile(r"/[!-~]*")
_VALUE: Final = re.compile(r"[ -~]*")
_PORTS: Final = {"http": 80, "https": 443}
_WHY_NOT: Final = (
    (AddressRefused, "address_refused"),
    (TimeoutError, "connect_timeout"),
    (socket.gaierror, "dns"),
    (ssl.SSLError, "tls"),
    (ConnectionRefusedError, "connect_refused"),
    (OSError, "connect_failed"),
)


class Limits(msgspec.Struct, frozen=True):
    """``connections`` bounds the pool; a call waits ``wait_s`` for its turn, ``connect_s`` for connection and TLS
    handshake together, and ends after ``total_s`` in all. A connection idle for ``idle_s`` is not used again.
    ``header_bytes`` and ``answer_bytes`` bound what is read for one call, interim answers and framing included."""

    connections: int = 64
    wait_s: float = 3.0
    connect_s: float = 3.0
    total_s: float = 10.0
    idle_s: float = 30.0
    header_bytes: int = 32_768
    answer_bytes: int = 1_048_576


DEFAULT_LIMITS: Final = Limits()
UNGUARDED: Final = Reach()


class NotSent(msgspec.Struct, frozen=True, gc=False):
    """No byte of the request left. ``code`` is one of ``pool_timeout dns address_refused connect_refused
    connect_timeout connect_failed tls closed shutdown``."""

    code: str
    detail: str = ""


Said = Answer | NotSent | NoAnswer | Fenced


def not_connected(error: OSError) -> NotSent:
    """What it means that no connection could be made."""
    return NotSent(next(code for kind, code in _WHY_NOT if isinstance(error, kind)), str(error))


class Wire:
    """``origin`` is ``https://host[:port]`` or the same with http; anything more raises ValueError. ``tls`` replaces
    the default context, which trusts the system's authorities and checks the host name. ``reach`` decides, whenever a
    connection is opened, which addresses may be. Lives on one event loop."""

    def __init__(
        self,
        origin: str,
        *,
        limits: Limits = DEFAULT_LIMITS,
        tls: ssl.SSLContext | None = None,
        reach: Reach = UNGUARDED,
    ) -> None:
        parts = urlsplit(origin)
        if parts.scheme not in _PORTS or not parts.hostname or parts.netloc != origin.split("://")[1]:
            raise ValueError("an origin is http:// or https:// with a host and perhaps a port, nothing more")
        if "@" in parts.netloc or not _TOKEN.fullmatch(re.sub(r"[\[\]:]", "", parts.netloc)):
            raise ValueError("the host of an origin is plain ASCII without credentials")
        parts.hostname.encode("idna")
        self._host, self._port = parts.hostname, parts.port or _PORTS[parts.scheme]
        self._authority = parts.netloc
        self._tls = (tls or ssl.create_default_context()) if parts.scheme == "https" else None
        self._limits = limits
        self._reach = reach
        self._turns = Turns(limits.connections)
        self._idle: list[Connection] = []
        self._busy: set[Connection] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        self._closed = False

    def head(self, method: str, path: str, headers: Mapping[str, str]) -> Head:
        """Raises ValueError, naming the field but never its value, for what could not stand in a request line or a
        header as it is: so nothing that a caller brings can add a line to a request."""
        if not _TOKEN.fullmatch(method) or not _TARGET.fullmatch(path):
            raise ValueError("the method or the path of a request has characters that cannot stand there")
        for name, value in headers.items():
            if not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(value):
                raise ValueError(f"the header {name!r} has characters that cannot stand there")
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self._authority}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return Head("\r\n".join([*lines, "Content-Length: "]).encode())

    async def call(self, head: Head, body: bytes, may_write: Callable[[], bool]) -> Said:
        """One request, once. ``may_write`` is asked on an open connection right before the first byte leaves; when it
        says no, nothing does. A caller that is cancelled costs the connection, nothing else."""
        deadline_s = asyncio.get_running_loop().time() + self._limits.total_s
        if not (self._turns.take() or await self._turns.wait(self._limits.wait_s)):
            return NotSent("pool_timeout", f"all {self._limits.connections} connections are busy")
        connection: Connection | NotSent | None = None
        try:
            connection = self._kept() or await self._opened(deadline_s)
            if isinstance(connection, NotSent):
                return connection
            request = b"%b%d\r\n\r\n%b" % (head, len(body), body)
            self._busy.add(connection)
            self._watch(deadline_s)
            return await connection.ask(request, deadline_s) if may_write() else Fenced()
        finally:
            self._release(connection)

    def close(self) -> None:
        """Drops every connection at once. Calls under way end as ``NoAnswer``, later ones as ``NotSent``."""
        self._closed = True
        for connection in self._idle:
            connection.abort()
        for connection in self._busy:
            connection.give_up("shutdown")
        self._idle.clear()
        if self._sweeper is not None:
            self._sweeper.cancel()

    def _release(self, connection: Connection | NotSent | None) -> None:
        self._turns.give()
        if not isinstance(connection, Connection):
            return
        self._busy.discard(connection)
        if connection.reusable and not self._closed:
            connection.idle_since_s = time.monotonic()
            self._idle.append(connection)
        else:
            connection.abort()

    def _kept(self) -> Connection | None:
        """The connection used last, so that the pool shrinks to what is needed; none that its peer has closed. The
        age is not the loop's time, which stands still while the loop is kept busy."""
        while self._idle:
            connection = self._idle.pop()
            age_s = time.monotonic() - connection.idle_since_s
            if connection.reusable and age_s < self._limits.idle_s and connection.silent():
                return connection
            connection.abort()
        return None

    async def _opened(self, deadline_s: float) -> Connection | NotSent:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(min(loop.time() + self._limits.connect_s, deadline_s)):
                sock = await self._reach.open(self._host, self._port, encrypted=self._tls is not None)
                _, connection = await loop.create_connection(
                    lambda: Connection(loop, self._limits.header_bytes, self._limits.answer_bytes),
                    sock=sock,
                    ssl=self._tls,
                    server_hostname=self._host if self._tls else None,
                )
        except OSError as error:
            return not_connected(error)
        if self._closed:
            connection.abort()
            return NotSent("shutdown")
        return connection if connection.reusable else NotSent("closed", "closed as soon as it was open")

    def _watch(self, deadline_s: float) -> None:
        """One timer serves all calls: a timer for each would cost more than the call."""
        if self._sweeper is None or deadline_s < self._sweeper.when():
            if self._sweeper is not None:
                self._sweeper.cancel()
            self._sweeper = asyncio.get_running_loop().call_at(deadline_s, self._sweep)

    def _sweep(self) -> None:
        self._sweeper = None
        now_s = asyncio.get_running_loop().time()
        waiting = [connection for connection in self._busy if connection.waiting]
        for connection in waiting:
            if connection.deadline_s <= now_s:
                connection.give_up("timeout", f"no complete answer within {self._limits.total_s:g} s")
            else:
                self._watch(connection.deadline_s)

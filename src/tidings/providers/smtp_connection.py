"""One SMTP connection (RFC 5321): a command, then its reply. It knows whether what was written has left."""

import asyncio
import re
import ssl
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, cast

import msgspec

from tidings.providers.wire_connection import NoAnswer

REPLY_BYTES: Final = 65_536
_LINE: Final = re.compile(rb"([2-5]\d\d)(?:([ -])([^\r\n]*))?\r?\n")
_GOODBYE_S: Final = 1.0


class Reply(msgspec.Struct, frozen=True, gc=False):
    """A complete reply, whatever its code."""

    code: int
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        return " ".join(self.lines)


class SmtpConnection(asyncio.Protocol):
    """Owned by one caller at a time, who sets ``deadline_s``, by the loop's clock, for all that it waits for here.

    ``lost`` says why nothing more can be had of this connection, None while it serves; ``offers`` are the server's
    extensions with their parameters, in capitals, once somebody has asked for them.
    """

    transport: asyncio.Transport
    deadline_s = 0.0
    idle_since_s = 0.0
    offers: Mapping[str, str] = MappingProxyType({})

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._buffer = bytearray()
        self._lines: list[str] = []
        self._received = 0
        self._left = asyncio.Event()
        self._left.set()
        self.lost: NoAnswer | None = None
        self.expect()  # the greeting comes unasked

    @property
    def reusable(self) -> bool:
        return self.lost is None and self._waiter is None

    @property
    def answered(self) -> bool:
        """Has the reply that is expected come, or will it never?"""
        return self._waiter is None or self._waiter.done()

    def expect(self) -> None:
        """From now on a reply is an answer. One that comes at any other time ends the connection."""
        self._waiter: asyncio.Future[Reply | NoAnswer] | None = self._loop.create_future()
        self._received = 0
        if self.lost is not None:
            self._finish(self.lost)

    async def reply(self) -> Reply | NoAnswer:
        """The reply that is expected."""
        if self._waiter is None:
            return NoAnswer("closed")
        try:
            async with asyncio.timeout_at(self.deadline_s):
                said = await self._waiter
        except TimeoutError:
            self.give_up("timeout", "no complete reply in time")
            said = NoAnswer("timeout", "no complete reply in time")
        self._waiter = None
        return said

    async def ask(self, command: bytes) -> Reply | NoAnswer:
        """``command`` is whole, its line's end included."""
        self.expect()
        if self.lost is None:
            self.transport.write(command)
        return await self.reply()

    async def pour(self, data: bytes) -> None:
        """Writes, and returns when all of it has left this process, or the connection is lost."""
        for part in (data[:-1], data[-1:]):  # under TLS only a second write learns that the first has not left yet
            if self.lost is None:
                self.transport.write(part)
        try:
            async with asyncio.timeout_at(self.deadline_s):
                await self._left.wait()
        except TimeoutError:
            self.give_up("timeout", "the peer does not read")

    async def secure(self, tls: ssl.SSLContext, host: str) -> None:
        """From here on under TLS. What was said before could be a stranger's, so nothing may have been. Raises OSError
        when the handshake fails."""
        said = self._buffer or self._lines or (self._waiter is not None and self._waiter.done())
        if said or self.lost is not None:
            raise ssl.SSLError("something was said before the handshake")
        async with asyncio.timeout_at(self.deadline_s):
            secured = await self._loop.start_tls(
                self.transport, self, tls, server_hostname=host, ssl_shutdown_timeout=_GOODBYE_S
            )
        self.transport = cast(asyncio.Transport, secured)
        self.transport.set_write_buffer_limits(high=1, low=0)

    def abort(self) -> None:
        self._end(NoAnswer("closed"))
        self.transport.abort()

    def give_up(self, code: str, detail: str = "") -> None:
        """Drops the connection; who waits on it gets ``NoAnswer``."""
        self._end(NoAnswer(code, detail))
        self.transport.abort()

    def leave(self) -> None:
        """Takes leave of the server, and does not wait for its answer."""
        if self.lost is None:
            self.transport.write(b"QUIT\r\n")
            self._end(NoAnswer("closed"))
            self.transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=0)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._received += len(data)
        if self._received > REPLY_BYTES:
            self.give_up("too_large", f"over {REPLY_BYTES} bytes")
        while self.lost is None and (end := self._buffer.find(b"\n")) >= 0:
            line = bytes(self._buffer[: end + 1])
            del self._buffer[: end + 1]
            self._take(line)

    def pause_writing(self) -> None:
        self._left.clear()

    def resume_writing(self) -> None:
        self._left.set()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._buffer or self._lines:
            self._end(NoAnswer("truncated", "lost in the middle of a reply"))
        else:
            self._end(NoAnswer("reset" if exc else "closed", str(exc or "closed without a reply")))

    def _take(self, line: bytes) -> None:
        found = _LINE.fullmatch(line)
        if found is None or self.answered:
            self.give_up("garbled", "not a reply" if found is None else "a reply to nothing")
            return
        self._lines.append((found[3] or b"").decode("utf-8", "replace"))
        if found[2] != b"-":
            reply = Reply(int(found[1]), tuple(self._lines))
            self._lines.clear()
            self._finish(reply)

    def _end(self, why: NoAnswer) -> None:
        self.lost = self.lost or why
        self._left.set()
        self._finish(self.lost)

    def _finish(self, said: Reply | NoAnswer) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(said)

"""One HTTP/1.1 connection. It carries one call at a time, and knows whether a byte of it left."""

import asyncio
import select
from collections.abc import Mapping
from typing import cast

import httptools
import msgspec


class Answer(msgspec.Struct, frozen=True, gc=False):
    """A complete final answer, whatever its status; a redirect is one too and is never followed.

    ``headers`` keeps names as they were sent, and the last value of a repeated one; trailers are left out.
    """

    status: int
    headers: Mapping[bytes, bytes]
    body: bytes

    def header(self, name: bytes) -> bytes | None:
        """The value of a header; ``name`` in lower case."""
        return next((value for key, value in self.headers.items() if key.lower() == name), None)


class NoAnswer(msgspec.Struct, frozen=True, gc=False):
    """Bytes left, and no complete answer came back: nobody here can tell what the peer did with them.

    ``code`` is one of ``timeout reset closed truncated garbled too_large shutdown``.
    """

    code: str
    detail: str = ""


class Connection(asyncio.Protocol):
    """Owned by one caller at a time. ``header_bytes`` and ``answer_bytes`` bound what a peer may send for one call,
    interim answers and framing included.

    ``reusable`` says that no call is under way, the last one ended cleanly, and nothing is known to be wrong.
    """

    transport: asyncio.Transport
    reusable = True
    idle_since_s = 0.0
    deadline_s = 0.0

    def __init__(self, loop: asyncio.AbstractEventLoop, header_bytes: int, answer_bytes: int) -> None:
        self._loop = loop
        self._header_bytes = header_bytes
        self._answer_bytes = answer_bytes
        self._waiter: asyncio.Future[Answer | NoAnswer] | None = None
        self._received = 0
        self._in_body = False
        self._fields: dict[bytes, bytes] = {}
        self._headers: dict[bytes, bytes] = {}
        self._chunks: list[bytes] = []
        # The parser calls these two for every field and piece; bound to C functions they cost no Python frame.
        self.on_header = self._fields.__setitem__
        self.on_body = self._chunks.append
        self._parser = httptools.HttpResponseParser(self)

    def ask(self, request: bytes, deadline_s: float) -> "asyncio.Future[Answer | NoAnswer]":
        """Writes the request, in this very call when the socket takes it; the answer is what to wait for. A caller
        that stops waiting leaves a connection that is not ``reusable``."""
        self._waiter = waiter = self._loop.create_future()
        self.reusable = False
        self.deadline_s = deadline_s
        self._received = 0
        self.transport.write(request)
        return waiter

    @property
    def waiting(self) -> bool:
        return self._waiter is not None

    def silent(self) -> bool:
        """Asks the kernel, because the event loop may not have looked yet: a peer that closed, or said something
        unasked, while the connection was idle has made it readable."""
        return not self.transport.is_closing() and not self._readable.poll(0)

    def abort(self) -> None:
        self.reusable = False
        self.transport.abort()

    def give_up(self, code: str, detail: str = "") -> None:
        """Drops the connection; who waits on it gets ``NoAnswer``."""
        self.abort()
        self._finish(NoAnswer(code, detail))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._readable = select.poll()
        self._readable.register(transport.get_extra_info("socket").fileno(), select.POLLIN)

    def data_received(self, data: bytes) -> None:
        if self._waiter is None:
            self.abort()
            return
        self._received += len(data)
        if self._received > self._answer_bytes:
            self.give_up("too_large", f"over {self._answer_bytes} bytes")
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self.give_up("garbled", str(error))
        if self._waiter is not None and not self._in_body and self._received > self._header_bytes:
            self.give_up("too_large", f"headers over {self._header_bytes} bytes")

    def connection_lost(self, exc: Exception | None) -> None:
        self.reusable = False
        if self._waiter is None:
            return
        if exc is None and self._ends_with_the_connection():
            self._answered()
        elif self._received:
            self._finish(NoAnswer("truncated", f"lost after {self._received} bytes of the answer"))
        else:
            self._finish(NoAnswer("reset" if exc else "closed", str(exc or "closed without an answer")))

    def on_message_begin(self) -> None:
        self._fields.clear()
        if self._waiter is None:
            self.reusable = False

    def on_headers_complete(self) -> None:
        self._headers = self._fields.copy()
        self._in_body = True

    def on_message_complete(self) -> None:
        self._in_body = False
        if self._parser.get_status_code() < 200:
            return
        # An answer that came before the request was out leaves a peer that may never read the rest.
        self.reusable = self._parser.should_keep_alive() and not self.transport.get_write_buffer_size()
        self._answered()

    def _answered(self) -> None:
        body = b"".join(self._chunks)
        self._chunks.clear()
        self._finish(Answer(self._parser.get_status_code(), self._headers, body))

    def _finish(self, said: Answer | NoAnswer) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(said)

    def _ends_with_the_connection(self) -> bool:
        """An answer without a length ends where the peer closes (RFC 9112, 6.3)."""
        names = {name.lower() for name in self._headers}
        return self._in_body and not names & {b"content-length", b"transfer-encoding"}

"""The HTTP server's protocol: uvicorn's, with a bound that it leaves open and a short way for the hottest requests.

The bound is on how long a request's head may take. The short way is for requests whose body is small and whose answer
is one piece: they are handed to the application whole, with a function that answers, and cost neither a task nor the
messages of ASGI (why: ADR 0010). Everything else, and whatever such a request does that is out of the ordinary, takes
the usual way.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final, Literal, Protocol

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

Headers = list[tuple[bytes, bytes]]
Answer = Callable[[int, Headers, bytes], None]
Part = Literal["head", "body", "over"]


class Short(Protocol):
    """A short request's other end. Both methods call ``answer`` once, now or later, and never raise."""

    body_deadline_s: float

    def take(self, headers: Headers, body: bytes, answer: Answer) -> None:
        """A request that came whole."""
        ...

    def too_slow(self, headers: Headers, answer: Answer) -> None:
        """Its body did not come in time."""
        ...


_UNUSUAL: Final = frozenset({b"transfer-encoding", b"expect", b"upgrade"})
_SHORT_MAX: Final = 65_536


Write = Callable[["ShortCycle", int, Headers, bytes], None]


class ShortCycle:
    """One request on the short way. It stands where uvicorn has its own cycle, and answers to the same names."""

    def __init__(self, headers: Headers, short: Short, write: "Write", *, keep_alive: bool) -> None:
        self.headers = headers
        self.short = short
        self.write = write
        self.keep_alive = keep_alive
        self.body = b""
        self.more_body = True
        self.taken = False
        self.disconnected = False
        self.response_complete = False
        self.message_event = self

    def set(self) -> None:
        """Something came, or the connection ended: then too, uvicorn calls this, whatever was taken before."""
        if not self.more_body and not self.disconnected and not self.taken:
            self.taken = True
            self.short.take(self.headers, self.body, self.answer)

    def too_slow(self) -> None:
        self.keep_alive = False
        self.short.too_slow(self.headers, self.answer)

    def answer(self, status: int, headers: Headers, content: bytes) -> None:
        if not self.disconnected and not self.response_complete:
            self.response_complete = True
            self.write(self, status, headers, content)


class BoundedProtocol(HttpToolsProtocol):
    """Closes a connection that says nothing, or that dribbles a head, after ``head_deadline_s``. Bodies have a deadline
    of their own, and connections between two requests uvicorn's keep-alive. An application names its short requests by
    path in ``short``."""

    head_deadline_s: ClassVar[float] = 10.0
    _short: Mapping[bytes, Short] = {}
    _awaited: Part | None = None
    _timed: Part | None = None
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._short = getattr(self.app, "short", {})
        self._awaited = "head"
        self._time()

    def data_received(self, data: bytes) -> None:
        """A request that came in one piece needs no timer."""
        super().data_received(data)
        if self._awaited is not self._timed:
            self._time()

    def on_message_begin(self) -> None:
        self._awaited = "head"
        self._renew()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._unset_keepalive_if_required()  # one that came in the same piece as the request before
        short = self._short.get(self.url)
        if short is None or not self._is_short():
            self._awaited = None
            super().on_headers_complete()
            return
        self._awaited = "body"
        self._renew()
        self.cycle = ShortCycle(  # type: ignore[assignment]
            self.headers, short, self._answer, keep_alive=self.parser.should_keep_alive()
        )

    def on_message_complete(self) -> None:
        self._awaited = None
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._awaited = None
        self._time()
        super().connection_lost(exc)

    def _is_short(self) -> bool:
        if self.parser.get_method() != b"POST" or (self.cycle is not None and not self.cycle.response_complete):
            return False
        if self.flow.write_paused:  # a client that does not read: the usual way waits for it
            return False
        length = -1
        for name, value in self.headers:
            if name == b"content-length":
                length = int(value) if value.isdigit() and len(value) < 9 else -1
            elif name in _UNUSUAL:
                return False
        return 0 < length <= _SHORT_MAX

    def _answer(self, cycle: ShortCycle, status: int, headers: Headers, content: bytes) -> None:
        if self.transport.is_closing():
            return
        lines = [STATUS_LINE[status]]
        for name, value in (*self.server_state.default_headers, *headers):
            lines += (name, b": ", value, b"\r\n")
        if not cycle.keep_alive:
            lines.append(b"connection: close\r\n")
        lines += (b"content-length: %d\r\n\r\n" % len(content), content)
        self.transport.write(b"".join(lines))
        if cycle.keep_alive:
            self.on_response_complete()
        else:
            self.server_state.total_requests += 1
            self.transport.close()

    def _renew(self) -> None:
        """What is awaited now has a time of its own, also where the last thing awaited had the same name."""
        if self._timer is not None:
            self._timed = "over"

    def _time(self) -> None:
        """Sets the timer for what is awaited now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timed = self._awaited
        if self._awaited == "head":
            self._timer = self.loop.call_later(self.head_deadline_s, self._hang_up)
        elif isinstance(self.cycle, ShortCycle) and self._awaited == "body":
            self._timer = self.loop.call_later(self.cycle.short.body_deadline_s, self.cycle.too_slow)

    def _hang_up(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()

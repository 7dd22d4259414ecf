"""The load: one process, a fixed set of connections, and nothing between a request and the wire.

    python -m tidings.bench.load < plan.json > summary.json

Closed loop: each connection asks again as soon as it has its answer. Open loop: requests are due at a fixed rate
whatever the answers do, and their time counts from the instant at which they were due, so that a stalled server cannot
hide the requests that it kept from being made. Every request is kept in the client ledger (``client_ledger``).
"""

import asyncio
import gc
import resource
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import urlsplit

import httptools
import msgspec
import uvloop

from tidings.bench.client_ledger import Answered, write
from tidings.bench.figures import percentile

SINGLE_PATH: Final = "/api/v1/notifications"
BATCH_PATH: Final = "/api/v1/notifications/batch"
_TICK_S: Final = 0.001
_LOOK_S: Final = 0.01
_RECONNECT_S: Final = 0.05
_S_IN_NS: Final = 1_000_000_000


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One run. ``item`` is the JSON of a notification with two ``%d``: the user and the number of the request.

    ``batch`` 0 sends one per request, else that many. ``rate`` None is the closed loop, else requests per second.
    ``count`` bounds the requests besides ``seconds``. ``grace_s`` is how long the last answers may take.
    """

    url: str
    api_key: str
    item: str
    users: int
    key_prefix: str
    ledger: str
    connections: int = 64
    seconds: float = 10.0
    batch: int = 0
    rate: float | None = None
    count: int | None = None
    grace_s: float = 60.0


class Summary(msgspec.Struct, frozen=True):
    """What the client saw. ``accepted`` counts notifications, ``requests`` requests, ``statuses`` answers by HTTP
    status (0: none). Times are unix ns; latencies are of the answers, from when each request was due."""

    requests: int
    accepted: int
    statuses: dict[int, int]
    began_ns: int
    ended_ns: int
    p50_ms: float
    p99_ms: float
    cpu_us_per_request: float

    @property
    def seconds(self) -> float:
        return (self.ended_ns - self.began_ns) / _S_IN_NS


class Requests:
    """Builds the bytes of a request from its number, cheaply."""

    def __init__(self, plan: Plan) -> None:
        self._item = plan.item.encode()
        self._users = plan.users
        self._batch = plan.batch
        path = BATCH_PATH if plan.batch else SINGLE_PATH
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {urlsplit(plan.url).netloc}\r\nAuthorization: Bearer {plan.api_key}\r\n"
            f"Content-Type: application/json\r\nIdempotency-Key: {plan.key_prefix}-"
        )
        self._head = head.replace("%", "%%").encode() + b"%d\r\nContent-Length: %d\r\n\r\n%b"

    def bytes_of(self, number: int) -> bytes:
        body = self._several(number) if self._batch else self._item % (number % self._users, number)
        return self._head % (number, len(body), body)

    def _several(self, number: int) -> bytes:
        item, users, first = self._item, self._users, number * self._batch
        items = [item % (i % users, i) for i in range(first, first + self._batch)]
        return b'{"notifications":[%b]}' % b",".join(items)


class Pace(Protocol):
    """When the next request is due."""

    issued: int

    def take(self, now_ns: int) -> int | None:
        """The unix ns at which the next request was due, None when none is."""
        ...

    def over(self, now_ns: int) -> bool:
        """No further request will be due."""
        ...

    def wait_s(self, now_ns: int) -> float:
        """How long idle connections may sleep."""
        ...


class ClosedLoop:
    """Always due, until the time or the number is used up."""

    def __init__(self, plan: Plan, began_ns: int) -> None:
        self.issued = 0
        self._until_ns = began_ns + int(plan.seconds * _S_IN_NS)
        self._count = plan.count if plan.count is not None else sys.maxsize

    def take(self, now_ns: int) -> int | None:
        if self.over(now_ns):
            return None
        self.issued += 1
        return now_ns

    def over(self, now_ns: int) -> bool:
        return now_ns >= self._until_ns or self.issued >= self._count

    def wait_s(self, now_ns: int) -> float:
        return _LOOK_S


class OpenLoop:
    """Due at a fixed rate, whatever the answers do."""

    def __init__(self, plan: Plan, began_ns: int) -> None:
        self.issued = 0
        self._began_ns = began_ns
        self._step_ns = _S_IN_NS / (plan.rate or 1.0)
        planned = int(plan.seconds * (plan.rate or 1.0))
        self._count = planned if plan.count is None else min(plan.count, planned)

    def take(self, now_ns: int) -> int | None:
        due_ns = self._due_ns()
        if self.over(now_ns) or due_ns > now_ns:
            return None
        self.issued += 1
        return due_ns

    def over(self, now_ns: int) -> bool:
        return self.issued >= self._count

    def wait_s(self, now_ns: int) -> float:
        return min(_LOOK_S, max(_TICK_S, (self._due_ns() - now_ns) / _S_IN_NS))

    def _due_ns(self) -> int:
        return self._began_ns + int(self.issued * self._step_ns)


class Connection(asyncio.Protocol):
    """One keep-alive connection with at most one request on it."""

    def __init__(self, run: "Run") -> None:
        self._run = run
        self._transport: asyncio.WriteTransport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._body = b""
        self._number = -1
        self._due_ns = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def ask(self, number: int, due_ns: int, request: bytes) -> None:
        self._number, self._due_ns = number, due_ns
        if self._transport is not None:
            self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self._body = self._body + body if self._body else body

    def on_message_complete(self) -> None:
        answered = Answered(self._number, self._due_ns, time.time_ns(), self._parser.get_status_code(), self._body)
        self._number, self._body = -1, b""
        self._run.answered(self, answered)

    def connection_lost(self, exc: Exception | None) -> None:
        lost = Answered(self._number, self._due_ns, time.time_ns(), 0, b"") if self._number >= 0 else None
        self._number = -1
        self._run.lost(self, lost)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class Run:
    """The connections, the pace, and what came back."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.answers: list[Answered] = []
        self.began_ns = 0
        self._requests = Requests(plan)
        self._pace: Pace = ClosedLoop(plan, 0)
        self._idle: list[Connection] = []
        self._outstanding: dict[Connection, tuple[int, int]] = {}
        self._finished = asyncio.get_running_loop().create_future()

    async def go(self) -> None:
        """Raises OSError when the first connections cannot be made."""
        self._idle = [await self._connect() for _ in range(self.plan.connections)]
        self.began_ns = time.time_ns()
        self._pace = (OpenLoop if self.plan.rate else ClosedLoop)(self.plan, self.began_ns)
        self._tick()
        await asyncio.wait({self._finished}, timeout=self.plan.seconds + self.plan.grace_s)
        now_ns = time.time_ns()
        self.answers += [Answered(number, due, now_ns, 0, b"") for number, due in self._outstanding.values()]

    async def _connect(self) -> Connection:
        target = urlsplit(self.plan.url)
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: Connection(self), target.hostname or "", target.port or 80)
        return connection

    def _tick(self) -> None:
        """Wakes idle connections for what has come due; the loop's clock is the open loop's only cause."""
        while self._idle and self._ask(self._idle[-1]):
            self._idle.pop()
        if not self._finish():
            asyncio.get_running_loop().call_later(self._pace.wait_s(time.time_ns()), self._tick)

    def _ask(self, connection: Connection) -> bool:
        due_ns = self._pace.take(time.time_ns())
        if due_ns is None:
            return False
        number = self._pace.issued - 1
        self._outstanding[connection] = (number, due_ns)
        connection.ask(number, due_ns, self._requests.bytes_of(number))
        return True

    def _finish(self) -> bool:
        if not self._outstanding and self._pace.over(time.time_ns()) and not self._finished.done():
            self._finished.set_result(None)
        return self._finished.done()

    def answered(self, connection: Connection, answer: Answered) -> None:
        self.answers.append(answer)
        del self._outstanding[connection]
        if not self._ask(connection):
            self._idle.append(connection)

    def lost(self, connection: Connection, answer: Answered | None) -> None:
        """A connection went away, with or without a request on it; another takes its place."""
        if answer is not None and self._outstanding.pop(connection, None) is not None:
            self.answers.append(answer)
        if connection in self._idle:
            self._idle.remove(connection)
        if not self._finished.done():
            asyncio.get_running_loop().call_later(_RECONNECT_S, self._reconnect)

    def _reconnect(self) -> None:
        if not self._finished.done():
            asyncio.ensure_future(self._connect()).add_done_callback(self._reconnected)

    def _reconnected(self, attempt: "asyncio.Task[Connection]") -> None:
        if attempt.exception() is None:
            self._idle.append(attempt.result())
        else:
            asyncio.get_running_loop().call_later(_RECONNECT_S, self._reconnect)


async def _measure(plan: Plan) -> Summary:
    run = Run(plan)
    cpu_before_s = _cpu_s()
    await run.go()
    cpu_s = _cpu_s() - cpu_before_s
    accepted = write(Path(plan.ledger), plan.key_prefix, plan.batch, run.answers)
    took_ms = sorted((answer.answered_ns - answer.due_ns) / 1e6 for answer in run.answers if answer.status)
    return Summary(
        requests=len(run.answers),
        accepted=accepted,
        statuses=dict(Counter(answer.status for answer in run.answers)),
        began_ns=run.began_ns,
        ended_ns=max((answer.answered_ns for answer in run.answers), default=run.began_ns),
        p50_ms=percentile(took_ms, 0.50),
        p99_ms=percentile(took_ms, 0.99),
        cpu_us_per_request=cpu_s / max(1, len(run.answers)) * 1e6,
    )


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    plan = msgspec.json.decode(sys.stdin.buffer.read(), type=Plan)
    gc.disable()
    summary = uvloop.run(_measure(plan))
    sys.stdout.buffer.write(msgspec.json.encode(summary) + b"\n")


if __name__ == "__main__":
    main()

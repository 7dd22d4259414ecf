"""The bare delivery: claim a batch, make one call for each, finish a batch.

python -m tidings.bench.limit.worker DSN PROVIDER_URL      prints "ready"
"""

import asyncio
import signal
import sys
from collections import deque
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg
import httptools
import minijinja
import msgspec
import uvloop

CLAIM_ROWS: Final = 200
FINISH_ROWS: Final = 200
CALLS: Final = 128
_IDLE_S: Final = 0.005
_SESSION: Final = {
    "synchronous_commit": "local",
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
}
_CLAIM: Final = """
WITH due AS MATERIALIZED (
    SELECT id FROM work WHERE status = 0 AND due_at <= now() ORDER BY due_at LIMIT $1 FOR UPDATE SKIP LOCKED
)
UPDATE work w SET status = 1, due_at = now() + interval '60 s'
FROM due, person p WHERE w.id = due.id AND p.user_id = w.user_id RETURNING w.id, w.data, p.email
"""
_FINISH: Final = """
UPDATE work w SET status = 2, message_id = r.message_id, sent_at = now()
FROM unnest($1::uuid[], $2::text[]) r(id, message_id) WHERE w.id = r.id
"""
_TEMPLATE: Final = "<h1>Hello {{ name }}</h1><p>Your order {{ order }} of {{ total }} is confirmed.</p>"


class Connection(asyncio.Protocol):
    """One keep-alive connection to the provider with at most one call on it."""

    def __init__(self, worker: "Worker") -> None:
        self._worker = worker
        self._transport: Any = None
        self._parser = httptools.HttpResponseParser(self)
        self._id: UUID | None = None
        self._message_id = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def call(self, id_: UUID, request: bytes) -> None:
        self._id = id_
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        if name == b"X-Message-Id":
            self._message_id = value.decode()

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() != 202 or self._id is None:
            raise SystemExit("the provider did not answer 202")
        self._worker.called(self, self._id, self._message_id)


class Worker:
    """Claims ahead of the calls, calls ahead of the finishes; each step waits only for the one before it."""

    def __init__(self, pool: "asyncpg.Pool[Any]", provider: str) -> None:
        self._pool = pool
        self._provider = urlsplit(provider)
        self._free: list[Connection] = []
        self._claimed: deque[tuple[UUID, bytes]] = deque()
        self._done: list[tuple[UUID, str]] = []
        self._wanted = asyncio.Event()
        self._finishable = asyncio.Event()
        self._templates = minijinja.Environment(templates={"order": _TEMPLATE})
        self._head = (
            f"POST /v3/mail/send HTTP/1.1\r\nHost: {self._provider.netloc}\r\nAuthorization: Bearer SG.limit\r\n"
            "Content-Type: application/json\r\nContent-Length: "
        ).encode()

    async def connect(self) -> None:
        loop = asyncio.get_running_loop()
        host, port = self._provider.hostname or "", self._provider.port or 80
        for _ in range(CALLS):
            _, connection = await loop.create_connection(lambda: Connection(self), host, port)
            self._free.append(connection)

    async def claim_for_ever(self) -> None:
        while True:
            rows = await self._pool.fetch(_CLAIM, CLAIM_ROWS)
            self._claimed.extend((row["id"], self._request(row)) for row in rows)
            self._call()
            if not rows:
                await asyncio.sleep(_IDLE_S)
            if len(self._claimed) >= CLAIM_ROWS:
                self._wanted.clear()
                await self._wanted.wait()

    def _request(self, row: "asyncpg.Record") -> bytes:
        html = self._templates.render_template("order", **msgspec.json.decode(row["data"]))
        body = msgspec.json.encode(
            {
                "personalizations": [{"to": [{"email": row["email"]}], "custom_args": {"ref": f"{row['id'].hex}-1"}}],
                "from": {"email": "shop@example.com"},
                "subject": "Your order",
                "content": [{"type": "text/html", "value": html}],
            }
        )
        return self._head + b"%d\r\n\r\n%b" % (len(body), body)

    def _call(self) -> None:
        while self._free and self._claimed:
            self._free.pop().call(*self._claimed.popleft())
        if len(self._claimed) < CLAIM_ROWS:
            self._wanted.set()

    def called(self, connection: Connection, id_: UUID, message_id: str) -> None:
        self._done.append((id_, message_id))
        self._free.append(connection)
        self._finishable.set()
        self._call()

    async def finish_for_ever(self) -> None:
        while True:
            await self._finishable.wait()
            rows, self._done = self._done[:FINISH_ROWS], self._done[FINISH_ROWS:]
            await self._pool.execute(_FINISH, [id_ for id_, _ in rows], [message_id for _, message_id in rows])
            if not self._done:
                self._finishable.clear()


async def work(dsn: str, provider: str) -> None:
    """Runs until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with asyncpg.create_pool(dsn, min_size=3, max_size=3, server_settings=_SESSION) as pool:
        worker = Worker(pool, provider)
        await worker.connect()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        steps = [asyncio.ensure_future(step()) for step in (worker.claim_for_ever, worker.finish_for_ever)]
        stopped = asyncio.ensure_future(stop.wait())
        ended, _ = await asyncio.wait({stopped, *steps}, return_when=asyncio.FIRST_COMPLETED)
        for step in steps:
            step.cancel()
        for part in ended:
            part.result()


if __name__ == "__main__":
    uvloop.run(work(sys.argv[1], sys.argv[2]))

"""The bare accept: read, store in one statement with whatever else has gathered, answer after the commit.

python -m tidings.bench.limit.api DSN      prints "listening PORT"
"""

import asyncio
import random
import socket
import sys
import time
from typing import Any, Final

import asyncpg
import msgspec
import uvicorn
import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tidings.bench.load import BATCH_PATH, SINGLE_PATH
from tidings.domain.ids import Slot, compose

FLUSH_ROWS: Final = 200
FLUSHES: Final = 2
_ACCEPT: Final = """
WITH asked AS (SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bytea[]) a(id, user_id, key, data)),
fresh AS (
    INSERT INTO accept_key (user_id, key, id) SELECT user_id, key, id FROM asked
    ON CONFLICT (user_id, key) DO NOTHING RETURNING id
)
INSERT INTO work (id, user_id, data) SELECT id, user_id, data FROM asked JOIN fresh USING (id)
"""


class Item(msgspec.Struct):
    to: str
    data: msgspec.Raw


class Batch(msgspec.Struct):
    notifications: list[Item]


Row = tuple[Any, str, str, bytes]


class Accept:
    """Gathers rows while the last flushes are under way; a request is answered when its rows are committed."""

    def __init__(self, pool: "asyncpg.Pool[Any]") -> None:
        self._pool = pool
        self._waiting: asyncio.Queue[tuple[list[Row], asyncio.Future[None]]] = asyncio.Queue()
        self._one = msgspec.json.Decoder(Item)
        self._many = msgspec.json.Decoder(Batch)

    async def flush_for_ever(self) -> None:
        while True:
            gathered = [await self._waiting.get()]
            count = len(gathered[0][0])
            while count < FLUSH_ROWS and not self._waiting.empty():
                gathered.append(self._waiting.get_nowait())
                count += len(gathered[-1][0])
            await self._store([row for rows, _ in gathered for row in rows])
            for _, stored in gathered:
                stored.set_result(None)

    async def _store(self, rows: list[Row]) -> None:
        await self._pool.execute(_ACCEPT, *(list(column) for column in zip(*rows, strict=True)))

    async def _stored(self, rows: list[Row]) -> None:
        stored = asyncio.get_running_loop().create_future()
        self._waiting.put_nowait((rows, stored))
        await stored

    async def one(self, request: Request) -> Response:
        row = _row(self._one.decode(await request.body()), request.headers["idempotency-key"])
        await self._stored([row])
        return Response(b'{"id":"%b","status":"queued"}' % str(row[0]).encode(), 202, media_type="application/json")

    async def batch(self, request: Request) -> Response:
        key = request.headers["idempotency-key"]
        items = self._many.decode(await request.body()).notifications
        rows = [_row(item, f"{key}:{index}") for index, item in enumerate(items)]
        await self._stored(rows)
        results = [{"id": row[0], "status": "queued"} for row in rows]
        return Response(msgspec.json.encode({"results": results}), 202, media_type="application/json")


def _row(item: Item, key: str) -> Row:
    id_ = compose(Slot(0), time.time_ns() // 1_000_000, random.getrandbits(62))
    return id_, item.to, key, bytes(item.data)


async def serve(dsn: str) -> None:
    """Runs until it is told to stop."""
    async with asyncpg.create_pool(dsn, min_size=FLUSHES, max_size=FLUSHES) as pool:
        accept = Accept(pool)
        routes = [Route(SINGLE_PATH, accept.one, methods=["POST"]), Route(BATCH_PATH, accept.batch, methods=["POST"])]
        config = uvicorn.Config(Starlette(routes=routes), http="httptools", access_log=False, log_level="warning")
        listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
        sys.stdout.write(f"listening {listener.getsockname()[1]}\n")
        sys.stdout.flush()
        flushes = [asyncio.ensure_future(accept.flush_for_ever()) for _ in range(FLUSHES)]
        server = asyncio.ensure_future(uvicorn.Server(config).serve(sockets=[listener]))
        ended, _ = await asyncio.wait({server, *flushes}, return_when=asyncio.FIRST_COMPLETED)
        for flush in flushes:
            flush.cancel()
        for part in ended:
            part.result()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1]))

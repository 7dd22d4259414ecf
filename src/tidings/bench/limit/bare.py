"""The bare loop as a subject: its schema in a database of its own, its API and its worker as children."""

import asyncio
import struct
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib import resources
from typing import Final

import asyncpg

from tidings.bench.ledger import Attempt, Database, Delivery, Rules
from tidings.bench.ledger_rows import copy_rows
from tidings.bench.standin import StandIn
from tidings.bench.subject import child
from tidings.domain.delivery import Mark
from tidings.domain.ids import first_at

ITEM: Final = '{"to":"bench-user-%d","template":"order","data":{"name":"Ada","order":"A-%d","total":"12.50"}}'
_FINISHED: Final = 2
_WORK: Final = ("SELECT id, status FROM work WHERE id >= $1", struct.Struct(">2x 4x16s 4xh"))


class BareLoop:
    """One table, one API process, one worker process. Its finished row is its attempt."""

    name = "bare loop"
    api_key = "none"
    item = ITEM

    def __init__(self, dsn: str, provider: StandIn, url: str, roots: Mapping[str, Sequence[int]]) -> None:
        self.url = url
        self.provider = provider
        self._dsn = dsn
        self._roots = {**roots, "stand_in": [provider.pid]}

    def roots(self) -> Mapping[str, Sequence[int]]:
        return self._roots

    def unfinished(self, since_unix_ms: int) -> int:
        return asyncio.run(self._unfinished(since_unix_ms))

    def database(self, since_unix_ms: int) -> Database:
        return asyncio.run(self._database(since_unix_ms))

    def rules(self) -> Rules:
        return Rules()

    async def _unfinished(self, since_unix_ms: int) -> int:
        connection = await asyncpg.connect(self._dsn)
        try:
            query = "SELECT count(*) FROM work WHERE id >= $1 AND status <> 2"
            return int(await connection.fetchval(query, first_at(since_unix_ms)))
        finally:
            await connection.close()

    async def _database(self, since_unix_ms: int) -> Database:
        connection = await asyncpg.connect(self._dsn)
        try:
            rows = list(await copy_rows(connection, *_WORK, first_at(since_unix_ms)))
        finally:
            await connection.close()
        marks = {id_: Mark.sent if status == _FINISHED else Mark.pending for id_, status in rows}
        deliveries = {id_: Delivery(id_, 1, mark) for id_, mark in marks.items()}
        attempts = {(id_, 1): Attempt(0, sent=True) for id_, mark in marks.items() if mark == Mark.sent}
        return Database(dict.fromkeys(marks, 1), deliveries, {}, attempts)


@contextmanager
def bare_loop(dsn: str, provider: StandIn, postgres: Sequence[int]) -> Iterator[BareLoop]:
    """The loop on an empty database, whose server has these pids; ended at the end. Raises OSError."""
    asyncio.run(_prepare(dsn))
    with ExitStack() as stack:
        api, line = stack.enter_context(child([sys.executable, "-m", "tidings.bench.limit.api", dsn]))
        worker_command = [sys.executable, "-m", "tidings.bench.limit.worker", dsn, provider.url]
        worker, _ = stack.enter_context(child(worker_command))
        roots = {"api": [api.pid], "worker": [worker.pid], "postgres": postgres}
        yield BareLoop(dsn, provider, f"http://127.0.0.1:{line.split()[1]}", roots)


async def _prepare(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(resources.files("tidings.bench.limit").joinpath("schema.sql").read_text())
    finally:
        await connection.close()

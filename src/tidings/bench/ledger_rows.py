"""The database's ledger: all shards read in binary, half a million rows in a second or two."""

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final
from uuid import UUID

import asyncpg

from tidings.bench.ledger import Attempt, Database, Delivery, Receipt
from tidings.domain.ids import first_at

_HEADER_BYTES: Final = 19
_TRAILER_BYTES: Final = 2

# A COPY in binary: a count of fields, then for each its length and its bytes. No field is null, so every row is as
# wide as the next.
_NOTIFICATIONS: Final = (
    "SELECT id, tenant FROM notification WHERE id >= $1",
    struct.Struct(">2x 4x16s 4xi"),
)
_DELIVERIES: Final = (
    "SELECT id, notification_id, tenant, status, duplicate_possible FROM delivery WHERE id >= $1",
    struct.Struct(">2x 4x16s 4x16s 4xi 4xh 4x?"),
)
_DISPATCHES: Final = (
    "SELECT id, state FROM dispatch WHERE id >= $1",
    struct.Struct(">2x 4x16s 4xh"),
)
_ATTEMPTS: Final = (
    "SELECT delivery_id, n, provider, outcome = 'sent' FROM attempt WHERE delivery_id >= $1",
    struct.Struct(">2x 4x16s 4xh 4xh 4x?"),
)
_RECEIPTS: Final = (
    "SELECT delivery_id, coalesce(status, 0::smallint) FROM receipt WHERE delivery_id >= $1",
    struct.Struct(">2x 4x16s 4xh"),
)


async def read_database(dsns: Sequence[str], since_unix_ms: int = 0) -> Database:
    """What the databases hold of everything accepted since then. A DSN that is no shard (the control database) is
    passed over. Raises OSError or ``asyncpg.PostgresError`` when one cannot be read."""
    shards = [shard for dsn in dsns if (shard := await _read_shard(dsn, first_at(since_unix_ms)))]
    return Database(
        _merged(shard.notifications for shard in shards),
        _merged(shard.deliveries for shard in shards),
        _merged(shard.dispatches for shard in shards),
        _merged(shard.attempts for shard in shards),
        [receipt for shard in shards for receipt in shard.receipts],
    )


async def read_accounts(dsns: Sequence[str]) -> dict[int, int]:
    """Account → tenant, from the one of these databases that is the control database."""
    accounts: dict[int, int] = {}
    for dsn in dsns:
        connection = await asyncpg.connect(dsn)
        try:
            if await _has_table(connection, "account"):
                accounts |= {
                    row["id"]: row["tenant"] for row in await connection.fetch("SELECT id, tenant FROM account")
                }
        finally:
            await connection.close()
    return accounts


async def count_unfinished(dsns: Sequence[str], since_unix_ms: int = 0) -> int:
    """How many dispatches are still to be worked on; the dead ones are not."""
    unfinished = 0
    for dsn in dsns:
        connection = await asyncpg.connect(dsn)
        try:
            if await _has_table(connection, "dispatch"):
                query = "SELECT count(*) FROM dispatch WHERE id >= $1 AND state <> 4"
                unfinished += await connection.fetchval(query, first_at(since_unix_ms))
        finally:
            await connection.close()
    return unfinished


def _merged(parts: Iterable[Any]) -> dict[Any, Any]:
    together: dict[Any, Any] = {}
    for part in parts:
        together.update(part)
    return together


async def _read_shard(dsn: str, since: UUID) -> Database | None:
    connection = await asyncpg.connect(dsn)
    try:
        if not await _has_table(connection, "notification"):
            return None
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            return await _read_tables(connection, since)
    finally:
        await connection.close()


async def _has_table(connection: "asyncpg.Connection[Any]", name: str) -> bool:
    return bool(await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", name))


async def _read_tables(connection: "asyncpg.Connection[Any]", since: UUID) -> Database:
    return Database(
        dict(await copy_rows(connection, *_NOTIFICATIONS, since)),
        {id_: Delivery(*rest) for id_, *rest in await copy_rows(connection, *_DELIVERIES, since)},
        dict(await copy_rows(connection, *_DISPATCHES, since)),
        {(id_, n): Attempt(account, sent) for id_, n, account, sent in await copy_rows(connection, *_ATTEMPTS, since)},
        [Receipt(*row) for row in await copy_rows(connection, *_RECEIPTS, since)],
    )


async def copy_rows(
    connection: "asyncpg.Connection[Any]", query: str, row: struct.Struct, since: UUID
) -> Iterator[tuple[Any, ...]]:
    copied = bytearray()

    async def keep(part: bytes) -> None:
        copied.extend(part)

    await connection.copy_from_query(query, since, output=keep, format="binary")
    return row.iter_unpack(memoryview(copied)[_HEADER_BYTES:-_TRAILER_BYTES])

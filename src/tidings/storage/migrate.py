"""Migrations: numbered SQL files, each applied once and in its own transaction, per database."""

from collections.abc import Sequence
from importlib.resources import files
from typing import Final, Literal

import asyncpg
import msgspec
from xxhash import xxh3_64_intdigest

from tidings.domain.ids import ShardNumber
from tidings.storage.shards import Connection, Shards, named

Kind = Literal["control", "shard"]
_LOCK: Final = xxh3_64_intdigest(b"tidings.migrate") >> 1
_TABLE: Final = """
CREATE TABLE IF NOT EXISTS schema_migration (
    number     integer     PRIMARY KEY,
    name       text        NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)
"""


class Migration(msgspec.Struct, frozen=True):
    number: int
    name: str
    sql: str


def known(kind: Kind) -> Sequence[Migration]:
    """The packaged migrations of a kind of database, in order."""
    folder = files("tidings.storage").joinpath("migrations", kind)
    found = [(entry.name, entry) for entry in folder.iterdir() if entry.name.endswith(".sql")]
    return [Migration(int(name[:4]), name[5:-4], entry.read_text()) for name, entry in sorted(found)]


async def migrate(dsn: str, kind: Kind, upto: int | None = None) -> Sequence[str]:
    """Applies what is missing and returns the names; several may run at once. Everything below ``upto`` or all. Raises
    SettingsError without a DSN."""
    connection = await asyncpg.connect(named(dsn))
    try:
        await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)
        await connection.execute(_TABLE)
        done = {row["number"] for row in await connection.fetch("SELECT number FROM schema_migration")}
        missing = [one for one in known(kind) if one.number not in done and (upto is None or one.number <= upto)]
        for migration in missing:
            await _apply(connection, migration)
        return [migration.name for migration in missing]
    finally:
        await connection.close()


async def _apply(connection: Connection, migration: Migration) -> None:
    async with connection.transaction():
        await connection.execute("SET LOCAL lock_timeout = '5s'")
        await connection.execute(migration.sql)
        await connection.execute(
            "INSERT INTO schema_migration (number, name) VALUES ($1, $2)", migration.number, migration.name
        )


async def behind(dsn: str, kind: Kind) -> Sequence[str]:
    """The migrations that this database still lacks."""
    connection = await asyncpg.connect(dsn)
    try:
        if await connection.fetchval("SELECT to_regclass('schema_migration')") is None:
            return [migration.name for migration in known(kind)]
        done = {row["number"] for row in await connection.fetch("SELECT number FROM schema_migration")}
        return [migration.name for migration in known(kind) if migration.number not in done]
    finally:
        await connection.close()


async def make_partitions(shards: Shards, shard: ShardNumber, ahead_days: int) -> int:
    """Partitions from yesterday, for late clocks, to so many days ahead. Returns how many were made."""
    rows = await shards.fetch(shard, "SELECT make_partitions(current_date - 1, $1) AS made", ahead_days + 2)
    return int(rows[0]["made"])

"""Migrations per database: twice, and from every earlier state."""

import asyncpg
import pytest

from tidings.storage.migrate import behind, known, migrate

SHAPE = """
SELECT table_name, column_name, data_type, is_nullable, column_default FROM information_schema.columns
WHERE table_schema = 'public' ORDER BY 1, 2
"""


async def shape(dsn: str) -> list[tuple]:
    connection = await asyncpg.connect(dsn)
    try:
        return [tuple(row) for row in await connection.fetch(SHAPE)]
    finally:
        await connection.close()


@pytest.mark.parametrize("kind", ["control", "shard"])
async def test_applied_twice_the_second_time_changes_nothing(postgres, kind):
    dsn = postgres.dsn(await postgres.create_database())
    assert await behind(dsn, kind) == [one.name for one in known(kind)]
    assert await migrate(dsn, kind) == [one.name for one in known(kind)]
    before = await shape(dsn)
    assert await migrate(dsn, kind) == []
    assert await shape(dsn) == before
    assert await behind(dsn, kind) == []


@pytest.mark.parametrize(
    ("kind", "state"), [(kind, n) for kind in ("control", "shard") for n in range(len(known(kind)))]
)
async def test_every_earlier_state_leads_to_the_same_schema(postgres, kind, state):
    fresh = postgres.dsn(await postgres.create_database())
    older = postgres.dsn(await postgres.create_database())
    await migrate(fresh, kind)
    await migrate(older, kind, upto=state)
    await migrate(older, kind)
    assert await shape(older) == await shape(fresh)


@pytest.mark.parametrize("kind", ["control", "shard"])
async def test_migrations_are_numbered_without_gaps(kind):
    assert [one.number for one in known(kind)] == list(range(1, len(known(kind)) + 1))


async def test_partitions_are_made_once_and_hold_the_ids_of_their_day(two):
    async with two.open() as shards:
        for number in shards.numbers:
            rows = await shards.fetch(number, "SELECT make_partitions(current_date - 1, 4) AS made")
            assert rows[0]["made"] == 0
            (found,) = await shards.fetch(
                number,
                "SELECT first_id(current_date) AS first, pg_get_expr(relpartbound, oid) AS bound FROM pg_class "
                "WHERE relname = 'notification' || to_char(current_date, '_YYYYMMDD')",
            )
            assert str(found["first"]) in found["bound"]

"""The statements of the hot path have one plan, whatever the planner believes of the tables: that one is empty, was
never looked at, was nearly empty when it was. Each row is found by its key; nothing walks from bound to bound, or
through the queue."""

import re
from collections.abc import AsyncIterator, Iterator, Sequence

import asyncpg
import pytest
import pytest_asyncio

from tests.integration.shards import prepare
from tidings.storage.shards import BY_ID
from tidings.storage.sql import load_statements

STATEMENTS = ("claim", "load", "mark", "settle", "give_back", "hand_back_doubt")
ROWS = (0, 1, 3, 30, 3000)
FILL = """
WITH numbers AS (
    SELECT (substr(first_id(current_date)::text, 1, 14) || '7' || lpad(to_hex(n % 2048), 3, '0') || '-8000-'
            || lpad(to_hex(n), 12, '0'))::uuid AS id
    FROM generate_series(1, $1::int) n
), notifications AS (
    INSERT INTO notification (id, slot, tenant, user_id, category, payload) SELECT id, 1, 1, 'ada', 1, '{}' FROM numbers
), deliveries AS (
    INSERT INTO delivery (id, notification_id, tenant, channel) SELECT id, id, 1, 1 FROM numbers
)
INSERT INTO dispatch (id, home, lane) SELECT id, 10, 10 FROM numbers
"""
TABLES = ("dispatch", "delivery", "notification")
HELD_BY_A_KEY = re.compile(r"\b(id = |lane = )")
SCANNED = re.compile(r"Scan.* on (dispatch|delivery|notification)(_\d+)? ")
WALKS = "SELECT * FROM delivery v JOIN unnest($1::uuid[]) AS r(id) ON v.id = r.id AND v.id BETWEEN $2 AND $3"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def shard(postgres) -> AsyncIterator[asyncpg.Connection]:
    two = await prepare(postgres)
    connection = await asyncpg.connect(two.shard_dsns[0], server_settings=dict(BY_ID))
    await connection.execute("ALTER TABLE dispatch SET (autovacuum_enabled = false)")
    yield connection
    await connection.close()


async def plan_of(shard: asyncpg.Connection, statement: str) -> list[str]:
    numbers = [int(number) for number in re.findall(r"\$(\d+)", statement)]
    await shard.execute(f"PREPARE looked_at AS {statement}")
    try:
        nothing = ", ".join(["NULL"] * max(numbers))
        return [row[0] for row in await shard.fetch(f"EXPLAIN EXECUTE looked_at({nothing})", timeout=10)]
    finally:
        await shard.execute("DEALLOCATE looked_at")


def walks(plan: Sequence[str]) -> Iterator[str]:
    """The scans of the plan that no key holds, and the joins that compare every row with every other."""
    for n, line in enumerate(plan):
        conditions = " ".join(plan[n + 1 : n + 3])
        if SCANNED.search(line) and not HELD_BY_A_KEY.search(conditions):
            yield line.strip()
        if "Join Filter" in line and ".id = " in line:
            yield line.strip()


@pytest.mark.parametrize("name", STATEMENTS)
async def test_no_statement_of_the_hot_path_walks_a_table_that_nobody_has_analysed(shard, name: str):
    plan = await plan_of(shard, load_statements("dispatch")[name])
    assert list(walks(plan)) == [], "\n".join(plan)


@pytest.mark.parametrize("rows", ROWS)
async def test_no_statement_of_the_hot_path_walks_a_table_that_was_analysed_when_it_was_small(shard, rows: int):
    await shard.execute(f"TRUNCATE {', '.join(TABLES)}")
    await shard.execute(FILL, rows)
    for table in TABLES:
        await shard.execute(f"VACUUM ANALYZE {table}")
    for name in STATEMENTS:
        plan = await plan_of(shard, load_statements("dispatch")[name])
        assert list(walks(plan)) == [], f"{name}:\n" + "\n".join(plan)


async def test_a_plain_join_within_bounds_would_be_noticed(shard):
    await shard.execute(f"TRUNCATE {', '.join(TABLES)}")
    plan = await plan_of(shard, WALKS)
    assert list(walks(plan)), "\n".join(plan)

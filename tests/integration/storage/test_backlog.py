"""A claim keeps its plan and its speed on a backlog that the planner has never heard of."""

import statistics
import time

import pytest_asyncio

from tests.integration.shards import prepare
from tidings.domain.lanes import Channel, Class, lane_of
from tidings.storage.dispatches import DispatchStore
from tidings.storage.shards import BY_ID

BACKLOG = 200_000
LANE = lane_of(Channel.email, Class.transactional)
FILL = """
WITH numbers AS (
    SELECT n, (substr(first_id(current_date)::text, 1, 14) || '7' || lpad(to_hex(n % 2048), 3, '0') || '-8000-'
               || lpad(to_hex(n), 12, '0'))::uuid AS id
    FROM generate_series($1::int, $2::int) n
), notifications AS (
    INSERT INTO notification (id, slot, tenant, user_id, category, payload)
    SELECT id, n % 2048, 1, 'user-' || n, 1, '{}' FROM numbers
), deliveries AS (
    INSERT INTO delivery (id, notification_id, tenant, channel, address)
    SELECT id, id, 1, 1, 'user@example.com' FROM numbers
)
INSERT INTO dispatch (id, home, lane, due_at) SELECT id, 10, 10, now() - n * interval '1 ms' FROM numbers
"""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def fresh(postgres):
    """A shard whose queue was empty when it was last analysed."""
    two = await prepare(postgres)
    await two.rows("ALTER TABLE dispatch SET (autovacuum_enabled = false)")
    await two.rows("ANALYZE dispatch")
    return two


async def claims_ms(two, times: int, oldest: int) -> list[float]:
    async with two.open(BY_ID, size=1) as shards:
        store = DispatchStore(shards, shards, 60.0, 20.0)
        took = []
        for n in range(times):
            began = time.perf_counter()
            held = await store.claim(two.numbers[0], {LANE: 200}, n + 1)
            took.append((time.perf_counter() - began) * 1000)
            numbers = sorted(int(one.user.removeprefix("user-")) for one in held)
            assert numbers == list(range(oldest - 199, oldest + 1)), "the oldest come first"
            oldest -= 200
        return took


async def test_a_backlog_written_since_the_last_analyze_is_claimed_as_fast_as_a_short_queue(fresh):
    async with fresh.open() as shards:
        await shards.fetch(fresh.numbers[0], FILL, 1, 5_000)
        short = statistics.median(await claims_ms(fresh, 20, 5_000))
        await shards.fetch(fresh.numbers[0], FILL, 5_001, 5_000 + BACKLOG)
        (known,) = await shards.fetch(fresh.numbers[0], "SELECT reltuples FROM pg_class WHERE relname = 'dispatch'")
        assert known["reltuples"] <= 0, "the planner must not have heard of the backlog"
    long = statistics.median(await claims_ms(fresh, 20, 5_000 + BACKLOG))
    assert long < 4 * short, f"{long:.1f} ms instead of {short:.1f} ms for 200 of a backlog of {BACKLOG}"

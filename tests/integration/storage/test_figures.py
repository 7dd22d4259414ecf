"""How much waits in a shard: exact while it is little, close when it is much, and never dear."""

import json

import pytest
import pytest_asyncio
from msgspec.structs import replace

from tidings.domain.errors import Unavailable
from tidings.domain.figures import Buried
from tidings.domain.ids import ShardNumber
from tidings.domain.lanes import DEAD, IN_DOUBT, Channel, Class, lane_of, sending_lanes
from tidings.storage.figures import Accounts, Figures
from tidings.storage.migrate import migrate
from tidings.storage.shards import BY_ID, FEW_OF_MANY, Shards, open_pool
from tidings.storage.sql import load_statements

SHARD = ShardNumber(0)
MAIL = lane_of(Channel.email, Class.transactional)
NEWS = lane_of(Channel.email, Class.promotional)
TEXT = lane_of(Channel.sms, Class.transactional)
PUT = """
INSERT INTO dispatch (id, home, lane, due_at, state, reason, provider)
SELECT gen_random_uuid(), $1::smallint, $2::smallint, now() + make_interval(secs => $3::float8), $4::smallint, $5, $6
FROM generate_series(1, $7)
"""


class Shard:
    """A migrated shard, and rows in it that nobody works off."""

    def __init__(self, shards: Shards) -> None:
        self.shards = shards
        self.figures = Figures(shards)

    async def put(self, lane: int, count: int, due_in_s: float, home: int = MAIL, state: int = 0, **why: object):
        reason, provider = why.get("reason"), why.get("provider", 0)
        await self.shards.fetch(SHARD, PUT, home, lane, due_in_s, state, reason, provider, count)

    async def count(self):
        return {one.lane: one for one in await self.figures.lanes(SHARD)}


@pytest_asyncio.fixture(params=[BY_ID, FEW_OF_MANY], ids=["relay", "command"])
async def shard(database, request):
    await migrate(database, "shard")
    shards = await Shards.open([database], 3, request.param)
    yield Shard(shards)
    await shards.close()


async def test_an_empty_shard_has_nothing_in_any_lane(shard):
    found = await shard.count()
    assert set(found) == {*sending_lanes(), IN_DOUBT, DEAD}
    assert {(one.waiting, one.due, one.oldest_due_s) for one in found.values()} == {(0, 0, 0.0)}


async def test_little_is_counted_one_by_one(shard):
    await shard.put(MAIL, 30, -60)
    await shard.put(MAIL, 12, -5)
    await shard.put(MAIL, 7, 3600)
    await shard.put(NEWS, 3, 3600)
    await shard.put(IN_DOUBT, 2, 10, state=3)
    found = await shard.count()
    assert (found[MAIL].waiting, found[MAIL].due) == (49, 42)
    assert 60 <= found[MAIL].oldest_due_s < 120
    assert (found[NEWS].waiting, found[NEWS].due, found[NEWS].oldest_due_s) == (3, 0, 0.0)
    assert found[IN_DOUBT].waiting == 2


async def test_much_is_estimated_closely_and_the_little_beside_it_is_exact(shard):
    """More pages than the estimate reads."""
    await shard.put(NEWS, 200_000, -30)
    await shard.put(TEXT, 17, -10)
    await shard.put(NEWS, 100_000, 3600)
    found = await shard.count()
    assert found[NEWS].waiting == pytest.approx(300_000, rel=0.2)
    assert found[NEWS].due == pytest.approx(200_000, rel=0.2)
    assert 30 <= found[NEWS].oldest_due_s < 300
    assert (found[TEXT].waiting, found[TEXT].due) == (17, 17)


async def test_what_is_read_is_bounded_however_much_waits(shard):
    await shard.put(NEWS, 300_000, -30)
    sql = load_statements("figures")
    (pages,) = await shard.shards.fetch(SHARD, sql["pages"])
    share = 100 * 2_000 / pages["pages"]
    assert share < 100
    read = {
        "sampled": await pages_read(shard, sql["sampled"], share),
        "lanes": await pages_read(shard, sql["lanes"], list(sending_lanes()), 5_000),
    }
    assert read["sampled"] < 3_000 < pages["pages"]
    assert read["lanes"] < 6_000, "at most a page for each that is counted, and few of the index"


async def pages_read(shard: Shard, statement: str, *values: object) -> int:
    rows = await shard.shards.fetch(SHARD, f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", *values)
    (plan,) = json.loads(rows[0][0])
    return plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"]


async def test_the_causes_of_dead_letters_are_those_of_the_last_ones(shard):
    await shard.put(DEAD, 2_000, -3600, state=4, reason="expired_long_ago", provider=1)
    await shard.put(DEAD, 800, -60, state=4, reason="attempts_used", provider=1)
    await shard.put(DEAD, 200, -30, home=TEXT, state=4)
    found = await shard.figures.buried(SHARD)
    assert sorted(found, key=lambda one: one.count) == [
        Buried("", Channel.sms, 0, 200),
        Buried("attempts_used", Channel.email, 1, 800),
    ]


async def test_a_shard_that_is_away_cannot_be_counted():
    shards = await Shards.open(["postgresql://nobody@127.0.0.1:1/none"], 1, {})
    with pytest.raises(Unavailable):
        await Figures(shards).lanes(SHARD)
    await shards.close()


async def test_accounts_are_known_by_name_without_the_master_key(two):
    pool = await open_pool(two.control_dsn, 1, {})
    try:
        found = {one.id: one for one in await Accounts(pool)()}
    finally:
        pool.terminate()
    known = two.catalog.accounts
    assert {id_: (one.name, one.channel) for id_, one in found.items() if id_ in known} == {
        id_: (one.name, one.channel) for id_, one in known.items()
    }
    acme = next(one for one in found.values() if one.name == "sendgrid")
    assert replace(acme, state_since=None).tenant == "acme"

"""What waited for an account gets its turns: on two shards, by age, at one rate, and nobody else is touched."""

import asyncio
import time
from collections import Counter
from datetime import UTC, datetime
from itertools import pairwise

import pytest
import pytest_asyncio

from tests.integration.shards import TwoShards, prepare
from tests.system import until
from tidings.domain.breaker import BreakerRules
from tidings.domain.events import LinedUp
from tidings.domain.lanes import Channel, Class, lane_of
from tidings.pipeline.health import NOBODY, Health
from tidings.pipeline.line_up import LineUp
from tidings.storage.dispatches import DispatchStore
from tidings.storage.lines import LineStore
from tidings.storage.shards import BY_ID, Shards

MAIL, NEWS = lane_of(Channel.email, Class.transactional), lane_of(Channel.email, Class.promotional)
SMS = lane_of(Channel.sms, Class.transactional)
PER_S = 20.0
OPEN = "provider_open"
RULES = BreakerRules(5, 1.0, 0.5, 20, 30.0, 60.0, 600.0, 20.0)
FILL = """
WITH numbers AS (
    SELECT n, (substr(first_id(current_date)::text, 1, 14) || '7' || lpad(to_hex($1::int % 2048), 3, '0') || '-8000-'
               || lpad(to_hex(($1::int * 1000000 + n) * 2 + $7::int), 12, '0'))::uuid AS id
    FROM generate_series(1, $2::int) n
), notifications AS (
    INSERT INTO notification (id, slot, tenant, user_id, category, payload, expires_at)
    SELECT id, $1, $3, 'user-' || n, 1, '{}', now() + $6::float8 * interval '1 s' FROM numbers
), deliveries AS (
    INSERT INTO delivery (id, notification_id, tenant, channel, address)
    SELECT id, id, $3, $4::int / 10, 'user@example.com' FROM numbers
)
INSERT INTO dispatch (id, home, lane, due_at, waits_for, reason)
SELECT id, $4, $4, now() + random() * interval '1800 s', $5, $8 FROM numbers
"""
STANDING = """
SELECT id, lane, reason, state, extract(epoch FROM due_at - now())::float8 AS due_s FROM dispatch ORDER BY lane, id
"""


class Stand:
    """One worker's view of the shards, which has just begun."""

    def __init__(self, two: TwoShards, shards: Shards) -> None:
        self.two, self.shards = two, shards
        self.dispatches = DispatchStore(shards, shards, 60.0, 20.0)
        self.events: list[object] = []
        self.groups = 0

    def line_up(self) -> LineUp:
        health = Health(lambda: self.two.catalog, self, self.events.append, RULES, 30.0, PER_S)
        return LineUp(LineStore(self.shards), health, self, self.events.append, self.two.numbers, 100)

    def boottime_s(self) -> float:
        return time.monotonic()

    def now(self) -> datetime:
        return datetime.now(UTC)

    async def put(
        self, count: int, lane: int = MAIL, *, waits_for: int | None = 0, reason=OPEN, shards=(0, 1), expires_s=None
    ):
        """So many in each of the shards, which take turns; 0: they wait for the tenant's own account."""
        tenant = self.two.tenant
        waits_for = tenant if waits_for == 0 else waits_for
        self.groups += 1
        for n in shards:
            values = (self.groups, count, waits_for or tenant, lane, waits_for, expires_s, n, reason)
            await self.shards.fetch(self.two.numbers[n], FILL, *values)

    async def standing(self, number: int = 0):
        return await self.shards.fetch(self.two.numbers[number], STANDING)

    def moved(self) -> list[int]:
        return [one.moved for one in self.events if isinstance(one, LinedUp)]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def own(postgres):
    return await prepare(postgres)


@pytest_asyncio.fixture
async def stand(own):
    for table in ("dispatch", "delivery", "notification"):
        await own.rows(f"DELETE FROM {table}")
    async with own.open(BY_ID) as shards:
        yield Stand(own, shards)


def turns_s(rows, lane=MAIL) -> list[float]:
    return [row["due_s"] for row in rows if row["lane"] == lane]


async def test_all_shards_make_one_line_transactional_first_and_in_each_class_the_older(stand):
    await stand.put(150, NEWS)
    await stand.put(250, MAIL)
    await stand.put(100, MAIL, shards=(1,))
    await stand.line_up().round()
    rows = sorted([*await stand.standing(0), *await stand.standing(1)], key=lambda row: (row["lane"], row["id"]))
    assert {row["reason"] for row in rows} == {"provider_paced"}
    assert stand.moved() == [len(rows)] == [900]
    drift_s = [row["due_s"] - n / PER_S for n, row in enumerate(rows)]
    assert max(drift_s) - min(drift_s) < 1.0, "twenty a second, and each at his place"
    assert 0 < rows[0]["due_s"] <= 1.5


async def test_to_line_up_again_moves_nobody_but_who_has_lost_his_place(stand):
    await stand.put(500)
    one = stand.line_up()
    await one.round()
    lost = (await stand.standing())[7]["id"]
    await stand.two.rows("UPDATE dispatch SET due_at = now() + interval '900 s' WHERE id = $1", lost)
    one.health.let_in([(stand.two.tenant, Channel.email)])
    await one.round()
    assert stand.moved()[1] == 1
    mail = turns_s(await stand.standing())
    assert all(0 < later - one < 0.3 for one, later in pairwise(mail))


async def test_who_waits_for_an_account_that_is_still_away_leaves_the_line_and_holds_up_nobody(stand):
    await stand.put(20)
    one = stand.line_up()
    await one.round()
    await stand.two.rows("UPDATE dispatch SET reason = 'provider_open', due_at = now() + interval '20 minutes'")
    await stand.put(3, reason="provider_backlog")

    async def formed_again() -> bool:
        await one.round()
        return len(stand.moved()) > 1

    await until(formed_again, 30, "the line to come to its end")
    assert [event.waiting for event in stand.events if isinstance(event, LinedUp)] == [40, 6]
    one.health.look()
    assert one.health.seen() == [], "six are no line"


async def test_no_turn_is_later_than_the_expiry(stand):
    await stand.put(100, expires_s=4.0)
    await stand.line_up().round()
    mail = turns_s(await stand.standing())
    assert max(mail) <= 4.0
    assert sum(one > 3.5 for one in mail) > 50


async def test_other_channels_other_tenants_and_what_waits_for_no_account_are_left_alone(stand):
    other = stand.two.tenant + 1
    await stand.put(10, SMS)
    await stand.put(10, MAIL, waits_for=other)
    await stand.put(10, MAIL, waits_for=None)
    before = {row["id"]: row["due_s"] for row in await stand.standing()}
    await stand.put(10)
    await stand.line_up().round()
    rows = await stand.standing()
    assert Counter(row["reason"] for row in rows) == {"provider_open": 30, "provider_paced": 10}
    assert all(abs(row["due_s"] - before[row["id"]]) < 5 for row in rows if row["id"] in before)
    assert stand.moved() == [20]


async def test_what_somebody_has_claimed_meanwhile_is_left_to_him(stand):
    await stand.put(30)
    await stand.two.rows("UPDATE dispatch SET due_at = now() WHERE id IN (SELECT id FROM dispatch ORDER BY id LIMIT 5)")
    lines, shard, queue = LineStore(stand.shards), stand.two.numbers[0], (stand.two.tenant, MAIL)
    read = await lines.read(shard, queue, NOBODY, 100)
    held = await stand.dispatches.claim(shard, {MAIL: 3}, 7)
    assert [one.reason for one in held] == ["provider_open"] * 3
    assert await lines.place(shard, stand.two.tenant, [one.id for one in read], [9.0] * 30) == 27
    async with stand.shards.connection(shard) as connection, connection.transaction():
        await connection.fetch("SELECT FROM dispatch WHERE state = 0 ORDER BY id LIMIT 2 FOR UPDATE")
        placed = lines.place(shard, stand.two.tenant, [one.id for one in read], [9.0] * 30)
        assert await asyncio.wait_for(placed, 10) == 25, "who is being claimed is not waited for"
    rows = await stand.standing()
    assert [row["state"] for row in rows[:5]].count(1) == 3
    assert all(row["due_s"] > 50 for row in rows if row["state"] == 1), "the hold of whoever has it"


async def test_a_line_is_read_piece_by_piece_and_so_is_who_waits_at_all(stand):
    await stand.put(7)
    await stand.put(3, NEWS)
    lines, shard, tenant = LineStore(stand.shards), stand.two.numbers[0], stand.two.tenant
    assert await lines.queues(shard) == [(tenant, MAIL), (tenant, NEWS)]
    first = await lines.read(shard, (tenant, MAIL), NOBODY, 4)
    rest = await lines.read(shard, (tenant, MAIL), first[-1].id, 4)
    assert [one.id for one in (*first, *rest)] == [row["id"] for row in await stand.standing() if row["lane"] == MAIL]
    assert await lines.read(shard, (tenant, MAIL), rest[-1].id, 4) == []
    await stand.two.rows("UPDATE dispatch SET waits_for = NULL")
    assert await lines.queues(shard) == []


async def test_the_oldest_of_each_shard_is_called_forward_to_try_an_account(stand):
    await stand.put(3, NEWS)
    await stand.put(3, MAIL)
    one = stand.line_up()
    account = next(iter(stand.two.catalog.accounts))
    await one._call(account, (stand.two.tenant, Channel.email), NOBODY)
    for number in (0, 1):
        rows = await stand.standing(number)
        assert [row["due_s"] <= 0 for row in rows] == [True] + [False] * 5
    oldest = (await stand.standing())[0]["id"]
    await one._call(account, (stand.two.tenant, Channel.email), oldest)
    assert [row["due_s"] <= 0 for row in await stand.standing()] == [True, True] + [False] * 4


async def test_a_shard_that_is_away_holds_up_no_other_and_is_lined_up_once_it_is_back(stand):
    await stand.put(50)
    gone = await Shards.open([stand.two.shard_dsns[0], "postgresql://nobody@127.0.0.1:1/gone"], 4, dict(BY_ID))
    one = stand.line_up()
    one.lines = LineStore(gone)
    await one.round()
    await gone.close()
    assert stand.moved() == [50]
    one.lines = LineStore(stand.shards)
    await one.round()
    rows = sorted([*await stand.standing(0), *await stand.standing(1)], key=lambda row: row["id"])
    assert {row["reason"] for row in rows} == {"provider_paced"}
    assert all(-0.1 < later["due_s"] - one["due_s"] < 0.3 for one, later in pairwise(rows)), "one line again"


async def test_fifty_thousand_are_lined_up_in_seconds(stand):
    await stand.put(25_000)
    one = stand.line_up()
    one.most = 5_000
    began_s = time.monotonic()
    await one.round()
    took_s = time.monotonic() - began_s
    (told,) = [one for one in stand.events if isinstance(one, LinedUp)]
    assert told.waiting == 50_000
    assert told.for_s == pytest.approx(50_000 / PER_S, abs=2)
    assert took_s < 30, f"{took_s:.1f} s"


async def test_an_account_is_well_once_all_who_waited_have_left(stand):
    await stand.put(5)
    one = stand.line_up()
    await one.round()
    assert [seen.back_at is not None for seen in one.health.seen()] == [True]
    await stand.two.rows("DELETE FROM dispatch")

    async def well() -> bool:
        await one.round()
        return not one.health.seen()

    await until(well, 30, "the line to be over")

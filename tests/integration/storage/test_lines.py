"""What waited for an account leaves: on two shards, by class and age, at one rate, and nobody else is touched."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import msgspec
import pytest_asyncio

from tests.integration.shards import TwoShards, prepare
from tests.system import until
from tidings.domain.breaker import BreakerRules
from tidings.domain.catalog import Catalog
from tidings.domain.ids import DeliveryId, ShardNumber, TenantId
from tidings.domain.lanes import Channel, Class, Lane, lane_of
from tidings.pipeline.backlog import Backlog
from tidings.pipeline.health import NOBODY, Health
from tidings.pipeline.line_up import LineUp
from tidings.storage.dispatches import DispatchStore
from tidings.storage.lines import LineStore
from tidings.storage.shards import BY_ID, Shards

MAIL, NEWS = lane_of(Channel.email, Class.transactional), lane_of(Channel.email, Class.promotional)
SMS = lane_of(Channel.sms, Class.transactional)
PER_S = 40.0
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
SELECT id, $4, $4, now() + (60 + random() * 1800) * interval '1 s', $5, $8 FROM numbers
"""
STANDING = """
SELECT id, lane, reason, state, extract(epoch FROM due_at - now())::float8 AS due_s FROM dispatch ORDER BY lane, id
"""


class Told:
    """Hints that were published, in order."""

    def __init__(self) -> None:
        self.ids: list[DeliveryId] = []

    def publish(self, shard: ShardNumber, due: Mapping[DeliveryId, Lane]) -> None:
        self.ids += due

    async def take(self, shard: ShardNumber, lane: Lane, most: int, timeout_s: float) -> None:
        return

    async def leave(self) -> None:
        return


class Stand:
    """One worker's view of the shards, which has just begun. Its clock goes on by what it is told, and with time."""

    def __init__(self, two: TwoShards, shards: Shards) -> None:
        self.two, self.shards = two, shards
        self.dispatches = DispatchStore(shards, shards, 60.0, 20.0)
        self.hints = Told()
        self.groups = 0
        self.ahead_s = 0.0

    def line_up(self, per_s: float = PER_S, lines: LineStore | None = None) -> LineUp:
        backlog = Backlog(self.catalog, self, 1, per_s)
        health = Health(self.catalog, self, lambda _: None, RULES, 30.0, backlog)
        lines = lines or LineStore(self.shards)
        return LineUp(lines, health, self.hints, self, lambda _: None, self.two.numbers, 10_000)

    async def left(self, one: LineUp, after_s: float) -> list[DeliveryId]:
        """Who leaves in a round that begins so much later."""
        self.ahead_s += after_s
        before = len(self.hints.ids)
        await one.round()
        return self.hints.ids[before:]

    def catalog(self) -> Catalog:
        return self.two.catalog

    def boottime_s(self) -> float:
        return time.monotonic() + self.ahead_s

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

    async def everybody(self):
        """In the order in which they are to leave."""
        rows = [*await self.standing(0), *await self.standing(1)]
        return [row["id"] for row in sorted(rows, key=lambda row: (row["lane"], row["id"]))]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def own(postgres):
    return await prepare(postgres)


@pytest_asyncio.fixture
async def stand(own):
    for table in ("dispatch", "delivery", "notification"):
        await own.rows(f"DELETE FROM {table}")
    async with own.open(BY_ID) as shards:
        yield Stand(own, shards)


SOON_S = 3.0
"""Afterwards a line moves on by the turns of a second."""


async def test_all_shards_make_one_line_transactional_first_and_in_each_class_the_older(stand):
    await stand.put(15, NEWS)
    await stand.put(25, MAIL)
    await stand.put(10, MAIL, shards=(1,))
    everybody = await stand.everybody()
    one = stand.line_up()
    assert await stand.left(one, 0) == [], "not before every worker knows"
    first, second, third = [await stand.left(one, SOON_S) for _ in range(3)]
    assert len(first) == len(second) == PER_S, "those of a second, however long nobody looked"
    assert [sorted(some) for some in (first, second, third)] == [
        sorted(everybody[:40]),
        sorted(everybody[40:80]),
        sorted(everybody[80:]),
    ]
    rows = [*await stand.standing(0), *await stand.standing(1)]
    assert {(row["reason"], row["due_s"] <= 0) for row in rows} == {("provider_paced", True)}


async def test_they_are_claimed_in_the_order_in_which_they_leave(stand):
    await stand.put(200, shards=(0,))
    one = stand.line_up(per_s=1000.0)
    await stand.left(one, 0)
    everybody = await stand.everybody()
    await stand.left(one, SOON_S)
    shard = stand.two.numbers[0]
    claimed = [held.id for n in range(10) for held in await stand.dispatches.claim(shard, {MAIL: 20}, 7 + n)]
    assert claimed == everybody


async def test_a_line_moves_on_and_is_over_when_nobody_waits(stand):
    await stand.put(25)
    one = stand.line_up()
    await stand.left(one, 0)
    assert len(await stand.left(one, SOON_S)) == 40
    assert one.health.backlog
    assert len(await stand.left(one, SOON_S)) == 10
    await stand.put(1, reason="provider_backlog")
    assert len(await stand.left(one, 1.0)) == 2, "who was told to wait right before is not forgotten"
    await stand.left(one, SOON_S)
    assert not one.health.backlog
    assert one.health.seen() == []


async def test_who_is_told_to_wait_again_leaves_again_once_the_line_is_over(stand):
    await stand.put(5)
    one = stand.line_up()
    await stand.left(one, 0)
    first = await stand.left(one, SOON_S)
    await stand.two.rows("UPDATE dispatch SET reason = 'provider_open', due_at = now() + interval '20 minutes'")
    assert await stand.left(one, SOON_S) == [], "he does not hold up the others"
    await stand.left(one, 6)
    again = await stand.left(one, SOON_S)
    assert sorted(again) == sorted(first) != []


async def test_other_channels_other_tenants_what_waits_for_no_account_and_what_is_due_are_left_alone(stand):
    other = stand.two.tenant + 1
    await stand.put(10, SMS)
    await stand.put(10, MAIL, waits_for=other)
    await stand.put(10, MAIL, waits_for=None)
    await stand.put(10)
    await stand.two.rows(
        "UPDATE dispatch SET due_at = now() WHERE id IN "
        "(SELECT id FROM dispatch WHERE waits_for = $1 AND lane = $2 ORDER BY id LIMIT 3)",
        stand.two.tenant,
        MAIL,
    )
    before = {row["id"]: row["reason"] for n in (0, 1) for row in await stand.standing(n)}
    one = stand.line_up()
    await stand.left(one, 0)
    left = await stand.left(one, SOON_S)
    assert len(left) == 2 * (10 - 3)
    after = {row["id"]: row["reason"] for n in (0, 1) for row in await stand.standing(n)}
    assert {id_ for id_ in after if after[id_] != before[id_]} == set(left)


async def test_what_somebody_has_claimed_meanwhile_is_left_to_him(stand):
    await stand.put(30, shards=(0,))
    lines, shard, queue = LineStore(stand.shards), stand.two.numbers[0], (stand.two.tenant, MAIL)
    read = await lines.read(shard, queue, NOBODY, 100)
    assert len(read) == 30
    await stand.two.rows("UPDATE dispatch SET due_at = now() WHERE id IN (SELECT id FROM dispatch ORDER BY id LIMIT 5)")
    held = await stand.dispatches.claim(shard, {MAIL: 3}, 7)
    async with stand.shards.connection(shard) as connection, connection.transaction():
        await connection.fetch("SELECT FROM dispatch WHERE state = 0 ORDER BY id LIMIT 2 FOR UPDATE")
        left = await asyncio.wait_for(lines.let_go(shard, stand.two.tenant, read), 10)
        assert len(left) == 25, "who is being claimed is not waited for"
    assert not set(left) & {one.id for one in held}
    rows = await stand.standing()
    assert all(row["due_s"] > 50 for row in rows if row["state"] == 1), "the hold of whoever has it"
    assert await lines.let_go(shard, stand.two.tenant + 1, read) == [], "another tenant's are not ours to call"


async def test_a_line_is_read_piece_by_piece_and_so_is_who_waits_at_all(stand):
    await stand.put(7)
    await stand.put(3, NEWS)
    lines, shard, tenant = LineStore(stand.shards), stand.two.numbers[0], stand.two.tenant
    assert await lines.queues(shard) == [(tenant, MAIL), (tenant, NEWS)]
    first = await lines.read(shard, (tenant, MAIL), NOBODY, 4)
    rest = await lines.read(shard, (tenant, MAIL), first[-1], 4)
    assert [*first, *rest] == [row["id"] for row in await stand.standing() if row["lane"] == MAIL]
    assert await lines.read(shard, (tenant, MAIL), rest[-1], 4) == []
    await stand.two.rows("UPDATE dispatch SET waits_for = NULL")
    assert await lines.queues(shard) == []


async def test_the_oldest_is_called_forward_to_try_an_account_and_then_who_is_behind_him(stand):
    await stand.put(3, NEWS)
    await stand.put(3, MAIL)
    everybody = await stand.everybody()
    one = stand.line_up()
    account = next(iter(stand.two.catalog.accounts))
    await one._call(account, (stand.two.tenant, Channel.email), NOBODY)
    await one._call(account, (stand.two.tenant, Channel.email), everybody[0])
    assert stand.hints.ids == everybody[:2]
    due = [row["id"] for n in (0, 1) for row in await stand.standing(n) if row["due_s"] <= 0]
    assert sorted(due) == everybody[:2]


async def test_a_shard_that_is_away_holds_up_no_other_and_its_own_leave_once_it_is_back(stand):
    await stand.put(5)
    gone = await Shards.open([stand.two.shard_dsns[0], "postgresql://nobody@127.0.0.1:1/gone"], 4, dict(BY_ID))
    one = stand.line_up(lines=LineStore(gone))
    await stand.left(one, 0)
    assert len(await stand.left(one, SOON_S)) == 5
    await stand.left(one, SOON_S)
    assert not one.health.backlog, "nobody waits behind those whom nobody can call"
    await gone.close()
    one.lines = LineStore(stand.shards)
    await stand.left(one, 6)
    left = await stand.left(one, SOON_S)
    assert set(left) == {row["id"] for row in await stand.standing(1)}


async def test_a_shard_that_does_not_answer_holds_up_no_other_and_is_not_asked_again_meanwhile(stand):
    await stand.put(5)
    asked = list[ShardNumber]()

    class Stuck(LineStore):
        async def queues(self, shard: ShardNumber) -> Sequence[tuple[TenantId, Lane]]:
            asked.append(shard)
            if shard == stand.two.numbers[1]:
                await still.wait()
            return await super().queues(shard)

    still = asyncio.Event()
    one = stand.line_up(lines=Stuck(stand.shards))
    one.patience_s = 0.2
    await stand.left(one, 0)
    assert len(await stand.left(one, SOON_S)) == 5
    await stand.left(one, 60)
    assert asked == [stand.two.numbers[0], stand.two.numbers[1], stand.two.numbers[0]]
    still.set()

    async def answers() -> bool:
        return len(await stand.left(one, 60)) == 5

    await until(answers, 30, "those of the other shard to leave")


async def test_fifty_thousand_leave_in_seconds_when_they_may(stand):
    await stand.put(25_000)
    one = stand.line_up(per_s=0.0)
    began_s = time.monotonic()
    await stand.left(one, 0)
    sizes = [len(await stand.left(one, SOON_S)) for _ in range(6)]
    took_s = time.monotonic() - began_s
    assert sizes == [10_000] * 5 + [0]
    assert took_s < 30, f"{took_s:.1f} s"


async def test_the_front_of_a_long_line_is_found_as_fast_as_that_of_a_short_one(stand):
    lines, shard, queue = LineStore(stand.shards), stand.two.numbers[0], (stand.two.tenant, MAIL)
    await stand.put(20_000, shards=(0,))
    plan = await stand.shards.fetch(
        shard,
        f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {lines._sql['read']}".replace("$1", str(queue[0]))
        .replace("$2", str(queue[1]))
        .replace("$3", f"'{NOBODY}'::uuid")
        .replace("$4", "100"),
    )
    (told,) = msgspec.json.decode(plan[0]["QUERY PLAN"])
    assert told["Plan"]["Shared Hit Blocks"] + told["Plan"]["Shared Read Blocks"] < 250, told

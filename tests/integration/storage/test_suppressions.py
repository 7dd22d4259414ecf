"""What is held against an address: learnt in one shard, known in all, and the same in whatever order it came."""

import asyncio
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta, timezone
from random import Random
from uuid import uuid4

import pytest
import pytest_asyncio
from msgspec.structs import replace

from tests.integration.shards import TwoShards
from tests.integration.storage.planted import Planted, planted
from tests.integration.storage.test_accepting import accept, asked
from tidings.domain.catalog import Account
from tidings.domain.delivery import Mark
from tidings.domain.dispatch import Finish
from tidings.domain.errors import Unavailable
from tidings.domain.ids import DeliveryId, ShardNumber, TenantId, reference
from tidings.domain.lanes import Channel, Class, lane_of
from tidings.domain.outcome import Gone, Receipt, Refused
from tidings.domain.suppression import Suppression, later, latest, stopping
from tidings.ports import Settled
from tidings.storage.dispatches import DispatchStore
from tidings.storage.receipts import ReceiptStore
from tidings.storage.shards import BY_ID, FEW_OF_MANY, Shards
from tidings.storage.suppressions import SuppressionStore

LANE = lane_of(Channel.email, Class.transactional)
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
SPREAD = 1_000


class Desk:
    """The stores of both shards, and one address that nobody else writes to."""

    def __init__(self, two: TwoShards, shards: Shards) -> None:
        self.two, self.shards = two, shards
        self.list = SuppressionStore(shards)
        self.dispatches = DispatchStore(shards, shards, 60.0, 20.0)
        self.receipts = ReceiptStore(shards, two.secrets.address_hash)
        self.address = f"{uuid4().hex}@example.com"
        self.hash = two.secrets.address_hash(two.tenant, Channel.email, self.address)
        self.account: Account = next(one for one in two.catalog.accounts.values() if one.tenant == two.tenant)

    def word(self, reason: str = "complaint", at_s: float = 0.0, *, lifted: bool = False, n: int = 0) -> Suppression:
        hash_ = bytes([n]) + self.hash[1:]
        return Suppression(self.two.tenant, Channel.email, hash_, reason, NOON + timedelta(seconds=at_s), lifted)

    async def claimed(self, shard: int = 0, **more):
        """A delivery to the address, of whoever lives in that shard, in a worker's hands."""
        shard = ShardNumber(shard)
        while True:
            row = asked(self.two, uuid4().hex, addresses={Channel.email: (self.address,)}, **more)
            if self.two.catalog.shard(row.slot) == shard:
                break
        await accept(self.two, row)
        held = await self.dispatches.claim(shard, {LANE: 1_000}, 7)
        [mine] = [one for one in held if one.notification == row.id]
        others = [one.id for one in held if one.id != mine.id]
        if others:
            await self.dispatches.give_back(shard, others, [7] * len(others))
        return mine

    async def refused(self, *held, gone: Gone | None) -> None:
        """The ends of calls that were made, in one commit."""
        shard, ids = ShardNumber(0), [one.id for one in held]
        await self.dispatches.mark(shard, ids, [7] * len(ids), [self.account.id] * len(ids))
        end, said = Finish(Mark.failed), Refused("http_400", gone=gone)
        ends = [Settled(one.id, 7, 1, end, self.account.id, said, one.address, one.address_hash) for one in held]
        assert set(await self.dispatches.settle(shard, ends)) == set(ids)

    async def told(self, delivery: DeliveryId, at_s: float = 0.0, **more) -> None:
        at = NOON + timedelta(seconds=at_s)
        receipt = Receipt(reference(delivery, 1), uuid4().hex, "told", None, None, None, at, b"{}", **more)
        await self.receipts.file(ShardNumber(0), self.account, [receipt])

    async def in_shard(self, shard: int) -> list[str]:
        """What this shard holds against the address."""
        statement = "SELECT reason FROM suppression WHERE slot = -1 AND hash = $1 AND NOT lifted ORDER BY reason"
        return [row["reason"] for row in await self.shards.fetch(ShardNumber(shard), statement, self.hash)]

    async def sweep(self) -> None:
        for shard in self.two.numbers:
            await self.list.spread(shard, SPREAD)


@pytest_asyncio.fixture
async def desk(two):
    for table in ("dispatch", "suppression"):
        await two.rows(f"DELETE FROM {table}")
    async with two.open(BY_ID) as shards:
        yield Desk(two, shards)


async def test_a_refusal_for_an_address_that_is_gone_suppresses_it_in_the_same_commit(desk):
    await desk.refused(await desk.claimed(), await desk.claimed(), gone=Gone.hard_bounce)
    assert (await desk.in_shard(0), await desk.in_shard(1)) == (["hard_bounce"], [])
    assert list((await desk.claimed()).suppressed) == ["hard_bounce"]
    assert (await desk.claimed(1)).suppressed == {}
    await desk.sweep()
    assert list((await desk.claimed(1)).suppressed) == ["hard_bounce"]


@pytest.mark.parametrize("gone", [None, Gone.unregistered])
async def test_a_refusal_that_is_not_about_the_address_suppresses_nothing(desk, gone):
    await desk.refused(await desk.claimed(), gone=gone)
    assert await desk.in_shard(0) == []


async def test_a_receipt_suppresses_in_the_same_commit_and_names_the_delivery(desk):
    held = await desk.claimed()
    await desk.told(held.id, gone=Gone.complaint)
    [word] = await desk.list.of_address(desk.two.tenant, Channel.email, desk.hash)
    assert (word.reason, word.at, word.delivery, word.lifted) == ("complaint", NOON, held.id, False)
    assert await desk.in_shard(1) == [], "until the sweep"
    await desk.sweep()
    assert await desk.in_shard(1) == ["complaint"]
    assert await desk.list.spread(ShardNumber(0), SPREAD) == 0, "told once"


async def test_several_receipts_of_one_call_about_one_address_leave_the_last_word(desk):
    deliveries = [(await desk.claimed()).id for _ in range(3)]
    told = [
        Receipt(reference(id_, 1), uuid4().hex, "told", None, None, None, NOON + timedelta(seconds=n), b"", **more)
        for n, (id_, more) in enumerate(
            zip(deliveries, [{"gone": Gone.stop}, {"lifts": Gone.stop}, {"gone": Gone.stop}], strict=True)
        )
    ]
    await desk.receipts.file(ShardNumber(0), desk.account, [told[2], told[0], told[1]])
    [word] = await desk.list.of_address(desk.two.tenant, Channel.email, desk.hash)
    assert (word.at, word.delivery, word.lifted) == (NOON + timedelta(seconds=2), deliveries[2], False)


async def test_a_receipt_that_was_filed_before_says_nothing_new(desk):
    held = await desk.claimed()
    receipt = Receipt(reference(held.id, 1), "e-1", "told", None, None, None, NOON, b"", gone=Gone.complaint)
    for _ in range(2):
        await desk.receipts.file(ShardNumber(0), desk.account, [receipt])
        known = await desk.list.of_address(desk.two.tenant, Channel.email, desk.hash)
        await desk.list.put([replace(one, at=later(known, NOON), lifted=True) for one in known])
    assert await desk.in_shard(0) == []


async def test_another_tenants_receipt_suppresses_nothing(desk):
    held = await desk.claimed()
    stranger = Account(desk.account.id, TenantId(desk.two.tenant + 1), "x", "sendgrid", Channel.email, {}, "t")
    receipt = Receipt(reference(held.id, 1), "e-1", "told", None, None, None, NOON, b"", gone=Gone.complaint)
    await desk.receipts.file(ShardNumber(0), stranger, [receipt])
    assert await desk.two.rows("SELECT FROM suppression") == []


async def test_nothing_about_the_future_is_believed(desk):
    held = await desk.claimed()
    await desk.told(held.id, at_s=10 * 365 * 86_400, gone=Gone.complaint)
    [word] = await desk.list.of_address(desk.two.tenant, Channel.email, desk.hash)
    assert word.at < datetime.now(UTC) + timedelta(seconds=5)


def some_words(desk: Desk, rng: Random) -> Sequence[Suppression]:
    """About few addresses and reasons, many in the same second."""
    return [
        desk.word(rng.choice(("stop", "complaint")), rng.randrange(4), lifted=rng.random() < 0.5, n=rng.randrange(3))
        for _ in range(rng.randrange(1, 12))
    ]


def plain(words: Iterable[Suppression]) -> set[tuple[bytes, str, datetime, bool]]:
    return {(one.hash, one.reason, one.at, one.lifted) for one in words}


async def stored(desk: Desk, shard: int) -> set[tuple[bytes, str, datetime, bool]]:
    rows = await desk.shards.fetch(ShardNumber(shard), "SELECT hash, reason, at, lifted FROM suppression")
    return {tuple(row) for row in rows}


async def parted(desk: Desk) -> bool:
    """Words that reach shards in any order, and sweeps between them: whether a shard ends with another last word."""
    for seed in range(60):
        rng = Random(seed)
        words = some_words(desk, rng)
        await desk.two.rows("DELETE FROM suppression")
        for word in words:
            await desk.list._merge(ShardNumber(rng.randrange(2)), [word], known=False)
            if rng.random() < 0.3:
                await desk.list.spread(ShardNumber(rng.randrange(2)), rng.randrange(1, 3))
        await desk.sweep()
        if not await stored(desk, 0) == await stored(desk, 1) == plain(latest(words)):
            return True
    return False


async def test_all_shards_end_with_the_last_word_in_whatever_order_they_heard(desk):
    assert not await parted(desk)


LAST_WORD = "(excluded.at, NOT excluded.lifted) > (old.at, NOT old.lifted)"
BUGS = {
    "the word that comes last wins": Planted("merge", "WHERE", LAST_WORD, "true"),
    "a tie is left to chance": Planted("merge", "WHERE", LAST_WORD, "excluded.at > old.at"),
    "what was said meanwhile counts as spread": Planted("spread", "USING", ", at, lifted)", ")"),
    "a new word is not passed on": Planted("merge", "SET", ", spread = excluded.spread", ""),
}


@pytest.mark.parametrize("bug", BUGS)
async def test_it_is_noticed_that(desk, bug):
    with planted(desk.list, BUGS[bug]):
        assert await parted(desk) or await _overtaken(desk)


async def _overtaken(desk: Desk) -> bool:
    """A word that is said while an older one is on its way to the others: is it lost to them?"""
    await desk.two.rows("DELETE FROM suppression")
    old, new = desk.word(at_s=1), desk.word(at_s=2, lifted=True)
    await desk.list._merge(ShardNumber(0), [old], known=False)
    await desk.list._merge(ShardNumber(0), [new], known=False)
    await desk.list._tell_others(ShardNumber(0), [old])
    await desk.sweep()
    return await stored(desk, 1) != plain([new])


async def test_what_is_said_while_an_older_word_is_on_its_way_is_not_lost(desk):
    assert not await _overtaken(desk)


async def test_a_shard_that_is_away_learns_it_later_and_the_caller_is_told_to_repeat(desk, two):
    nowhere = "postgresql://nobody@127.0.0.1:1/none"
    home = ShardNumber(desk.hash[0] % 2)
    dsns = [nowhere, nowhere]
    dsns[home] = two.shard_dsns[home]
    broken = await Shards.open(dsns, 2, {})
    try:
        with pytest.raises(Unavailable):
            await SuppressionStore(broken).put([replace(desk.word("stop"), hash=desk.hash)])
        with pytest.raises(Unavailable):
            await SuppressionStore(broken).spread(home, SPREAD)
    finally:
        await broken.close()
    assert (await desk.in_shard(home), await desk.in_shard(1 - home)) == (["stop"], [])
    await desk.sweep()
    assert await desk.in_shard(1 - home) == ["stop"]


async def test_many_words_at_once_from_many_sides_neither_wait_for_each_other_nor_get_lost(desk):
    words = [desk.word(reason, -n, n=n) for n in range(100) for reason in ("stop", "complaint")]
    sweeps = [desk.list.spread(shard, SPREAD) for shard in desk.two.numbers for _ in range(4)]
    await asyncio.gather(*(desk.list.put(Random(n).sample(words, len(words))) for n in range(4)), *sweeps)
    assert await stored(desk, 0) == await stored(desk, 1) == plain(words)


def test_only_an_unsubscribe_lets_a_transactional_message_pass():
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    for reason in (*Gone, "manual"):
        since = f"{reason} since 2026-01-02T03:04:05Z"
        assert stopping({reason: at}, Class.promotional) == since
        assert stopping({reason: at}, Class.transactional) == (None if reason == "unsubscribe" else since)
    both, since = {"unsubscribe": at, "stop": at.astimezone(timezone(timedelta(hours=2)))}, "since 2026-01-02T03:04:05Z"
    assert stopping(both, Class.transactional) == f"stop {since}"
    assert stopping(both, Class.promotional) == f"stop {since}, unsubscribe {since}"
    assert stopping({}, Class.promotional) is None


async def test_the_list_is_read_by_its_primary_key_however_long_it_is(desk):
    await desk.two.rows(
        "INSERT INTO suppression (tenant, channel, hash, reason) SELECT $1, 1, int8send(n), 'stop' "
        "FROM generate_series(1, 20000) n",
        desk.two.tenant,
    )
    held = await desk.claimed()
    async with desk.shards.connection(ShardNumber(0)) as connection:
        await connection.execute("SET plan_cache_mode = force_generic_plan")
        await connection.execute(f"PREPARE loading AS {desk.dispatches._sql['load']}")
        id_ = f"'{held.id}'"
        rows = await connection.fetch(f"EXPLAIN (ANALYZE, BUFFERS) EXECUTE loading(ARRAY[{id_}::uuid], {id_}, {id_})")
        await connection.execute("DEALLOCATE loading")
    plan = "\n".join(row[0] for row in rows)
    assert "using suppression_pkey" in plan, plan
    assert FEW_OF_MANY.items() <= BY_ID.items()

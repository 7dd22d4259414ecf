"""Push: one delivery for each live token, made once whoever crashes; a dead token goes with the word about it."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import pytest
import pytest_asyncio

from tests.integration.shards import TwoShards
from tests.integration.storage.test_accepting import accept, asked
from tests.integration.storage.test_dispatches import Bench
from tidings.domain import ids
from tidings.domain.catalog import Account
from tidings.domain.delivery import Mark, State
from tidings.domain.dispatch import Again, Finish
from tidings.domain.lanes import Channel, Class, lane_of
from tidings.domain.outcome import Gone, Receipt, Refused, Sent, TryNext
from tidings.domain.people import Person
from tidings.storage.people import People
from tidings.storage.receipts import ReceiptStore
from tidings.storage.shards import BY_ID, PoolConnection

LANE = lane_of(Channel.push, Class.transactional)
UNREGISTERED = Refused("http_404", gone=Gone.unregistered)


class PushBench(Bench):
    """Users with tokens, and pushes to them, all in the one shard of the bench."""

    def __init__(self, two: TwoShards, shards, lease_s: float = 60.0) -> None:
        super().__init__(two, shards, lease_s)
        self.people = People(shards, lambda: two.catalog, two.secrets.address_hash)
        self.named = 0

    async def user(self, *tokens: str):
        """A user of our shard."""
        while True:
            self.named += 1
            user = ids.UserId(f"push-{id(self)}-{self.named}")
            if self.two.catalog.shard(ids.slot_of(self.two.tenant, user)) == self.shard:
                await self.register(user, *tokens)
                return user

    async def register(self, user, *tokens: str, **others) -> None:
        addresses = {Channel.push: tokens, Channel.email: ("ada@example.com",)}
        await self.people.put(self.two.tenant, Person(user, addresses, **others))

    async def tokens(self, user) -> tuple[str, ...]:
        return (await self.people.get(self.two.tenant, user)).addresses.get(Channel.push, ())

    async def push(self, user, **more):
        row = asked(self.two, user, addresses={}, channels=(Channel.push,), **more)
        await accept(self.two, row)
        return row

    async def held(self, token: int = 7, limit: int = 100):
        return await self.claim(token, limit, LANE)

    async def went_to(self, row) -> list[str]:
        """The addresses of the notification's deliveries."""
        found = await self.two.rows("SELECT address FROM delivery WHERE notification_id = $1", row.id)
        return sorted(str(one["address"]) for one in found)


@pytest_asyncio.fixture
async def bench(two):
    for table in ("dispatch", "attempt"):
        await two.rows(f"DELETE FROM {table}")
    async with two.open(BY_ID) as shards:
        yield PushBench(two, shards)


async def test_a_push_has_a_delivery_for_each_token_and_all_of_them_can_be_claimed(bench):
    user = await bench.user("phone", "tablet", "watch")
    row = await bench.push(user)
    (first,) = await bench.held()
    assert (first.address, first.siblings) == ("phone", 2)
    assert first.id == row.deliveries[0].id
    siblings = await bench.held()
    assert sorted(one.address for one in siblings) == ["tablet", "watch"]
    assert {(one.notification, one.user, one.siblings, one.tries) for one in siblings} == {(row.id, user, 0, 0)}
    assert await bench.went_to(row) == ["phone", "tablet", "watch"]
    assert await bench.held() == []


async def test_siblings_stand_beside_their_first_in_the_same_millisecond_and_slot(bench):
    row = await bench.push(await bench.user("phone", "tablet"))
    await bench.held()
    (sibling,) = await bench.held()
    lowest, highest = ids.siblings(row.id)
    assert lowest < sibling.id < highest
    assert ids.parse_reference(ids.reference(sibling.id, 1)) == (sibling.id, 1)


async def test_a_retry_goes_to_the_token_that_it_had_whatever_the_user_has_now(bench):
    user = await bench.user("phone", "tablet")
    row = await bench.push(user)
    (first,) = await bench.held()
    await bench.mark([first])
    await bench.register(user, "new", "tablet")
    await bench.settle(first, 1, Again(0.0, "http_503", tried=(1,)), TryNext("http_503"))
    again = {one.address: one.id for one in await bench.held(8)}
    assert again.keys() == {"phone", "tablet"} and again["phone"] == first.id
    assert await bench.went_to(row) == ["phone", "tablet"]


async def test_a_worker_that_dies_before_or_after_the_fan_out_changes_nothing(bench):
    row = await bench.push(await bench.user("phone", "tablet"))
    statement = bench.store._sql["claim"]
    await bench.shards.fetch(bench.shard, statement, [LANE], [10], 60.0, 1)  # and nobody ever loads it
    assert await bench.went_to(row) == ["None"]
    for token in (2, 3):
        await bench.make_due()
        held = await bench.held(token)
        assert "phone" in {one.address for one in held}
    assert await bench.went_to(row) == ["phone", "tablet"]


async def test_who_has_lost_the_hold_fans_nothing_out(bench):
    row = await bench.push(await bench.user("phone", "tablet"))
    statement = bench.store._sql["claim"]
    for token in (1, 2):
        await bench.shards.fetch(bench.shard, statement, [LANE], [10], 60.0, token)
        await bench.make_due()
    first = row.deliveries[0].id
    async with bench.shards.connection(bench.shard) as connection:
        assert await bench.store._tokens.fan_out(connection, [first], 1) == {}
        assert await bench.store._tokens.fan_out(connection, [first], 2) == {first: 1}
        assert await bench.store._tokens.fan_out(connection, [first], 2) == {}
    assert await bench.went_to(row) == ["phone", "tablet"]


async def test_a_token_that_stands_there_twice_gets_one_delivery(bench):
    row = await bench.push(await bench.user("phone", "tablet", "phone"))
    await bench.held()
    await bench.held()
    assert await bench.went_to(row) == ["phone", "tablet"]


async def test_without_a_token_there_is_no_address(bench):
    await bench.push(await bench.user())
    (held,) = await bench.held()
    assert (held.address, held.siblings) == (None, 0)


async def test_what_has_expired_gets_no_siblings(bench):
    row = await bench.push(await bench.user("phone", "tablet"), expires_after_s=0.001)
    (held,) = await bench.held()
    assert held.expires_at <= held.now
    assert len(await bench.went_to(row)) == 1


async def test_siblings_of_a_promotion_are_promotional(bench):
    lane = lane_of(Channel.push, Class.promotional)
    await bench.push(
        await bench.user("phone", "tablet"), category=bench.two.catalog.categories[bench.two.tenant, "news"]
    )
    await bench.claim(7, 10, lane)
    (sibling,) = await bench.claim(7, 10, lane)
    assert (sibling.lane, sibling.home, sibling.address) == (lane, lane, "tablet")


async def test_a_push_that_is_cancelled_while_it_is_fanned_out_is_cancelled_with_its_siblings(bench):
    for _ in range(20):
        row = await bench.push(await bench.user("phone", "tablet", "watch"))
        held, cancelled = await asyncio.gather(bench.held(), bench.store.cancel(bench.shard, row.id, bench.two.tenant))
        assert await bench.mark(held) == []
        assert await bench.held(8) == []
        found = await bench.two.rows("SELECT id, status FROM delivery WHERE notification_id = $1", row.id)
        assert {one["status"] for one in found} == {Mark.cancelled}
        assert {one["id"] for one in found} == set(cancelled)


@asynccontextmanager
async def fanning_out(bench: PushBench, row) -> AsyncIterator[PoolConnection]:
    """A fan-out that commits at the end of the block, when somebody waits for it. The planner knows of many deliveries:
    of a few it would read all."""
    await bench.two.rows(MANY_DELIVERIES)
    await bench.two.rows("ANALYZE")
    claim, fan_out = bench.store._sql["claim"], bench.store._tokens.fan_out
    await bench.shards.fetch(bench.shard, claim, [LANE], [10], 60.0, 7)
    first = row.deliveries[0].id
    async with bench.shards.connection(bench.shard) as connection, connection.transaction():
        assert await fan_out(connection, [first], 7) == {first: 2}
        yield connection
        async with asyncio.timeout(20):
            while not await bench.two.rows(WAITING):
                await asyncio.sleep(0.01)


MANY_DELIVERIES = """
INSERT INTO delivery (id, notification_id, tenant, channel, status)
SELECT callback_about(id), callback_about(id), tenant, channel, 10 FROM delivery CROSS JOIN generate_series(1, 30)
"""
WAITING = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


async def test_a_cancellation_that_waits_for_a_fan_out_cancels_the_siblings_that_it_could_not_see(bench):
    row = await bench.push(await bench.user("phone", "tablet", "watch"))
    async with fanning_out(bench, row):
        cancelling = asyncio.create_task(bench.store.cancel(bench.shard, row.id, bench.two.tenant))
    assert len(await cancelling) == 3
    found = await bench.two.rows("SELECT status FROM delivery WHERE notification_id = $1", row.id)
    assert [one["status"] for one in found] == [Mark.cancelled] * 3
    assert await bench.held(8) == []


async def test_a_cancellation_that_comes_too_late_for_the_first_still_cancels_its_siblings(bench):
    """It waited for the fan-out, and by then the first was marked: it has found nothing, and siblings are there."""
    row = await bench.push(await bench.user("phone", "tablet", "watch"))
    first = row.deliveries[0].id
    async with fanning_out(bench, row) as connection:
        cancelling = asyncio.create_task(bench.store.cancel(bench.shard, row.id, bench.two.tenant))
        await connection.execute("UPDATE dispatch SET state = 2, tries = 1 WHERE id = $1", first)
    cancelled = await cancelling
    assert len(cancelled) == 2 and first not in cancelled
    assert await bench.held(8) == []
    assert (await bench.dispatch(first))["state"] == State.inflight


async def test_a_fan_out_that_waits_for_a_cancellation_makes_no_siblings(bench):
    row = await bench.push(await bench.user("phone", "tablet", "watch"))
    first, cancel = row.deliveries[0].id, bench.store._sql["cancel"]
    await bench.shards.fetch(bench.shard, bench.store._sql["claim"], [LANE], [10], 60.0, 7)
    async with bench.shards.connection(bench.shard) as ours, bench.shards.connection(bench.shard) as theirs:
        async with ours.transaction():
            assert await ours.fetch(cancel, row.id, bench.two.tenant, *ids.siblings(row.id))
            fanning = asyncio.create_task(bench.store._tokens.fan_out(theirs, [first], 7))
            async with asyncio.timeout(20):
                while not await bench.two.rows(WAITING):
                    await asyncio.sleep(0.01)
        assert await fanning == {}
    assert await bench.went_to(row) == ["None"]


async def test_a_token_that_is_registered_no_more_leaves_its_user_and_the_others_stay(bench):
    user = await bench.user("dead", "tablet", "watch")
    before = await bench.people.get(bench.two.tenant, user)
    await bench.push(user)
    (first,) = await bench.held()
    await bench.mark([first])
    await bench.settle(first, 1, Finish(Mark.failed, "provider_refused"), UNREGISTERED)
    assert await bench.tokens(user) == ("tablet", "watch")
    after = await bench.people.get(bench.two.tenant, user)
    assert after.version == before.version + 1
    assert after.addresses[Channel.email] == ("ada@example.com",)
    assert (await bench.delivery(first.id))["status"] == Mark.failed
    next_row = await bench.push(user)
    assert {one.address for one in await bench.held(8)} >= {"tablet"}
    await bench.held(8)
    assert await bench.went_to(next_row) == ["tablet", "watch"]


async def test_the_last_token_can_go_too(bench):
    user = await bench.user("dead")
    await bench.push(user)
    (first,) = await bench.held()
    await bench.mark([first])
    await bench.settle(first, 1, Finish(Mark.failed, "provider_refused"), UNREGISTERED)
    assert await bench.tokens(user) == ()


async def test_a_token_is_forgotten_by_the_word_of_one_who_has_lost_the_hold_too(bench):
    user = await bench.user("dead", "tablet")
    await bench.push(user)
    (first,) = await bench.held()
    await bench.mark([first])
    assert await bench.settle(first, 1, Finish(Mark.failed, "provider_refused"), UNREGISTERED, token=99) == []
    assert await bench.tokens(user) == ("tablet",)


@pytest.mark.parametrize("said", [Refused("http_403"), Refused("http_400", gone=Gone.hard_bounce), Sent("m")])
async def test_no_other_word_takes_a_token_away(bench, said):
    user = await bench.user("phone")
    await bench.push(user)
    (first,) = await bench.held()
    await bench.mark([first])
    await bench.settle(first, 1, Finish(Mark.failed, "provider_refused"), said)
    assert await bench.tokens(user) == ("phone",)


async def test_the_same_token_of_another_user_and_of_another_channel_stays(bench):
    user, other = await bench.user("dead"), await bench.user("dead")
    await bench.push(user)
    (first,) = await bench.held()
    await bench.mark([first])
    await bench.settle(first, 1, Finish(Mark.failed, "provider_refused"), UNREGISTERED)
    assert (await bench.tokens(user), await bench.tokens(other)) == ((), ("dead",))


async def test_a_receipt_that_says_so_takes_the_token_away_too_but_only_from_its_own_tenant(bench):
    user = await bench.user("dead", "tablet")
    await bench.push(user)
    (first,) = await bench.held()
    word = Receipt(ids.reference(first.id, 1), "e", "gone", None, None, None, first.now, b"", gone=Gone.unregistered)
    store = ReceiptStore(bench.shards, bench.two.secrets.address_hash)
    ours = Account(1, bench.two.tenant, "main", "fcm", Channel.push, {}, "token")
    stranger = Account(2, ids.TenantId(bench.two.tenant + 1), "main", "fcm", Channel.push, {}, "token")
    assert not (await store.file(bench.shard, stranger, [word]))[0].known
    assert await bench.tokens(user) == ("dead", "tablet")
    assert (await store.file(bench.shard, ours, [word]))[0].new
    assert await bench.tokens(user) == ("tablet",)


async def test_an_address_of_another_channel_stays_whatever_is_said_of_it(bench):
    user = await bench.user("phone")
    await accept(bench.two, asked(bench.two, user, addresses={}))
    (mail,) = await bench.claim()
    await bench.mark([mail])
    await bench.settle(mail, 1, Finish(Mark.failed, "provider_refused"), UNREGISTERED, address_hash=mail.address_hash)
    assert (await bench.people.get(bench.two.tenant, user)).addresses[Channel.email] == ("ada@example.com",)


async def test_an_edit_of_what_was_read_before_a_token_died_is_refused(bench):
    user = await bench.user("dead", "tablet")
    read = await bench.people.get(bench.two.tenant, user)
    await bench.push(user)
    (first,) = await bench.held()
    await bench.mark([first])
    await bench.settle(first, 1, Finish(Mark.failed, "provider_refused"), UNREGISTERED)
    assert await bench.people.put(bench.two.tenant, read, read.version) is None
    assert await bench.tokens(user) == ("tablet",)


async def test_dying_tokens_and_edits_of_their_users_never_lock_each_other_out(bench):
    user = await bench.user("dead", "tablet")
    for n in range(40):
        await bench.register(user, "dead", "tablet", f"watch-{n}")
        await bench.push(user)
        held = await bench.held() + await bench.held()
        await bench.mark(held)
        ends = [bench.settle(one, 1, Finish(Mark.failed, "provider_refused"), UNREGISTERED) for one in held]
        await asyncio.gather(*ends, bench.register(user, f"new-{n}", "dead", "tablet"))
        assert len(await bench.tokens(user)) <= 3


async def test_whatever_happens_each_token_gets_the_push_once(bench):
    """Workers claim side by side; some die before the fan-out, some right after, some send. Holds run out."""
    rng, expected, sent = Random(5), Counter[tuple[object, str]](), Counter[tuple[object, str]]()
    for _ in range(40):
        tokens = [f"t{n}" for n in range(rng.randint(1, 5))]
        row = await bench.push(await bench.user(*tokens))
        expected.update((row.id, token) for token in tokens)
    statement, number = bench.store._sql["claim"], 0

    async def worker(token: int) -> None:
        if rng.random() < 0.3:
            await bench.shards.fetch(bench.shard, statement, [LANE], [rng.randint(1, 9)], 60.0, token)
            return
        held = await bench.held(token, rng.randint(1, 9))
        if rng.random() < 0.4:
            return
        marked = {one.id for one in await bench.mark(held, token)}
        for one in held:
            if one.id in marked:
                sent[one.notification, one.address] += 1
                await bench.settle(one, 1, Finish(Mark.sent), Sent("m"), token=token)

    while await bench.two.rows("SELECT FROM dispatch"):
        await asyncio.gather(*(worker(number + n) for n in range(3)))
        number += 3
        await bench.two.rows("UPDATE dispatch SET due_at = now() - interval '1 ms' WHERE state = $1", State.leased)
    assert sent == expected


async def test_the_fan_out_and_the_forgetting_walk_by_index(bench):
    first = (await bench.push(await bench.user("phone"))).deliveries[0].id
    lowest, highest = ids.bounds([first])
    async with bench.shards.connection(bench.shard) as connection:
        for name in ("fan_out", "forget_tokens"):
            text = bench.store._tokens._sql[name].replace("$1::uuid[]", f"'{{{first}}}'::uuid[]").replace("$4", "7")
            text = text.replace("$2", f"'{lowest}'::uuid").replace("$3", f"'{highest}'::uuid")
            plan = "\n".join(row[0] for row in await connection.fetch("EXPLAIN " + text))
            assert "Seq Scan" not in plan, plan

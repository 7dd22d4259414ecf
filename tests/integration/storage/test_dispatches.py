"""Claim, mark, settle: every write after the claim carries its token, and the SQL does what the pure twin says."""

from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio

from tests.integration.shards import TwoShards
from tests.integration.storage.test_accepting import accept, asked
from tidings.domain.dead_letters import Back
from tidings.domain.delivery import Mark, State
from tidings.domain.dispatch import Again, Bury, Doubt, Finish
from tidings.domain.events import DoubtOpened, DoubtResolved
from tidings.domain.lanes import DEAD, IN_DOUBT, Channel, Class, lane_of
from tidings.domain.outcome import Sent, TryNext, Unsure
from tidings.domain.price import Charge
from tidings.ports import Settled
from tidings.storage.dead_letters import DeadLetterStore
from tidings.storage.dispatches import DispatchStore
from tidings.storage.shards import BY_ID, Shards

LANE = lane_of(Channel.email, Class.transactional)
NEWS = lane_of(Channel.email, Class.promotional)


class Bench:
    """One store, and the one shard that its deliveries are in."""

    def __init__(self, two: TwoShards, shards: Shards, lease_s: float = 60.0) -> None:
        self.two, self.shards = two, shards
        self.events: list[object] = []
        self.store = DispatchStore(shards, shards, lease_s, min(20.0, lease_s / 3), self.events.append)
        self.shard = two.numbers[0]

    async def put(self, n: int = 1, **more):
        """Accepts until ``n`` of them stand in our shard; gives those."""
        rows = []
        for k in range(20 * n):
            row = asked(self.two, f"bench-{id(self)}-{len(rows)}-{k}", **more)
            if self.two.catalog.shard(row.slot) == self.shard:
                rows.append(row)
            if len(rows) == n:
                break
        await accept(self.two, *rows)
        return rows

    async def claim(self, token: int = 7, limit: int = 100, lane=LANE):
        return await self.store.claim(self.shard, {lane: limit}, token)

    async def mark(self, held, token: int = 7):
        ids = [one.id for one in held]
        return await self.store.mark(self.shard, ids, [token] * len(ids), [1] * len(ids))

    async def settle(self, held, n, to, said=None, token: int = 7, **more):
        row = Settled(held.id, token, n, to, provider=1, said=said, address=held.address, **more)
        return await self.store.settle(self.shard, [row])

    async def dispatch(self, id_):
        rows = await self.two.rows("SELECT * FROM dispatch WHERE id = $1", id_)
        return rows[0] if rows else None

    async def delivery(self, id_):
        return (await self.two.rows("SELECT * FROM delivery WHERE id = $1", id_))[0]

    async def attempts(self, id_):
        return await self.two.rows("SELECT * FROM attempt WHERE delivery_id = $1 ORDER BY n", id_)

    async def make_due(self) -> None:
        await self.two.rows("UPDATE dispatch SET due_at = now() - interval '1 ms'")


@pytest_asyncio.fixture
async def bench(two):
    for table in ("dispatch", "attempt"):
        await two.rows(f"DELETE FROM {table}")
    async with two.open(BY_ID) as shards:
        yield Bench(two, shards)


async def test_a_claim_brings_everything_that_sending_needs(bench):
    (row,) = await bench.put(reference="order-1")
    (held,) = await bench.claim()
    assert (held.notification, held.user, held.address) == (row.id, row.user, "ada@example.com")
    assert (held.claims, held.tries, held.tried, held.in_doubt) == (1, 0, (), False)
    assert held.payload == row.payload and abs(held.now - datetime.now(UTC)) < timedelta(seconds=5)


async def test_what_is_held_is_claimed_by_nobody_else(bench):
    await bench.put(3)
    assert len(await bench.claim(1)) == 3
    assert await bench.claim(2) == []


async def test_the_oldest_come_first_and_each_lane_has_its_limit(bench):
    general = await bench.put(4)
    await bench.put(4, category=bench.two.catalog.categories[bench.two.tenant, "news"])
    held = await bench.store.claim(bench.shard, {LANE: 3, NEWS: 2}, 7)
    assert [one.lane for one in held] == [LANE] * 3 + [NEWS] * 2
    assert {one.notification for one in held[:3]} <= {row.id for row in general}


async def test_what_is_scheduled_for_later_is_not_due(bench):
    await bench.put(1, send_at=datetime.now(UTC) + timedelta(hours=1))
    assert await bench.claim() == []


async def test_a_mark_numbers_the_try_and_needs_the_token(bench):
    await bench.put()
    held = await bench.claim(7)
    assert await bench.mark(held, token=8) == []
    (marked,) = await bench.mark(held)
    assert marked.n == 1
    assert (await bench.dispatch(held[0].id))["state"] == State.inflight
    assert await bench.mark(held) == [], "a try is marked once"


async def test_nothing_is_marked_when_the_hold_is_nearly_over(bench):
    await bench.put()
    held = await bench.claim()
    await bench.two.rows("UPDATE dispatch SET due_at = now() + interval '10 s'")
    assert await bench.mark(held) == []


async def test_sent_ends_the_dispatch_and_keeps_the_attempt(bench):
    await bench.put()
    (held,) = await bench.claim()
    await bench.mark([held])
    said = Sent("mid-1")
    assert await bench.settle(held, 1, Finish(Mark.sent), said, started_at=held.now, took_ms=12) == [held.id]
    assert await bench.dispatch(held.id) is None
    delivery, (attempt,) = await bench.delivery(held.id), await bench.attempts(held.id)
    assert (delivery["status"], delivery["address"]) == (Mark.sent, "ada@example.com")
    assert (attempt["n"], attempt["outcome"], attempt["message_id"], attempt["took_ms"]) == (1, "sent", "mid-1", 12)


async def test_finishing_needs_the_token_and_the_try(bench):
    await bench.put()
    (held,) = await bench.claim()
    assert await bench.settle(held, 0, Finish(Mark.expired, "expired"), token=99) == []
    await bench.mark([held])
    assert await bench.settle(held, 0, Finish(Mark.expired, "expired")) == []
    assert (await bench.dispatch(held.id))["state"] == State.inflight


async def test_a_retry_goes_back_to_its_lane_with_what_was_tried(bench):
    await bench.put()
    (held,) = await bench.claim()
    await bench.mark([held])
    assert await bench.settle(held, 1, Again(60.0, "503", spent=1, tried=(1, 2)), TryNext("503")) == [held.id]
    row = await bench.dispatch(held.id)
    assert (row["state"], row["lane"], row["token"], row["claims"], row["spent"]) == (State.ready, LANE, 0, 0, 1)
    assert row["tried"] == [1, 2] and row["due_at"] > datetime.now(UTC) + timedelta(seconds=50)
    await bench.make_due()
    (again,) = await bench.claim(8)
    assert (again.tried, again.spent, again.tries) == ((1, 2), 1, 1)


async def test_a_retry_is_never_due_after_the_expiry(bench):
    await bench.put(1, expires_after_s=5.0)
    (held,) = await bench.claim()
    await bench.mark([held])
    await bench.settle(held, 1, Again(600.0, "503", spent=1), TryNext("503"), expires_at=held.expires_at)
    assert (await bench.dispatch(held.id))["due_at"] == held.expires_at


async def test_an_expired_in_flight_row_goes_to_doubt_while_a_leased_one_is_claimed_again(bench):
    await bench.put(2)
    inflight, leased = await bench.claim()
    await bench.mark([inflight])
    await bench.make_due()
    (again,) = await bench.claim(8)
    assert again.id == leased.id and again.claims == 2
    row = await bench.dispatch(inflight.id)
    assert (row["state"], row["lane"]) == (State.in_doubt, IN_DOUBT)
    assert bench.events == [DoubtOpened(1, "worker_lost")], "every doubt is counted when it opens"
    (doubt,) = await bench.claim(9, lane=IN_DOUBT)
    assert (doubt.id, doubt.in_doubt, doubt.provider, doubt.tries) == (inflight.id, True, 1, 1)


async def test_the_late_answer_of_a_zombie_resolves_its_own_doubt(bench):
    await bench.put()
    (held,) = await bench.claim()
    await bench.mark([held])
    await bench.make_due()
    await bench.claim(8)
    assert await bench.settle(held, 1, Finish(Mark.sent), Sent("late")) == [held.id]
    assert (await bench.delivery(held.id))["status"] == Mark.sent


async def test_a_late_answer_about_an_older_try_changes_nothing(bench):
    await bench.put()
    (held,) = await bench.claim()
    await bench.mark([held])
    await bench.settle(held, 1, Again(0.0, "503"), TryNext("503"))
    (again,) = await bench.claim(8)
    await bench.mark([again], token=8)
    assert await bench.settle(held, 1, Again(0.0, "late"), TryNext("late")) == []
    assert (await bench.dispatch(held.id))["state"] == State.inflight


async def test_a_late_sent_ends_a_row_that_waits_for_its_next_try(bench):
    await bench.put()
    (held,) = await bench.claim()
    await bench.mark([held])
    await bench.settle(held, 1, Doubt("timeout"), Unsure("timeout"))
    (doubt,) = await bench.claim(8, lane=IN_DOUBT)
    await bench.settle(
        doubt, 1, Again(0.0, "in_doubt", spent=1), Unsure("unresolved"), token=8, duplicate_possible=True
    )
    assert (await bench.delivery(held.id))["duplicate_possible"]
    assert await bench.settle(held, 1, Finish(Mark.sent), Sent("late")) == [held.id]
    (attempt,) = await bench.attempts(held.id)
    assert attempt["outcome"] == "sent"


async def test_a_recorded_sent_is_never_overwritten(bench):
    await bench.put()
    (held,) = await bench.claim()
    await bench.mark([held])
    await bench.settle(held, 1, Finish(Mark.sent), Sent("mid"))
    await bench.settle(held, 1, Doubt("late"), Unsure("late"))
    (attempt,) = await bench.attempts(held.id)
    assert (attempt["outcome"], attempt["message_id"]) == ("sent", "mid")


async def test_what_a_call_comes_to_is_kept_with_its_attempt(bench):
    await bench.put(3)
    charges = (Charge(2, 16_600), Charge(1), None)
    for held, charge in zip(await bench.claim(), charges, strict=True):
        await bench.mark([held])
        await bench.settle(held, 1, Finish(Mark.sent), Sent("m"), charge=charge)
        (attempt,) = await bench.attempts(held.id)
        kept = (charge.units, charge.cost_micros) if charge else (None, None)
        assert (attempt["units"], attempt["cost_micros"]) == kept


async def test_a_later_word_on_a_try_does_not_forget_what_it_comes_to(bench):
    await bench.put()
    (held,) = await bench.claim()
    await bench.mark([held])
    await bench.settle(held, 1, Doubt("timeout"), Unsure("timeout"), charge=Charge(2, 16_600))
    (doubt,) = await bench.claim(8, lane=IN_DOUBT)
    await bench.settle(doubt, 1, Finish(Mark.sent), Sent("m", "look_up"), token=8)
    (attempt,) = await bench.attempts(held.id)
    assert (attempt["outcome"], attempt["units"], attempt["cost_micros"]) == ("sent", 2, 16_600)


async def test_the_late_answer_of_a_zombie_still_says_what_it_came_to(bench):
    await bench.put()
    (held,) = await bench.claim()
    await bench.mark([held])
    await bench.make_due()
    await bench.claim(8)
    (doubt,) = await bench.claim(9, lane=IN_DOUBT)
    await bench.settle(doubt, 1, Finish(Mark.unknown, "in_doubt"), Unsure("unresolved"), token=9)
    await bench.settle(held, 1, Finish(Mark.sent), Sent("late"), charge=Charge(1, 8_300))
    (attempt,) = await bench.attempts(held.id)
    assert (attempt["outcome"], attempt["units"], attempt["cost_micros"]) == ("sent", 1, 8_300)


async def test_dead_letters_keep_their_reason_and_can_be_replayed_or_discarded(bench):
    await bench.put(2)
    one, other = await bench.claim()
    for held in (one, other):
        await bench.settle(held, 0, Bury("template_error", "name is undefined"))
    row = await bench.dispatch(one.id)
    assert (row["lane"], row["state"], row["reason"], row["detail"]) == (
        DEAD,
        State.dead,
        "template_error",
        "name is undefined",
    )
    assert await bench.claim(8) == []
    letters, tenant = DeadLetterStore(bench.shards, lambda: bench.two.catalog), bench.two.tenant
    assert await letters.replay(tenant, [Back(one.id)], "a key") == {one.id}
    assert await letters.discard(tenant, [one.id, other.id], "obsolete", "a key") == {other.id}
    assert [held.id for held in await bench.claim(9)] == [one.id]
    assert (await bench.delivery(other.id))["status"] == Mark.dead


async def test_untouched_claims_given_back_are_due_at_once(bench):
    await bench.put(2)
    held = await bench.claim()
    await bench.store.give_back(bench.shard, [one.id for one in held], [7, 7])
    assert sorted(one.claims for one in await bench.claim(8)) == [1, 1]


async def test_what_was_cancelled_can_no_longer_be_marked(bench):
    (row,) = await bench.put()
    held = await bench.claim()
    assert await bench.store.cancel(bench.shard, row.id, bench.two.tenant) == [held[0].id]
    assert await bench.mark(held) == []
    assert (await bench.delivery(held[0].id))["status"] == Mark.cancelled
    assert await bench.store.cancel(bench.shard, row.id, bench.two.tenant) == []


async def test_marking_touches_no_index_so_that_it_stays_a_hot_update(bench):
    rows = await bench.two.rows("SELECT indexdef FROM pg_indexes WHERE tablename = 'dispatch'")
    indexed = {row["indexdef"].partition(" USING btree ")[2] for row in rows}
    assert indexed == {"(id)", "(lane, due_at)", "(waits_for, lane, id) WHERE (waits_for IS NOT NULL)"}


@pytest.mark.parametrize("analyzed_as", ["empty", "never"])
async def test_the_claim_keeps_its_one_plan_whatever_the_statistics_say(bench, analyzed_as):
    if analyzed_as == "empty":
        await bench.two.rows("DELETE FROM dispatch")
        await bench.two.rows("ANALYZE dispatch")
    await bench.put(200)
    plan = "\n".join(
        row[0]
        for row in await bench.shards.fetch(
            bench.shard,
            "EXPLAIN "
            + bench.store._sql["claim"]
            .replace("$1::smallint[]", "'{10}'::smallint[]")
            .replace("$2::int[]", "'{100}'::int[]")
            .replace("$3::float8", "60")
            .replace("$4::bigint", "1"),
        )
    )
    assert "Index Scan using dispatch_due" in plan and "Index Scan using dispatch_pkey" in plan
    assert "Sort" not in plan and "Seq Scan on dispatch" not in plan, plan


async def test_what_a_reason_leaves_unsaid_stays_with_the_delivery(bench):
    await bench.put(2)
    one, other = await bench.claim()
    await bench.settle(one, 0, Finish(Mark.suppressed, "suppressed", "stop since 2026-01-01T00:00:00Z"))
    await bench.settle(other, 0, Finish(Mark.expired, "expired"))
    assert (await bench.delivery(one.id))["detail"] == "stop since 2026-01-01T00:00:00Z"
    assert (await bench.delivery(other.id))["detail"] is None


LATE = [
    (Finish(Mark.sent), Sent("mid")),
    (Again(0.0, "http_503", spent=1), TryNext("http_503")),
    (Doubt("timeout"), Unsure("timeout")),
    (Bury("attempts_used"), TryNext("http_503")),
]


@pytest.mark.parametrize(("to", "said"), LATE)
async def test_a_doubt_that_a_late_answer_ends_is_counted_as_that(bench, to, said):
    """One that it only opens anew is counted as opened once more, so that both sums stay true."""
    await bench.put()
    (held,) = await bench.claim()
    await bench.mark([held])
    await bench.make_due()
    assert await bench.claim(8) == [] and bench.events == [DoubtOpened(1, "worker_lost")]
    assert await bench.settle(held, 1, to, said) == [held.id]
    assert bench.events[1:] == [DoubtResolved(1, "late_answer")]


@pytest.mark.parametrize(("to", "said"), LATE)
async def test_an_answer_in_time_and_the_word_of_whoever_resolves_are_not_late(bench, to, said):
    await bench.put()
    (held,) = await bench.claim()
    await bench.mark([held])
    await bench.settle(held, 1, Doubt("timeout"), Unsure("timeout"))
    (doubt,) = await bench.store.claim(bench.shard, {IN_DOUBT: 10}, 9)
    assert await bench.settle(doubt, 1, to, said, token=9) == [held.id]
    assert bench.events == []

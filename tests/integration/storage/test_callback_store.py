"""Every change of a status that callers see makes its callbacks in the same commit, for those who listen alone."""

from datetime import UTC, datetime
from uuid import UUID

import pytest_asyncio
from msgspec.structs import replace

from tests.integration.shards import TwoShards
from tests.integration.storage.test_dispatches import Bench
from tidings.domain.callback import EVENTS, Notice, Owed, Webhook
from tidings.domain.delivery import Mark
from tidings.domain.dispatch import Again, Bury, Doubt, Finish
from tidings.domain.ids import Slot, compose, reference, slot_in
from tidings.domain.outcome import Receipt, Sent, TryNext, Unsure
from tidings.ports import Finished
from tidings.storage.callbacks import CallbackStore, ListenerStore
from tidings.storage.dead_letters import DeadLetterStore
from tidings.storage.receipts import ReceiptStore
from tidings.storage.shards import BY_ID, FEW_OF_MANY

ALL = sum(1 << mark for mark in EVENTS.values())
OURS, THEIRS = 5, 6


class Told(Bench):
    """A bench, and what it owes to callers."""

    version = 1

    async def open_callbacks(self, plain) -> None:
        self.callbacks = CallbackStore(self.shards, plain, 60.0)
        self.listeners = ListenerStore(plain)
        self.letters = DeadLetterStore(plain, lambda: self.two.catalog)
        self.receipts = ReceiptStore(plain, lambda *_: b"hash")

    async def listen(self, *webhooks: int, events: int = ALL) -> None:
        names = tuple(name for name, mark in EVENTS.items() if events & 1 << mark)
        known = {one: Webhook(one, self.two.tenant, str(one), "https://example.com", names, ()) for one in webhooks}
        await self.know(known)

    async def know(self, webhooks: dict[int, Webhook], version: int | None = None) -> None:
        """As a catalog says that is newer than all before, unless it is told apart."""
        self.version = version or self.version + 1
        await self.listeners.everywhere(replace(self.two.catalog, version=self.version, webhooks=webhooks))

    async def owed(self) -> list[tuple[int, UUID, Mark, str | None]]:
        rows = await self.two.rows("SELECT * FROM callback ORDER BY at, webhook")
        return [(row["webhook"], row["delivery_id"], Mark(row["status"]), row["reason"]) for row in rows]

    async def hear(self, id_: UUID, status: str, n: int = 1) -> None:
        receipt = Receipt(reference(id_, n), f"{status}-{n}", status, status, None, None, datetime.now(UTC), b"{}")
        account = next(iter(self.two.catalog.accounts.values()))
        await self.receipts.file(self.shard, account, [receipt])


@pytest_asyncio.fixture
async def told(two: TwoShards):
    for table in ("dispatch", "attempt", "callback", "listener", "listening"):
        await two.rows(f"DELETE FROM {table}")
    async with two.open(BY_ID) as shards, two.open(FEW_OF_MANY) as plain:
        one = Told(two, shards)
        await one.open_callbacks(plain)
        yield one
    await two.rows("DELETE FROM listener")


async def test_the_end_of_the_work_is_owed_to_each_who_listens(told: Told):
    await told.listen(OURS, THEIRS)
    await told.put()
    (held,) = await told.claim()
    await told.mark([held])
    await told.settle(held, 1, Finish(Mark.sent), Sent("mid"))
    assert await told.owed() == [(OURS, held.id, Mark.sent, None), (THEIRS, held.id, Mark.sent, None)]


async def test_nobody_listens_so_nothing_is_written(told: Told):
    await told.know({THEIRS: replace(webhook(told, THEIRS), tenant=told.two.tenant + 1)})
    await told.put()
    (held,) = await told.claim()
    await told.mark([held])
    await told.settle(held, 1, Finish(Mark.sent), Sent("mid"))
    assert await told.owed() == []


async def test_only_wanted_events_are_written(told: Told):
    await told.listen(OURS, events=1 << Mark.dead)
    await told.put(2)
    one, other = await told.claim()
    await told.settle(one, 0, Finish(Mark.suppressed, "suppressed"))
    await told.settle(other, 0, Bury("template_error"))
    assert await told.owed() == [(OURS, other.id, Mark.dead, "template_error")]


async def test_a_step_on_the_way_is_no_news(told: Told):
    await told.listen(OURS)
    await told.put()
    (held,) = await told.claim()
    await told.mark([held])
    await told.settle(held, 1, Again(0.0, "503", spent=1), TryNext("503"))
    (held,) = await told.claim(8)
    await told.mark([held], token=8)
    await told.settle(held, 2, Doubt("timeout"), Unsure("timeout"), token=8)
    assert await told.owed() == []


async def test_receipts_tell_what_they_change_and_the_end_of_the_work_does_not_say_it_again(told: Told):
    """A receipt may come while the call is under way."""
    await told.listen(OURS)
    await told.put()
    (held,) = await told.claim()
    await told.mark([held])
    await told.hear(held.id, "sent")
    await told.settle(held, 1, Finish(Mark.sent), Sent("mid"))
    for status in ("sent", "delivered", "delivered", "undelivered", "delivered"):
        await told.hear(held.id, status)
    assert [status for _, _, status, _ in await told.owed()] == [Mark.sent, Mark.delivered, Mark.undelivered]


async def test_a_hold_that_was_lost_tells_nothing(told: Told):
    await told.listen(OURS)
    await told.put()
    (held,) = await told.claim()
    await told.settle(held, 0, Finish(Mark.expired, "expired"), token=99)
    assert await told.owed() == []


async def test_a_late_sent_is_told_after_unknown(told: Told):
    await told.listen(OURS)
    await told.put()
    (held,) = await told.claim()
    await told.mark([held])
    await told.settle(held, 1, Finish(Mark.unknown, "in_doubt"), Unsure("timeout"))
    await told.settle(held, 1, Finish(Mark.sent), Sent("late"))
    assert [status for _, _, status, _ in await told.owed()] == [Mark.unknown, Mark.sent]


async def test_what_was_cancelled_is_told(told: Told):
    await told.listen(OURS)
    (row,) = await told.put()
    await told.store.cancel(told.shard, row.id, told.two.tenant)
    assert [(status, reason) for _, _, status, reason in await told.owed()] == [(Mark.cancelled, "cancelled")]


async def test_that_a_dead_letter_was_discarded_is_news_only_where_it_may_have_gone(told: Told):
    await told.listen(OURS)
    await told.put(2)
    dead, unsure = await told.claim()
    for held in (dead, unsure):
        await told.settle(held, 0, Bury("template_error"))
    await told.two.rows("UPDATE delivery SET duplicate_possible = true WHERE id = $1", unsure.id)
    await told.letters.discard(told.two.tenant, [dead.id, unsure.id], "obsolete", "a key")
    assert sorted((id_, status) for _, id_, status, _ in await told.owed()) == sorted(
        [(dead.id, Mark.dead), (unsure.id, Mark.dead), (unsure.id, Mark.unknown)]
    )


async def test_a_claim_brings_what_the_event_is_made_of(told: Told):
    await told.listen(OURS)
    (row,) = await told.put(reference="order-1")
    (held,) = await told.claim()
    await told.settle(held, 0, Finish(Mark.expired, "expired"))
    (one,) = await told.callbacks.claim(told.shard, {OURS: 5, THEIRS: 5}, 3)
    assert (one.webhook, one.token, one.tries, one.status, one.reason) == (OURS, 3, 0, Mark.expired, "expired")
    assert (one.notification, one.delivery, one.user, one.reference) == (row.id, held.id, row.user, "order-1")
    assert slot_in(one.id) == slot_in(held.id) and one.id != held.id
    assert await told.callbacks.claim(told.shard, {OURS: 5}, 4) == []


async def test_each_webhook_has_its_own_limit(told: Told):
    await told.listen(OURS, THEIRS)
    await told.put(4)
    for held in await told.claim():
        await told.settle(held, 0, Finish(Mark.expired, "expired"))
    held = await told.callbacks.claim(told.shard, {OURS: 3, THEIRS: 1}, 3)
    assert sorted(one.webhook for one in held) == [OURS] * 3 + [THEIRS]


async def one_owed(told: Told, *, listening: bool = False):
    if not listening:
        await told.listen(OURS)
    await told.put()
    (held,) = await told.claim()
    await told.settle(held, 0, Finish(Mark.expired, "expired"))
    (one,) = await told.callbacks.claim(told.shard, {OURS: 1}, 3)
    return one


async def test_what_was_told_is_owed_no_more(told: Told):
    one = await one_owed(told)
    await told.callbacks.finish(told.shard, [Finished(one.id, 99)])
    assert len(await told.owed()) == 1, "the hold is somebody else's"
    await told.callbacks.finish(told.shard, [Finished(one.id, one.token)])
    assert await told.owed() == []


async def test_what_failed_is_due_again_later_under_the_same_id(told: Told):
    one = await one_owed(told)
    await told.callbacks.finish(told.shard, [Finished(one.id, one.token, 60.0)])
    assert await told.callbacks.claim(told.shard, {OURS: 1}, 4) == []
    await told.two.rows("UPDATE callback SET due_at = due_at - interval '1 minute'")
    (again,) = await told.callbacks.claim(told.shard, {OURS: 1}, 4)
    assert (again.id, again.tries) == (one.id, 1)


async def test_the_hold_of_one_who_died_runs_out(told: Told):
    one = await one_owed(told)
    await told.two.rows("UPDATE callback SET due_at = due_at - interval '1 minute'")
    (again,) = await told.callbacks.claim(told.shard, {OURS: 1}, 4)
    assert (again.id, again.tries, again.token) == (one.id, 0, 4)


def webhook(told: Told, id_: int) -> Webhook:
    return Webhook(id_, told.two.tenant, str(id_), "https://example.com", tuple(EVENTS), ())


async def test_what_was_owed_to_one_who_no_longer_listens_is_dropped_and_nothing_else(told: Told):
    await one_owed(told)
    await told.listen(OURS, THEIRS)
    assert await told.callbacks.drop(told.shard, 10) == 0
    await told.know({OURS: replace(webhook(told, OURS), disabled_at=datetime.now(UTC))})
    assert await told.callbacks.drop(told.shard, 10) == 1
    assert await told.owed() == []


async def test_a_catalog_that_is_behind_changes_nothing_until_it_is_clear_that_it_is_the_newest(told: Told):
    await told.know({OURS: webhook(told, OURS)}, version=7)
    await told.know({}, version=6)
    await one_owed(told, listening=True)
    assert await told.callbacks.drop(told.shard, 10) == 0
    await told.two.rows("UPDATE listening SET at = at - interval '2 minutes'")
    await told.know({}, version=6)
    assert await told.callbacks.drop(told.shard, 10) == 1


async def test_who_listens_is_replaced_as_a_whole(told: Told):
    await told.listen(OURS, THEIRS)
    await told.listen(OURS, events=1 << Mark.dead)
    rows = await told.two.rows("SELECT tenant, webhook, events FROM listener")
    assert [tuple(row) for row in rows] == [(told.two.tenant, OURS, 1 << Mark.dead)] * 2, "one in each shard"
    await told.listen()
    assert await told.two.rows("SELECT 1 FROM listener") == []


def notice(n: int, webhook: int = OURS) -> Notice:
    return Notice(compose(Slot(0), 1_700_000_000_000, n), webhook, b'{"type":"webhook.disabled"}')


async def test_what_is_about_no_delivery_is_owed_once_however_often_it_is_put_and_told_as_it_is(told: Told):
    await told.listen(OURS, events=0)
    for _ in range(2):
        await told.callbacks.put(told.shard, [notice(1), notice(2)])
    assert await told.callbacks.drop(told.shard, 10) == 0, "somebody listens, if to no status"
    held = await told.callbacks.claim(told.shard, {OURS: 5}, 3)
    assert held == [replace(notice(n), token=3) for n in (1, 2)]
    await told.callbacks.finish(told.shard, [Finished(held[0].id, 3), Finished(held[1].id, 3, 0.0)])
    assert await told.callbacks.claim(told.shard, {OURS: 5}, 4) == [replace(notice(2), token=4, tries=1)]


async def test_both_kinds_are_claimed_together(told: Told):
    await one_owed(told)
    await told.two.rows("UPDATE callback SET due_at = now()")
    await told.callbacks.put(told.shard, [notice(1)])
    held = await told.callbacks.claim(told.shard, {OURS: 5}, 4)
    assert sorted(type(one).__name__ for one in held) == ["Callback", "Notice"]


async def test_what_is_owed_is_counted_and_the_oldest_that_is_due_has_its_age(told: Told):
    await told.listen(OURS, THEIRS)
    assert await told.callbacks.owed(told.shard) == Owed(0, 0.0)
    await told.callbacks.put(told.shard, [notice(1), notice(2), notice(3, THEIRS)])
    await told.two.rows("UPDATE callback SET due_at = now() + interval '1 hour'")
    assert await told.callbacks.owed(told.shard) == Owed(3, 0.0), "none of it is due"
    await told.two.rows("UPDATE callback SET due_at = now() - interval '1 minute' WHERE webhook = $1", THEIRS)
    owed = await told.callbacks.owed(told.shard)
    assert owed.waiting == 3 and 60 <= owed.oldest_due_s < 120

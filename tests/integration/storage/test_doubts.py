"""How much is in doubt, and since when: of a shard for the metrics, of a tenant for its people."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest_asyncio

from tests.integration.storage.test_accepting import accept, asked
from tidings.domain.callback import Owed
from tidings.domain.dispatch import Doubt
from tidings.domain.doubt import Standing
from tidings.domain.events import CallbacksCounted, DoubtsCounted
from tidings.domain.ids import TenantId
from tidings.domain.lanes import Channel, Class, lane_of
from tidings.domain.outcome import Unsure
from tidings.pipeline.sweep import Sweep
from tidings.ports import Settled
from tidings.runtime.clock import SystemClock
from tidings.storage.dispatches import DispatchStore
from tidings.storage.doubts import DoubtFigures
from tidings.storage.shards import BY_ID

LANE = lane_of(Channel.email, Class.transactional)


@pytest_asyncio.fixture
async def shards(two):
    await two.rows("DELETE FROM dispatch")
    async with two.open(BY_ID) as shards:
        yield shards


async def doubted(two, shards, account: int, n: int) -> None:
    """So many calls of an account that may have gone, in both shards."""
    await accept(two, *(asked(two, uuid4().hex) for _ in range(n)))
    store = DispatchStore(shards, shards, 60.0, 20.0)
    for shard in shards.numbers:
        held = await store.claim(shard, {LANE: 100}, 7)
        if held:
            marked = await store.mark(shard, [one.id for one in held], [7] * len(held), [account] * len(held))
            said = Unsure("timeout")
            await store.settle(
                shard, [Settled(one.id, 7, one.n, Doubt("timeout", 60.0), account, said) for one in marked]
            )


async def test_doubts_are_counted_by_channel_and_account_with_the_age_of_the_oldest(two, shards):
    await doubted(two, shards, 1, 20)
    await doubted(two, shards, 2, 3)
    await two.rows("UPDATE dispatch SET started_at = now() - interval '1 hour' WHERE provider = 1")
    await accept(two, asked(two, uuid4().hex))
    by_tenant = await DoubtFigures(shards).of_tenant(two.tenant)
    assert [(one.channel, one.account, one.count) for one in by_tenant] == [
        (Channel.email, 1, 20),
        (Channel.email, 2, 3),
    ]
    assert 3_600 <= by_tenant[0].oldest_s < 3_660 and by_tenant[1].oldest_s < 60
    by_shard = [one for shard in shards.numbers for one in await DoubtFigures(shards).standing(shard)]
    assert sum(one.count for one in by_shard) == 23
    assert await DoubtFigures(shards).of_tenant(TenantId(two.tenant + 1)) == []


async def test_the_sweep_tells_them_by_kind_of_provider_and_not_every_time(two):
    now, told, asked_for = datetime(2026, 1, 1, tzinfo=UTC), [], []

    async def in_doubt(shard):
        asked_for.append(shard)
        return [Standing(Channel.email, account, 2, now - timedelta(seconds=account), now) for account in (1, 1, 99)]

    async def nothing(*_):
        return 0

    async def owed(shard):
        return Owed(3, 1.5)

    sweep = Sweep(
        nothing, nothing, nothing, in_doubt, owed, lambda: two.catalog, SystemClock(), told.append, 1, 1, 60.0
    )
    for _ in range(3):
        await sweep.round(0)
    assert asked_for == [0]
    assert [one for one in told if isinstance(one, CallbacksCounted)] == [CallbacksCounted(0, 3, 1.5)]
    assert [one for one in told if isinstance(one, DoubtsCounted)] == [
        DoubtsCounted(
            0,
            {("email", "sendgrid"): 4, ("email", "gone"): 2},
            {("email", "sendgrid"): 1.0, ("email", "gone"): 99.0},
        )
    ]

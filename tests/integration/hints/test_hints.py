"""What every kind of hints does."""

import asyncio
import secrets
import time
from collections.abc import Sequence

from tidings.domain.ids import DeliveryId, ShardNumber, Slot, compose
from tidings.domain.lanes import IN_DOUBT, Channel, Class, Lane, lane_of
from tidings.ports import Hints

MAIL = lane_of(Channel.email, Class.transactional)
NEWS = lane_of(Channel.email, Class.promotional)
FIRST, SECOND = ShardNumber(0), ShardNumber(1)
SOON_S = 20.0


def delivery(shard: ShardNumber = FIRST) -> DeliveryId:
    """One that lives in this shard of two."""
    slot = Slot(secrets.randbelow(2048) + 2048 * shard)
    return DeliveryId(compose(slot, int(time.time() * 1000), secrets.randbits(62)))


async def hinted(hints: Hints, shard: ShardNumber, lane: Lane, timeout_s: float) -> Sequence[DeliveryId] | None:
    """What a worker is told that has just looked; fails when it is told nothing within the time."""
    async with asyncio.timeout(timeout_s):
        return await hints.take(shard, lane, 100, timeout_s + 60)


async def settled(hints: Hints, *of: tuple[ShardNumber, Lane]) -> None:
    """After this, nothing is left of how they began: who has just come looks once, whatever it is told."""
    for shard, lane in of:
        while await hints.take(shard, lane, 100, 0) is not None:
            pass


async def until_told(installation, hints: Hints, publisher: Hints, lane: Lane = MAIL) -> None:
    """Connected on both ways: a first hint has come through, however often it had to be sent."""
    await settled(hints, (FIRST, lane))
    while True:
        publisher.publish(FIRST, {delivery(): lane})
        began_s = time.monotonic()
        await hints.take(FIRST, lane, 100, 1.0)
        if time.monotonic() - began_s < 0.9:
            break
    await drained(hints, FIRST, lane)


async def drained(hints: Hints, shard: ShardNumber, lane: Lane) -> None:
    """Nothing more comes for a while."""
    while True:
        began_s = time.monotonic()
        await hints.take(shard, lane, 100, 0.5)
        if time.monotonic() - began_s >= 0.49:
            return


async def test_who_waits_is_told_at_once_and_by_another_process(installation):
    async with installation.member() as api, installation.member(MAIL) as worker:
        await until_told(installation, worker, api)
        waiting = asyncio.create_task(hinted(worker, FIRST, MAIL, SOON_S))
        await asyncio.sleep(0)
        one = delivery()
        api.publish(FIRST, {one: MAIL})
        named = await waiting
        assert named is None or list(named) == [one]


async def test_a_hint_that_came_while_nobody_waited_is_not_missed(installation):
    async with installation.member() as api, installation.member(MAIL) as worker:
        await until_told(installation, worker, api)
        one = delivery()
        api.publish(FIRST, {one: MAIL})
        await asyncio.sleep(0.5)
        named = await hinted(worker, FIRST, MAIL, SOON_S)
        assert named is None or list(named) == [one]


async def test_nobody_is_woken_for_another_lane_or_another_shard(installation):
    async with installation.member() as api, installation.member(MAIL, NEWS) as worker:
        await until_told(installation, worker, api)
        await drained(worker, SECOND, MAIL)
        await drained(worker, FIRST, NEWS)
        waiting = asyncio.create_task(worker.take(FIRST, MAIL, 100, 2.0))
        await asyncio.sleep(0)
        api.publish(FIRST, {delivery(FIRST): NEWS})
        api.publish(SECOND, {delivery(SECOND): MAIL})
        began_s = time.monotonic()
        await asyncio.gather(hinted(worker, FIRST, NEWS, SOON_S), hinted(worker, SECOND, MAIL, SOON_S))
        assert not waiting.done() or time.monotonic() - began_s >= 1.9
        assert await waiting is None


async def test_without_a_hint_a_worker_looks_after_its_patience(installation):
    async with installation.member(MAIL) as worker:
        await settled(worker, (FIRST, MAIL))
        await drained(worker, FIRST, MAIL)
        began_s = time.monotonic()
        assert await worker.take(FIRST, MAIL, 100, 0.3) is None
        assert 0.25 < time.monotonic() - began_s < 5


async def test_a_hint_for_parked_work_wakes_who_serves_it(installation):
    async with installation.member() as api, installation.member(IN_DOUBT) as relay:
        waiting = asyncio.create_task(hinted(relay, FIRST, IN_DOUBT, SOON_S))
        while not waiting.done():
            api.publish(FIRST, {delivery(): IN_DOUBT})
            await asyncio.sleep(0.1)
        assert waiting.result() is None


async def test_to_publish_never_waits_and_never_fails_for_nobody_in_particular(installation):
    async with installation.member() as api:
        began_s = time.monotonic()
        for _ in range(1_000):
            api.publish(FIRST, {delivery(): MAIL, delivery(): NEWS})
        assert time.monotonic() - began_s < 5

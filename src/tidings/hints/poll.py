"""Hints by Valkey: a wake-up call after the commit, best effort. Workers look every ``poll_s`` all the same."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

import redis.asyncio as redis
from redis.exceptions import RedisError

from tidings.domain.ids import DeliveryId, ShardNumber
from tidings.domain.lanes import Lane

_CHANNEL: Final = "tidings:due"
_QUIET_S: Final = 0.008
"""After a call the next one waits this long: an idle system is woken at once, a busy one costs 125 calls a second."""
_AGAIN_S: Final = 0.5
_TIMEOUT_S: Final = 1.0


class WakeByValkey:
    """Implements ``ports.Hints``. Without Valkey nothing is woken, and nothing fails."""

    def __init__(self, url: str) -> None:
        self._redis = redis.Redis.from_url(url, socket_timeout=None, socket_connect_timeout=_TIMEOUT_S)
        self._due: set[tuple[ShardNumber, Lane]] = set()
        self._something = asyncio.Event()
        self._sleepers = defaultdict[tuple[ShardNumber, Lane], asyncio.Event](asyncio.Event)
        self._loops: list[asyncio.Task[None]] = []

    def start(self, *, listen: bool) -> None:
        """Begins to publish, and to listen where somebody will wait."""
        loop = asyncio.get_running_loop()
        self._loops = [loop.create_task(self._publish())]
        if listen:
            self._loops.append(loop.create_task(self._listen()))

    async def close(self) -> None:
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        await self._redis.aclose()

    def publish(self, shard: ShardNumber, due: Mapping[DeliveryId, Lane]) -> None:
        self._due.update((shard, lane) for lane in set(due.values()))
        self._something.set()

    async def take(self, shard: ShardNumber, lane: Lane, most: int, timeout_s: float) -> None:
        woken = self._sleepers[shard, lane]
        if timeout_s > 0 and not woken.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(woken.wait(), timeout_s)
        woken.clear()

    async def leave(self) -> None:
        """Whoever looks takes it: there is nothing to hand over."""

    async def _publish(self) -> None:
        while True:
            await self._something.wait()
            self._something.clear()
            due, self._due = self._due, set()
            call = " ".join(f"{shard}:{lane}" for shard, lane in sorted(due))
            try:
                await self._redis.publish(_CHANNEL, call)
                await asyncio.sleep(_QUIET_S)
            except (RedisError, OSError):
                await asyncio.sleep(_AGAIN_S)

    async def _listen(self) -> None:
        while True:
            try:
                async with self._redis.pubsub(ignore_subscribe_messages=True) as calls:
                    await calls.subscribe(_CHANNEL)
                    self._wake_all()
                    async for call in calls.listen():
                        self._wake(call["data"])
            except (RedisError, OSError):
                await asyncio.sleep(_AGAIN_S)

    def _wake(self, call: bytes) -> None:
        for word in call.split():
            shard, _, lane = word.partition(b":")
            if shard.isdigit() and lane.isdigit():
                woken = self._sleepers.get((ShardNumber(int(shard)), Lane(int(lane))))
                if woken:
                    woken.set()

    def _wake_all(self) -> None:
        """After a time without a connection anything may have become due."""
        for woken in self._sleepers.values():
            woken.set()


class Unwoken:
    """Implements ``ports.Hints`` where there is no Valkey: workers look every ``poll_s``."""

    def publish(self, shard: ShardNumber, due: Mapping[DeliveryId, Lane]) -> None:
        return

    async def take(self, shard: ShardNumber, lane: Lane, most: int, timeout_s: float) -> None:
        await asyncio.sleep(timeout_s)

    async def leave(self) -> None:
        return

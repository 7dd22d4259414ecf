"""The relay: doubts, what callers' systems are told, and the passes that keep the tables in shape. Several may run:
each pass is harmless twice."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from tidings.domain.errors import Unavailable
from tidings.domain.events import StorageAway
from tidings.domain.ids import ShardNumber
from tidings.domain.lanes import IN_DOUBT
from tidings.pipeline.callbacks import TellCallers
from tidings.pipeline.doubt import ResolveDoubt
from tidings.pipeline.lookout import Lookout
from tidings.pipeline.sweep import Sweep
from tidings.ports import Emit, Hints
from tidings.runtime.telemetry import failure

_AGAIN_S: Final = 0.5
_LOOK_S: Final = 2.0

Round = Callable[[], Awaitable[bool | None]]


@dataclass
class Relay:
    """``sweep_s``: between two passes, and the longest that a due doubt waits. ``figures_s``: between two counts of
    what waits in the lanes."""

    doubt: ResolveDoubt
    sweep: Sweep
    lookout: Lookout
    callers: TellCallers
    hints: Hints
    shards: Sequence[ShardNumber]
    emit: Emit
    sweep_s: float
    figures_s: float

    async def run(self, stop: asyncio.Event) -> None:
        loops = [asyncio.create_task(self._resolve(shard)) for shard in self.shards]
        loops += [asyncio.create_task(self._sweep(shard)) for shard in self.shards]
        loops += [asyncio.create_task(self._tell(shard)) for shard in self.shards]
        loops += [asyncio.create_task(self._look()), asyncio.create_task(self._watch())]
        await stop.wait()
        for loop in loops:
            loop.cancel()
        await asyncio.gather(*loops, return_exceptions=True)
        await self.doubt.settle.drain()
        await self.callers.drain()

    async def _resolve(self, shard: ShardNumber) -> None:
        while True:
            if not await self._tried("doubt", lambda: self.doubt.round(shard)):
                await self.hints.take(shard, IN_DOUBT, 0, self.sweep_s)

    async def _tell(self, shard: ShardNumber) -> None:
        while True:
            await self._tried("callbacks", lambda: self.callers.round(shard))
            await self.callers.rest(shard)

    async def _look(self) -> None:
        while True:
            await self._tried("webhooks", self.callers.look)
            await asyncio.sleep(_LOOK_S)

    async def _watch(self) -> None:
        while True:
            await self._tried("lanes", self.lookout.round)
            await asyncio.sleep(self.figures_s)

    async def _sweep(self, shard: ShardNumber) -> None:
        while True:
            if not await self._tried("sweep", lambda: self.sweep.round(shard)):
                await asyncio.sleep(self.sweep_s)

    async def _tried(self, loop: str, round_: Round) -> bool:
        try:
            return bool(await round_())
        except Unavailable:
            self.emit(StorageAway(loop))
        except Exception as fault:  # the top of a loop: the next round finds the same rows
            self.emit(failure(loop, fault))
        await asyncio.sleep(_AGAIN_S)
        return False

"""The worker: a pump for each shard and lane, which claims and delivers until it is asked to leave."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tidings.domain.errors import Unavailable
from tidings.domain.events import StorageAway
from tidings.domain.ids import ShardNumber
from tidings.domain.lanes import Lane
from tidings.pipeline.deliver import Deliver
from tidings.pipeline.line_up import LineUp
from tidings.ports import Board, Clock, Emit, Hints
from tidings.runtime.telemetry import failure

_AGAIN_S: Final = 0.5
_SHOWN_EVERY_S: Final = 0.5
_LINED_UP_EVERY_S: Final = 0.1


@dataclass
class Worker:
    """Serves ``lanes`` of all shards, each by a pump of its own, so that none waits behind another. ``poll_s`` is the
    longest sleep of a pump that nobody wakes, ``gather_s`` the distance between two claims of one that is woken all the
    time: so a busy worker claims many at once, and an idle one at once."""

    deliver: Deliver
    line_up: LineUp
    hints: Hints
    board: Board
    shards: Sequence[ShardNumber]
    lanes: Sequence[Lane]
    emit: Emit
    clock: Clock
    poll_s: float
    gather_s: float
    drain_s: float

    async def run(self, stop: asyncio.Event) -> None:
        """Claims until ``stop``, then finishes what it has: at most ``drain_s``."""
        pumps = [asyncio.create_task(self._pump(shard, lane)) for shard in self.shards for lane in self.lanes]
        beside = [asyncio.create_task(self._show()), asyncio.create_task(self._line_up())]
        await stop.wait()
        await self._leave(pumps)
        for one in beside:
            one.cancel()

    async def _pump(self, shard: ShardNumber, lane: Lane) -> None:
        more = True
        while not self.deliver.send.room.closed:
            patience_s = 0.0 if more else self.poll_s
            named = await self.hints.take(shard, lane, self.deliver.appetite(lane), patience_s)
            began_s, more = self.clock.boottime_s(), True
            try:
                more = await self.deliver.round(shard, lane, named)
            except Unavailable:
                self.emit(StorageAway("pump"))
                await asyncio.sleep(_AGAIN_S)
                continue
            except Exception as fault:  # the top of a loop: what it held becomes due again by itself
                self.emit(failure("pump", fault))
                await asyncio.sleep(_AGAIN_S)
                continue
            if not more:
                await asyncio.sleep(began_s + self.gather_s - self.clock.boottime_s())

    async def _show(self) -> None:
        """Shows which accounts are not well here, and learns where they are not well for others."""
        health = self.deliver.health
        while True:
            try:
                await self.board.show(health.seen())
                health.learn(await self.board.read())
            except Exception as fault:  # the top of a loop: what it shows is worth no delivery
                self.emit(failure("board", fault))
            await asyncio.sleep(_SHOWN_EVERY_S)

    async def _line_up(self) -> None:
        while True:
            try:
                await self.line_up.round()
            except Exception as fault:  # the top of a loop: what waits is looked at again by itself, later
                self.emit(failure("line_up", fault))
            await asyncio.sleep(_LINED_UP_EVERY_S)

    async def _leave(self, pumps: Sequence["asyncio.Task[None]"]) -> None:
        """No new claims; marked calls end, untouched claims go back."""
        self.deliver.send.room.close()
        try:
            async with asyncio.timeout(self.drain_s):
                await asyncio.gather(self.hints.leave(), *pumps)
                await self.deliver.send.drain()
        except TimeoutError:
            return

"""Line up: what waits for accounts leaves in order once one of them is back, and while none is, somebody is called
forward to try. So whatever was told to wait may wait for long, and costs nothing meanwhile."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from tidings.domain.errors import Unavailable
from tidings.domain.events import LinedUp
from tidings.domain.ids import DeliveryId, ShardNumber
from tidings.domain.lanes import Class, channel_of, lane_of, sending_lanes
from tidings.domain.line import Line, Place
from tidings.pipeline.backlog import Queue
from tidings.pipeline.health import Health
from tidings.ports import Clock, Emit, Hints, Lines

T = TypeVar("T")

_READ_EVERY_S: Final = (5.0, 60.0)
_READ_AT_MOST: Final = 0.02
"""Share of the time that may go into looking who waits at all."""


@dataclass
class LineUp:
    """Calls those who wait for the accounts of one worker, ``most`` at a time. A shard that has not answered within
    ``patience_s`` is left out until it does."""

    lines: Lines
    health: Health
    hints: Hints
    clock: Clock
    emit: Emit
    shards: Sequence[ShardNumber]
    most: int
    patience_s: float = 5.0
    _read_s: float = field(default=0.0, init=False)
    _slow: dict[ShardNumber, "asyncio.Future[Any]"] = field(default_factory=dict, init=False)

    async def round(self) -> None:
        """One look at the accounts, and what follows from it."""
        self.health.look()
        if self.clock.boottime_s() >= self._read_s:
            await self._read()
        moving = [self._move(queue, line) for queue, line in self.health.backlog.to_move().items()]
        calling = [self._call(number, *whom) for number, whom in self.health.to_probe().items()]
        await asyncio.gather(*moving, *calling)

    async def _read(self) -> None:
        """Who waits where nobody may be left who would call him: from before this worker began, because his shard was
        away when the others left, or because he was told to wait by a worker that did not know yet."""
        began_s = self.clock.boottime_s()
        found = await self._in_each(self.shards, self.lines.queues)
        lanes = {queue for queues in found.values() for queue in queues}
        self.health.found_waiting({(tenant, channel_of(lane)) for tenant, lane in lanes if lane in sending_lanes()})
        now_s = self.clock.boottime_s()
        often_s, rarely_s = _READ_EVERY_S
        self._read_s = now_s + min(max((now_s - began_s) / _READ_AT_MOST, often_s), rarely_s)

    async def _move(self, queue: Queue, line: Line) -> None:
        """Those whose turn has come leave: one line over all shards, transactional before promotional."""
        now_s = self.clock.boottime_s()
        turns = int(min(line.turns(now_s), self.most))
        left, leave = turns, list[Place]()
        for class_ in Class:
            if left <= 0:
                break
            oldest = await self._oldest(queue, class_, line.behind(class_), left)
            await self._let_go(queue, class_, oldest)
            leave += [(class_, id_) for id_, _ in oldest]
            left -= len(oldest)
        if turns:
            line.moved(leave, now_s, all_left=left > 0)
        if leave:
            self.emit(LinedUp(queue[1].name, len(leave)))

    async def _call(self, number: int, queue: Queue, behind: DeliveryId) -> None:
        """The oldest may come now, to try the account."""
        for class_ in Class:
            oldest = await self._oldest(queue, class_, behind, 1)
            if oldest:
                await self._let_go(queue, class_, oldest)
                break
        self.health.called(number, found=bool(oldest))

    async def _oldest(
        self, queue: Queue, class_: Class, behind: DeliveryId, most: int
    ) -> Sequence[tuple[DeliveryId, ShardNumber]]:
        """The first of all shards, and where they are."""
        lane = lane_of(queue[1], class_)
        found = await self._in_each(self.shards, lambda shard: self.lines.read(shard, (queue[0], lane), behind, most))
        return sorted((id_, shard) for shard, ids in found.items() for id_ in ids)[:most]

    async def _let_go(self, queue: Queue, class_: Class, leave: Iterable[tuple[DeliveryId, ShardNumber]]) -> None:
        by_shard, lane = defaultdict[ShardNumber, list[DeliveryId]](list), lane_of(queue[1], class_)
        for id_, shard in leave:
            by_shard[shard].append(id_)
        for shard, gone in (
            await self._in_each(by_shard, lambda shard: self.lines.let_go(shard, queue[0], by_shard[shard]))
        ).items():
            self.hints.publish(shard, dict.fromkeys(gone, lane))

    async def _in_each(
        self, shards: Iterable[ShardNumber], ask: Callable[[ShardNumber], Awaitable[T]]
    ) -> Mapping[ShardNumber, T]:
        """What the shards say that are there. One that is slow is not asked again before it has answered."""
        self._slow = {shard: asked for shard, asked in self._slow.items() if not asked.done()}
        asked = {shard: asyncio.ensure_future(ask(shard)) for shard in shards if shard not in self._slow}
        if asked:
            await asyncio.wait(asked.values(), timeout=self.patience_s)
        found = dict[ShardNumber, T]()
        for shard, answer in asked.items():
            if not answer.done():
                self._slow[shard] = answer
            elif not isinstance(answer.exception(), Unavailable):
                found[shard] = answer.result()
        return found

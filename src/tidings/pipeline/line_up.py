"""Line up: what waits for accounts gets its turns once one of them is back, and while none is, somebody is called
forward to try. So whatever was told to wait may wait for long, and costs nothing meanwhile."""

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from tidings.domain.errors import Unavailable
from tidings.domain.events import LinedUp
from tidings.domain.ids import DeliveryId, ShardNumber
from tidings.domain.lanes import Class, channel_of, lane_of, sending_lanes
from tidings.domain.line import SHORT_S, Line, Places
from tidings.pipeline.health import NOBODY, Health, Queue
from tidings.ports import Clock, Emit, Lines

T = TypeVar("T")


class _Plan(msgspec.Struct, frozen=True):
    """A line from ``head_s`` on, of which each shard has its share: ``per_s``."""

    queue: Queue
    head_s: float
    per_s: float


class _Formed(msgspec.Struct, frozen=True):
    """How many of one shard wait, up to the end of each class, and how many of them have another turn than before."""

    places: Sequence[int]
    moved: int


@dataclass
class LineUp:
    """Lines up what waits for the accounts of one worker, ``most`` at a time. Several may do so at once: they find the
    same turns."""

    lines: Lines
    health: Health
    clock: Clock
    emit: Emit
    shards: Sequence[ShardNumber]
    most: int
    _unread: set[ShardNumber] = field(init=False)

    def __post_init__(self) -> None:
        self._unread = set(self.shards)

    async def round(self) -> None:
        """One look at the accounts, and what follows from it."""
        self.health.look()
        if self._unread:
            await asyncio.gather(*map(self._read, tuple(self._unread)))
        forming = [self._form(queue, lines) for queue, lines in self.health.to_form().items()]
        calling = [self._call(number, *whom) for number, whom in self.health.to_probe().items()]
        await asyncio.gather(*forming, *calling)

    async def _read(self, shard: ShardNumber) -> None:
        """What waits where nobody may be left who knows that its account was away: from before this worker began, or
        because the shard was away when all were lined up."""
        found = await _unless_away(self.lines.queues(shard))
        if found is not None:
            self._unread.discard(shard)
            self.health.let_in({(tenant, channel_of(lane)) for tenant, lane in found if lane in sending_lanes()})

    async def _form(self, queue: Queue, lines: Sequence[Line]) -> None:
        began_s = self.clock.boottime_s()
        head_s, per_s = max(began_s, min(line.head_s for line in lines)), max(line.per_s for line in lines)
        plan = _Plan(queue, head_s, per_s / len(self.shards))
        found = await asyncio.gather(*(self._form_in(shard, plan) for shard in self.shards))
        longest = [max(places) for places in zip(*(one.places for one in found), strict=True)]
        lasts_s = {class_: most / plan.per_s for class_, most in zip(Class, longest, strict=True)}
        ends_s = {class_: head_s + for_s for class_, for_s in lasts_s.items() if for_s > SHORT_S}
        for line in lines:
            line.formed(began_s, ends_s)
        waiting, moved = sum(one.places[-1] for one in found), sum(one.moved for one in found)
        self.emit(LinedUp(queue[1].name, waiting, moved, max(ends_s.values(), default=began_s) - began_s))

    async def _form_in(self, shard: ShardNumber, plan: _Plan) -> _Formed:
        places, moved = list[int](), 0
        try:
            for class_ in Class:
                first = places[-1] if places else 0
                count, changed = await self._form_class(shard, plan, class_, first)
                places.append(first + count)
                moved += changed
        except Unavailable:
            self._unread.add(shard)
            return _Formed([0] * len(Class), moved)
        return _Formed(places, moved)

    async def _form_class(self, shard: ShardNumber, plan: _Plan, class_: Class, first: int) -> tuple[int, int]:
        """``(waiting, moved)`` of one class, whose first stands behind so many others."""
        (tenant, channel), behind, moved = plan.queue, NOBODY, 0
        places = Places(first, plan.head_s, plan.per_s)
        while some := await self.lines.read(shard, (tenant, lane_of(channel, class_)), behind, self.most):
            turns = tuple(places.misplaced([one.turn_s for one in some], self.clock.boottime_s()))
            if turns:
                ids, after_s = [some[n].id for n, _ in turns], [turn_s for _, turn_s in turns]
                moved += await self.lines.place(shard, tenant, ids, after_s)
            behind = some[-1].id
        return places.given, moved

    async def _call(self, number: int, queue: Queue, behind: DeliveryId) -> None:
        """The oldest of each shard may come now: the first of them tries the account."""
        found = await asyncio.gather(*(_unless_away(self._call_in(shard, queue, behind)) for shard in self.shards))
        self.health.called(number, found=any(found))

    async def _call_in(self, shard: ShardNumber, queue: Queue, behind: DeliveryId) -> bool:
        tenant, channel = queue
        for class_ in Class:
            oldest = await self.lines.read(shard, (tenant, lane_of(channel, class_)), behind, 1)
            if oldest:
                await self.lines.place(shard, tenant, [oldest[0].id], [0.0])
                return True
        return False


async def _unless_away(asked: Awaitable[T]) -> T | None:
    """None when the shard cannot answer now."""
    try:
        return await asked
    except Unavailable:
        return None

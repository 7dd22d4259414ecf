"""Line up: what waits for accounts gets its turns once one of them is back, and while none is, somebody is called
forward to try. So whatever was told to wait may wait for long, and costs nothing meanwhile."""

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from tidings.domain.errors import Unavailable
from tidings.domain.events import LinedUp
from tidings.domain.ids import DeliveryId, ShardNumber, TenantId
from tidings.domain.lanes import Class, Lane, channel_of, lane_of, sending_lanes
from tidings.domain.line import SHORT_S, Line, Places
from tidings.pipeline.health import NOBODY, Health, Queue
from tidings.ports import Clock, Emit, Lines

T = TypeVar("T")


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
        self._unread.discard(shard)
        if found := await self._or_later(self.lines.queues(shard), shard):
            self.health.let_in({(tenant, channel_of(lane)) for tenant, lane in found if lane in sending_lanes()})

    async def _form(self, queue: Queue, lines: Sequence[Line]) -> None:
        """All shards together make one line, in which each has its share of the turns."""
        began_s, (tenant, channel) = self.clock.boottime_s(), queue
        head_s, per_s = max(began_s, min(line.head_s for line in lines)), max(line.per_s for line in lines)
        lanes = [lane_of(channel, class_) for class_ in Class]
        counts = await asyncio.gather(
            *(self._or_later(self.lines.count(one, tenant, lanes), one) for one in self.shards)
        )
        ends_s, waiting, moved = dict[Class, float](), 0, 0
        for n, class_ in enumerate(Class):
            shares = {shard: found[n] for shard, found in zip(self.shards, counts, strict=True) if found and found[n]}
            moved += await self._form_class((tenant, lanes[n]), shares, head_s + waiting / per_s, per_s)
            waiting += sum(shares.values())
            if waiting / per_s > SHORT_S:
                ends_s[class_] = head_s + waiting / per_s
        for line in lines:
            line.formed(began_s, ends_s)
        self.emit(LinedUp(channel.name, waiting, moved, head_s + waiting / per_s - began_s))

    async def _form_class(
        self, queue: tuple[TenantId, Lane], shares: Mapping[ShardNumber, int], head_s: float, per_s: float
    ) -> int:
        total = sum(shares.values())
        forming = [
            self._or_later(self._form_in(shard, queue, Places(head_s, per_s * share / total)), shard)
            for shard, share in shares.items()
        ]
        return sum(moved for moved in await asyncio.gather(*forming) if moved)

    async def _form_in(self, shard: ShardNumber, queue: tuple[TenantId, Lane], places: Places) -> int:
        behind, moved = NOBODY, 0
        while some := await self.lines.read(shard, queue, behind, self.most):
            turns = tuple(places.misplaced([one.turn_s for one in some], self.clock.boottime_s()))
            if turns:
                ids, after_s = [some[n].id for n, _ in turns], [turn_s for _, turn_s in turns]
                moved += await self.lines.place(shard, queue[0], ids, after_s)
            behind = some[-1].id
        return moved

    async def _or_later(self, asked: Awaitable[T], shard: ShardNumber) -> T | None:
        """None when the shard cannot answer now; then it is read anew once it can."""
        try:
            return await asked
        except Unavailable:
            self._unread.add(shard)
            return None

    async def _call(self, number: int, queue: Queue, behind: DeliveryId) -> None:
        """The oldest of each shard may come now: the first of them tries the account."""
        found = await asyncio.gather(*(self._or_later(self._call_in(one, queue, behind), one) for one in self.shards))
        self.health.called(number, found=any(found))

    async def _call_in(self, shard: ShardNumber, queue: Queue, behind: DeliveryId) -> bool:
        tenant, channel = queue
        for class_ in Class:
            oldest = await self.lines.read(shard, (tenant, lane_of(channel, class_)), behind, 1)
            if oldest:
                await self.lines.place(shard, tenant, [oldest[0].id], [0.0])
                return True
        return False

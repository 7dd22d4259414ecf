"""Line up: what waits for accounts gets its turns once one of them is back, and while none is, somebody is called
forward to try. So whatever was told to wait may wait for long, and costs nothing meanwhile."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, TypeAlias, TypeVar
from uuid import UUID

from tidings.domain.errors import Unavailable
from tidings.domain.events import LinedUp
from tidings.domain.ids import DeliveryId, ShardNumber, TenantId
from tidings.domain.lanes import Class, Lane, channel_of, lane_of, sending_lanes
from tidings.domain.line import SHORT_S, Line, Places
from tidings.pipeline.health import NOBODY, Health, Queue
from tidings.ports import Clock, Emit, Lines, Waiting

T = TypeVar("T")
_Read: TypeAlias = Callable[..., Awaitable[Sequence[Waiting]]]

_READ_EVERY_S: Final = 5.0
_LAST: Final = UUID(int=(1 << 128) - 1)


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
    _read_s: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self._unread = set(self.shards)

    async def round(self) -> None:
        """One look at the accounts, and what follows from it."""
        self.health.look()
        if self._unread or self.clock.boottime_s() >= self._read_s:
            await self._read()
        forming = [self._form(queue, lines) for queue, lines in self.health.to_form().items()]
        calling = [self._call(number, *whom) for number, whom in self.health.to_probe().items()]
        await asyncio.gather(*forming, *calling)

    async def _read(self) -> None:
        """What waits where nobody may be left who knows that its account was away: from before this worker began,
        because the shard was away when all were lined up, or because it was told to wait by a worker that did not know
        yet, and stored after the line was read. So all shards are read now and then."""
        anew, self._unread = bool(self._unread), set()
        self._read_s = self.clock.boottime_s() + _READ_EVERY_S
        found = await self._in_each(self.shards, self.lines.queues)
        queues = {queue for queues in found.values() for queue in queues}
        self.health.let_in(
            {(tenant, channel_of(lane)) for tenant, lane in queues if lane in sending_lanes()}, anew=anew
        )

    async def _form(self, queue: Queue, lines: Sequence[Line]) -> None:
        """One line over all shards, transactional before promotional. A new one is of all who wait. Afterwards it is
        of those who have not been told meanwhile that they wait for an account that is still away."""
        began_s, (tenant, channel), moved = self.clock.boottime_s(), queue, 0
        read = partial(self.lines.read, lined=not any(line.is_new for line in lines))
        head_s, per_s = max(began_s, min(line.head_s for line in lines)), max(line.per_s for line in lines)
        places, ends_s = Places(head_s, per_s), dict[Class, float]()
        for class_ in Class:
            moved += await self._form_class((tenant, lane_of(channel, class_)), read, places)
            if places.given / per_s > SHORT_S:
                ends_s[class_] = head_s + places.given / per_s
        for line in lines:
            line.formed(began_s, ends_s)
        self.emit(LinedUp(channel.name, places.given, moved, head_s + places.given / per_s - began_s))

    async def _form_class(self, queue: tuple[TenantId, Lane], read: _Read, places: Places) -> int:
        """Reads a piece of each shard, and goes as far as all of them have told who stands there."""
        behind, shards, moved, piece = NOBODY, list(self.shards), 0, -(-self.most // len(self.shards))
        while True:
            found = await self._in_each(shards, partial(read, queue=queue, behind=behind, most=piece))
            shards = list(found)
            until = min((some[-1].id for some in found.values() if len(some) == piece), default=_LAST)
            known = [(one, shard) for shard, some in found.items() for one in some if one.id <= until]
            if not known:
                return moved
            known.sort(key=lambda each: each[0].id)
            moved += await self._place(queue[0], known, places)
            behind = known[-1][0].id

    async def _place(self, tenant: TenantId, known: Sequence[tuple[Waiting, ShardNumber]], places: Places) -> int:
        turns = defaultdict[ShardNumber, dict[DeliveryId, float]](dict)
        for n, turn_s in places.misplaced([one.turn_s for one, _ in known], self.clock.boottime_s()):
            one, shard = known[n]
            turns[shard][one.id] = turn_s
        placed = await self._in_each(
            turns, lambda shard: self.lines.place(shard, tenant, [*turns[shard]], [*turns[shard].values()])
        )
        return sum(placed.values())

    async def _call(self, number: int, queue: Queue, behind: DeliveryId) -> None:
        """The oldest of each shard may come now: the first of them tries the account."""
        found = await self._in_each(self.shards, lambda shard: self._call_in(shard, queue, behind))
        self.health.called(number, found=any(found.values()))

    async def _call_in(self, shard: ShardNumber, queue: Queue, behind: DeliveryId) -> bool:
        tenant, channel = queue
        for class_ in Class:
            oldest = await self.lines.read(shard, (tenant, lane_of(channel, class_)), behind, 1)
            if oldest:
                await self.lines.place(shard, tenant, [oldest[0].id], [0.0])
                return True
        return False

    async def _in_each(
        self, shards: Iterable[ShardNumber], ask: Callable[[ShardNumber], Awaitable[T]]
    ) -> Mapping[ShardNumber, T]:
        """What the shards say. One that is away is left out, and read anew once it is back."""
        asked = list(shards)
        said = await asyncio.gather(*map(ask, asked), return_exceptions=True)
        found = dict[ShardNumber, T]()
        for shard, answer in zip(asked, said, strict=True):
            if isinstance(answer, Unavailable):
                self._unread.add(shard)
            elif isinstance(answer, BaseException):
                raise answer
            else:
                found[shard] = answer
        return found

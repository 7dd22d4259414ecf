"""Lookout: what waits in the lanes of all shards, and who is there to work it off."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from math import nan

from tidings.domain.errors import Unavailable
from tidings.domain.events import HintsLagged, LanesCounted, LaneServed, StorageAway
from tidings.domain.figures import LaneCount, LaneFigures, lane_figures, told_unserved, unserved
from tidings.domain.ids import ShardNumber
from tidings.domain.lanes import lane_name
from tidings.domain.presence import WORK, Present, pace
from tidings.ports import Emit, Lag, RollCall

CountLanes = Callable[[ShardNumber], Awaitable[Sequence[LaneCount]]]


@dataclass
class Lookout:
    """Tells of every lane how much waits, how old it is, who serves it, and when it will be gone."""

    count: CountLanes
    roll: RollCall
    lag: Lag
    shards: Sequence[ShardNumber]
    emit: Emit
    _before: Sequence[Present] = field(default=(), init=False)
    _unserved: Sequence[LaneFigures] = field(default=(), init=False)

    async def round(self) -> None:
        counted = await asyncio.gather(*(self._counted(shard) for shard in self.shards))
        workers, lag = await asyncio.gather(self.roll.read(WORK), self.lag())
        paced = pace(self._before, workers or ())
        lanes = lane_figures((one for some in counted for one in some), workers, paced, lag)
        self._before, self._unserved = workers or (), unserved(lanes)
        self._tell(lanes)

    def warnings(self) -> Sequence[str]:
        """Lanes that have due work and no worker."""
        return list(map(told_unserved, self._unserved))

    async def _counted(self, shard: ShardNumber) -> Sequence[LaneCount]:
        """A shard that is away is left out: the others tell what they have."""
        try:
            counts = await self.count(shard)
        except Unavailable:
            self.emit(StorageAway("lanes"))
            return ()
        self.emit(
            LanesCounted(
                shard=shard,
                waiting={(lane_name(one.lane),): one.waiting for one in counts},
                due={(lane_name(one.lane),): one.due for one in counts},
                oldest_due_s={(lane_name(one.lane),): one.oldest_due_s for one in counts},
            )
        )
        return counts

    def _tell(self, lanes: Iterable[LaneFigures]) -> None:
        for one in lanes:
            if one.workers is not None:
                self.emit(LaneServed(one.lane, one.workers, nan if one.drain_s is None else one.drain_s))
            if one.lag is not None:
                self.emit(HintsLagged(one.lane, one.lag))

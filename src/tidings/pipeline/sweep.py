"""Sweep: the periodic passes over one shard. Claims that ran out need none: the claim itself finds them."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from tidings.domain.events import SweepDone
from tidings.domain.ids import ShardNumber
from tidings.ports import Clock, Emit

_PARTITIONS_EVERY_S: Final = 600.0

EmptyKeys = Callable[[ShardNumber, int], Awaitable[int]]
MakePartitions = Callable[[ShardNumber, int], Awaitable[int]]
Spread = Callable[[ShardNumber, int], Awaitable[int]]

_SUPPRESSIONS_TOGETHER: Final = 1_000


@dataclass
class Sweep:
    """Removes expired keys ``keys_batch`` at a time, keeps partitions ``ahead_days`` ahead, and tells the other shards
    what this one has learnt of addresses."""

    empty_keys: EmptyKeys
    make_partitions: MakePartitions
    spread: Spread
    clock: Clock
    emit: Emit
    keys_batch: int
    ahead_days: int
    _partitions_s: dict[ShardNumber, float] = field(default_factory=dict, init=False)

    async def round(self, shard: ShardNumber) -> bool:
        """True when there is more to do at once."""
        now_s = self.clock.boottime_s()
        if now_s >= self._partitions_s.get(shard, 0.0):
            made = await self.make_partitions(shard, self.ahead_days)
            self._partitions_s[shard] = now_s + _PARTITIONS_EVERY_S
            self.emit(SweepDone("partitions", made, self.clock.boottime_s() - now_s))
        removed = await self.empty_keys(shard, self.keys_batch)
        if removed:
            self.emit(SweepDone("keys", removed, self.clock.boottime_s() - now_s))
        spread = await self.spread(shard, _SUPPRESSIONS_TOGETHER)
        if spread:
            self.emit(SweepDone("suppressions", spread, self.clock.boottime_s() - now_s))
        return removed >= self.keys_batch or spread >= _SUPPRESSIONS_TOGETHER

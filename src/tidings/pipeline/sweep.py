"""Sweep: the periodic passes over one shard. Claims that ran out need none: the claim itself finds them."""

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from tidings.domain.callback import Owed
from tidings.domain.doubt import Standing
from tidings.domain.events import CallbacksCounted, DoubtsCounted, SweepDone
from tidings.domain.ids import ShardNumber
from tidings.ports import Catalogs, Clock, Emit

_PARTITIONS_EVERY_S: Final = 600.0

EmptyKeys = Callable[[ShardNumber, int], Awaitable[int]]
MakePartitions = Callable[[ShardNumber, int], Awaitable[int]]
Spread = Callable[[ShardNumber, int], Awaitable[int]]
InDoubt = Callable[[ShardNumber], Awaitable[Sequence[Standing]]]
Owing = Callable[[ShardNumber], Awaitable[Owed]]

_SUPPRESSIONS_TOGETHER: Final = 1_000
_GONE: Final = "gone"
"""The kind of an account that is no longer there."""


@dataclass
class Sweep:
    """Removes expired keys ``keys_batch`` at a time, keeps partitions ``ahead_days`` ahead, tells the other shards what
    this one has learnt of addresses, and counts every ``figures_s`` what is in doubt and what callers are still to be
    told."""

    empty_keys: EmptyKeys
    make_partitions: MakePartitions
    spread: Spread
    in_doubt: InDoubt
    owed: Owing
    catalogs: Catalogs
    clock: Clock
    emit: Emit
    keys_batch: int
    ahead_days: int
    figures_s: float
    _partitions_s: dict[ShardNumber, float] = field(default_factory=dict, init=False)
    _figures_s: dict[ShardNumber, float] = field(default_factory=dict, init=False)

    async def round(self, shard: ShardNumber) -> bool:
        """True when there is more to do at once."""
        now_s = self.clock.boottime_s()
        if now_s >= self._partitions_s.get(shard, 0.0):
            made = await self.make_partitions(shard, self.ahead_days)
            self._partitions_s[shard] = now_s + _PARTITIONS_EVERY_S
            self.emit(SweepDone("partitions", made, self.clock.boottime_s() - now_s))
        if now_s >= self._figures_s.get(shard, 0.0):
            self._figures_s[shard] = now_s + self.figures_s
            self._tell(shard, await self.in_doubt(shard))
            owed = await self.owed(shard)
            self.emit(CallbacksCounted(shard, owed.waiting, owed.oldest_due_s))
        removed = await self.empty_keys(shard, self.keys_batch)
        if removed:
            self.emit(SweepDone("keys", removed, self.clock.boottime_s() - now_s))
        spread = await self.spread(shard, _SUPPRESSIONS_TOGETHER)
        if spread:
            self.emit(SweepDone("suppressions", spread, self.clock.boottime_s() - now_s))
        return removed >= self.keys_batch or spread >= _SUPPRESSIONS_TOGETHER

    def _tell(self, shard: ShardNumber, standing: Sequence[Standing]) -> None:
        """By channel and kind of provider: accounts have names that callers chose, and there may be many."""
        counts, oldest_s = Counter[tuple[str, str]](), dict[tuple[str, str], float]()
        for one in standing:
            account = self.catalogs().accounts.get(one.account)
            of = (one.channel.name, account.kind if account else _GONE)
            counts[of] += one.count
            oldest_s[of] = max(one.oldest_s, oldest_s.get(of, 0.0))
        self.emit(DoubtsCounted(shard, counts, oldest_s))

"""Settle: what became of each hold, many in one commit.

A database that is away is waited for: the answers are kept, because each that is lost here becomes a doubt.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from tidings.domain.claimed import Claimed
from tidings.domain.dispatch import Again, Bury, Doubt, Settlement
from tidings.domain.errors import Unavailable
from tidings.domain.events import BatchSettled, DeadLettered, DoubtOpened, SettleFailed
from tidings.domain.ids import DeliveryId, ShardNumber
from tidings.pipeline.gather import Gather
from tidings.ports import Clock, Dispatches, Emit, Settled

_AGAIN_S: Final = 0.2


@dataclass
class Settle:
    """``patience_s``: how long a database that is away is waited for; afterwards the claims run out by themselves."""

    dispatches: Dispatches
    clock: Clock
    emit: Emit
    most: int
    side_by_side: int
    patience_s: float
    _gathers: dict[ShardNumber, Gather[Settled, bool]] = field(default_factory=dict, init=False)

    def untried(self, shard: ShardNumber, held: Claimed, to: Settlement) -> None:
        """Settles a delivery for which no call was made."""
        self.put(
            shard,
            Settled(
                held.id,
                held.token,
                held.tries,
                to,
                address=held.address,
                address_hash=held.address_hash,
                expires_at=held.expires_at,
            ),
        )

    def put(self, shard: ShardNumber, settled: Settled) -> None:
        """Settles it with the next commit; nobody waits."""
        if shard not in self._gathers:

            async def flush(rows: Sequence[Settled]) -> Sequence[bool | Exception]:
                return await self._flush(shard, rows)

            self._gathers[shard] = Gather(flush, self.most, self.side_by_side, _ids)
        self._gathers[shard].put(settled)

    async def drain(self) -> None:
        await asyncio.gather(*(gather.drain() for gather in self._gathers.values()))

    async def _flush(self, shard: ShardNumber, rows: Sequence[Settled]) -> Sequence[bool]:
        until_s = self.clock.boottime_s() + self.patience_s
        while True:
            try:
                done = await self._settle(shard, rows)
                break
            except Unavailable as fault:
                self.emit(SettleFailed(shard=shard, count=len(rows), why=fault.detail))
                if self.clock.boottime_s() > until_s:
                    return [False] * len(rows)
                await asyncio.sleep(_AGAIN_S)
        self._tell(shard, rows, done)
        return [row.id in done for row in rows]

    async def _settle(self, shard: ShardNumber, rows: Sequence[Settled]) -> set[DeliveryId]:
        """One that cannot be stored must not take the others with it: then each goes alone."""
        try:
            return set(await self.dispatches.settle(shard, rows))
        except Unavailable:
            raise
        except Exception as fault:
            self.emit(SettleFailed(shard=shard, count=len(rows), why=type(fault).__name__))
            if len(rows) == 1:
                return set()
            return set[DeliveryId]().union(*[await self._settle(shard, [row]) for row in rows])

    def _tell(self, shard: ShardNumber, rows: Sequence[Settled], done: set[DeliveryId]) -> None:
        outcomes = Counter(_word(row) for row in rows if row.id in done)
        self.emit(BatchSettled(shard=shard, outcomes=dict(outcomes), lost=len(rows) - len(done)))
        for row in rows:
            if row.id not in done:
                continue
            if isinstance(row.to, Bury):
                self.emit(DeadLettered(delivery=row.id, reason=row.to.reason))
            elif isinstance(row.to, Doubt):
                self.emit(DoubtOpened(delivery=row.id, reason=row.to.reason))


def _ids(row: Settled) -> Sequence[DeliveryId]:
    return (row.id,)


def _word(row: Settled) -> str:
    match row.to:
        case Again():
            return "again"
        case Doubt():
            return "in_doubt"
        case Bury():
            return "dead"
        case finish:
            return finish.mark.name

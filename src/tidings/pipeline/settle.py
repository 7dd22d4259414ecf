"""Settle: what became of each hold, many in one commit.

A database that is away is waited for: the answers are kept, because each that is lost here becomes a doubt.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from tidings.domain.claimed import Claimed
from tidings.domain.delivery import Mark
from tidings.domain.dispatch import Again, Bury, Doubt, Finish, Settlement
from tidings.domain.errors import Unavailable
from tidings.domain.events import (
    AddressesGone,
    BatchSettled,
    CallsMade,
    CostsIncurred,
    DeadLettered,
    DoubtOpened,
    SettleFailed,
)
from tidings.domain.ids import DeliveryId, ShardNumber, unix_ms_in
from tidings.domain.lanes import lane_name
from tidings.domain.outcome import Refused, Sent
from tidings.pipeline.gather import Clash, Gather
from tidings.ports import Catalogs, Clock, Dispatches, Emit, Hints, Settled

_AGAIN_S: Final = 0.2


@dataclass
class Settle:
    """``patience_s``: how long a database that is away is waited for; afterwards the claims run out by themselves.
    ``apart_s``: the distance of two commits of one shard, unless a full one waits."""

    dispatches: Dispatches
    hints: Hints
    catalogs: Catalogs
    clock: Clock
    emit: Emit
    most: int
    side_by_side: int
    patience_s: float
    apart_s: float
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
                waits_for=held.tenant if isinstance(to, Again) and to.waits else None,
                home=held.home,
            ),
        )

    def put(self, shard: ShardNumber, settled: Settled) -> None:
        """Settles it with the next commit; nobody waits."""
        if shard not in self._gathers:

            async def flush(rows: Sequence[Settled]) -> Sequence[bool | Exception]:
                return await self._flush(shard, rows)

            self._gathers[shard] = Gather(flush, self.most, self.side_by_side, Clash(_ids), self.apart_s)
        self._gathers[shard].put(settled)

    async def drain(self) -> None:
        await asyncio.gather(*(gather.drain() for gather in self._gathers.values()))

    async def _flush(self, shard: ShardNumber, rows: Sequence[Settled]) -> Sequence[bool]:
        began_s = self.clock.boottime_s()
        while True:
            try:
                done = await self._settle(shard, rows)
                break
            except Unavailable as fault:
                self.emit(SettleFailed(len(rows), type(fault).__name__))
                if self.clock.boottime_s() - began_s > self.patience_s:
                    return [False] * len(rows)
                await asyncio.sleep(_AGAIN_S)
        if due_now := {row.id: row.again_in for row in rows if row.again_in is not None}:
            self.hints.publish(shard, due_now)
        self._tell(rows, done, self.clock.boottime_s() - began_s)
        return [row.id in done for row in rows]

    async def _settle(self, shard: ShardNumber, rows: Sequence[Settled]) -> set[DeliveryId]:
        """One that cannot be stored must not take the others with it: then each goes alone."""
        try:
            return set(await self.dispatches.settle(shard, rows))
        except Unavailable:
            raise
        except Exception as fault:
            self.emit(SettleFailed(len(rows), type(fault).__name__))
            if len(rows) == 1:
                return set()
            return set[DeliveryId]().union(*[await self._settle(shard, [row]) for row in rows])

    def _tell(self, rows: Sequence[Settled], done: set[DeliveryId], took_s: float) -> None:
        mine = [row for row in rows if row.id in done]
        left, lost = [row for row in mine if not isinstance(row.to, Again)], len(rows) - len(mine)
        sent = [row for row in left if isinstance(row.to, Finish) and row.to.mark == Mark.sent]
        self.emit(BatchSettled(Counter(map(_word, mine)), _by_lane(left), _by_lane(sent), lost, took_s))
        calls = [row for row in rows if row.said is not None]
        if calls:
            now_ms = self.clock.now().timestamp() * 1000
            latencies_s = tuple((now_ms - unix_ms_in(row.id)) / 1000 for row in calls)
            self.emit(CallsMade(Counter(type(row.said).__name__ for row in calls), latencies_s))
        if gone := Counter(row.said.gone.value for row in calls if isinstance(row.said, Refused) and row.said.gone):
            self.emit(AddressesGone(gone))
        if costs_micros := self._costs_micros(calls):
            self.emit(CostsIncurred(costs_micros))
        for reason, count in Counter(row.to.reason for row in mine if isinstance(row.to, Bury)).items():
            self.emit(DeadLettered(count, reason))
        for reason, count in Counter(row.to.reason for row in mine if isinstance(row.to, Doubt)).items():
            self.emit(DoubtOpened(count, reason))

    def _costs_micros(self, calls: Sequence[Settled]) -> Mapping[tuple[str, str, str], int]:
        """Of what was taken, by channel, kind of provider and currency."""
        accounts, costs = self.catalogs().accounts, Counter[tuple[str, str, str]]()
        for row in calls:
            if row.charge and row.charge.cost_micros and isinstance(row.said, Sent):
                account = accounts.get(row.provider)
                if account and account.price:
                    costs[account.channel.name, account.kind, account.price.currency] += row.charge.cost_micros
        return costs


def _ids(row: Settled) -> Sequence[DeliveryId]:
    return (row.id,)


def _by_lane(rows: Sequence[Settled]) -> Mapping[str, int]:
    counts = Counter(row.home for row in rows if row.home is not None)
    return {lane_name(lane): count for lane, count in counts.items()}


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

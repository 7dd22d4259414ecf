"""A look at a whole running system from outside: its databases, and what its processes show of themselves."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import asyncpg
import msgspec

from tidings.domain.doubt import Standing
from tidings.domain.errors import Unavailable
from tidings.domain.figures import Buried, LaneCount, lane_figures
from tidings.domain.ids import ShardNumber
from tidings.domain.lanes import DEAD
from tidings.domain.overview import (
    AccountOf,
    DeadView,
    DoubtView,
    Overview,
    ProviderView,
    ShardView,
    causes,
)
from tidings.domain.presence import ROLES, Present, pace
from tidings.ports import Board, Lag, RollCall, Seen
from tidings.settings import Settings
from tidings.storage.doubts import DoubtFigures
from tidings.storage.figures import Accounts, Figures
from tidings.storage.shards import FEW_OF_MANY, Shards, open_pool
from tidings.web.wellbeing import wellbeing
from tidings.wiring.boards import board_on, roll_call_on, wall_of
from tidings.wiring.hints import lag_of

_PATIENCE_S: Final = 3.0
_QUESTIONS: Final = 3
_LOOKS: Final = 6
"""Rates are those since so many looks."""
_AWAY: Final = (Unavailable, TimeoutError, asyncpg.PostgresError)
"""A schema that is missing, too: one database that cannot be read must not hide the others."""


class _OfShard(msgspec.Struct, frozen=True):
    """What a shard says; nothing but the ``fault`` where it cannot be reached."""

    view: ShardView
    lanes: Sequence[LaneCount] = ()
    doubts: Sequence[Standing] = ()
    buried: Sequence[Buried] = ()


@dataclass
class Looking:
    """Looks once with each ``look``; rates need two."""

    shards: Shards
    figures: Figures
    doubts: DoubtFigures
    accounts: Accounts
    roll: RollCall
    board: Board
    lag: Lag
    _looks: deque[Sequence[Present]] = field(default_factory=lambda: deque(maxlen=_LOOKS), init=False)

    async def look(self) -> Overview:
        """Whatever is away, the rest is told."""
        found = await asyncio.gather(*(self._shard(shard) for shard in self.shards.numbers))
        accounts, control = await self._accounts()
        processes, reports, lag = await asyncio.gather(self.roll.read(*ROLES), self.board.read(), self.lag())
        paced = pace(self._earlier(), processes or ())
        self._looks.append(processes or ())
        lanes = [one for shard in found for one in shard.lanes]
        names = {one.id: one.name for one in accounts}
        return Overview(
            at=datetime.now(UTC),
            accepted_per_s=paced.accepted_per_s if paced else None,
            sent_per_s=paced.sent_per_s if paced else None,
            lanes=lane_figures(lanes, processes, paced, lag),
            providers=_providers(accounts, None if processes is None else reports),
            doubt=_doubt(one for shard in found for one in shard.doubts),
            dead_letters=_dead(lanes, [one for shard in found for one in shard.buried], names),
            processes=processes,
            shards=[shard.view for shard in found],
            control=control,
        )

    def _earlier(self) -> Sequence[Present]:
        """Each process as it was first seen."""
        first = {(one.name, one.started_at): one for look in reversed(self._looks) for one in look}
        return list(first.values())

    async def _shard(self, shard: ShardNumber) -> _OfShard:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                lanes, doubts, buried = await asyncio.gather(
                    self.figures.lanes(shard), self.doubts.standing(shard), self.figures.buried(shard)
                )
        except _AWAY as fault:
            return _OfShard(ShardView(shard, _told(fault)))
        return _OfShard(ShardView(shard), lanes, doubts, buried)

    async def _accounts(self) -> tuple[Sequence[AccountOf], str | None]:
        """With why there are none."""
        try:
            async with asyncio.timeout(_PATIENCE_S):
                return await self.accounts(), None
        except _AWAY as fault:
            return (), _told(fault)


@asynccontextmanager
async def looking(settings: Settings) -> AsyncIterator[Looking]:
    """For the length of a block. Raises SettingsError where no database is named."""
    async with AsyncExitStack() as stack:
        shards = await Shards.open(settings.shard_dsns, _QUESTIONS, FEW_OF_MANY)
        stack.push_async_callback(shards.close)
        control = await open_pool(settings.control_dsn, 1, {})
        stack.callback(control.terminate)
        wall = wall_of(settings, stack)
        yield Looking(
            shards=shards,
            figures=Figures(shards),
            doubts=DoubtFigures(shards),
            accounts=Accounts(control),
            roll=roll_call_on(wall),
            board=board_on(wall, ""),
            lag=lag_of(settings),
        )


def _providers(accounts: Sequence[AccountOf], reports: Sequence[Sequence[Seen]] | None) -> Sequence[ProviderView]:
    """``reports`` is None where nobody knows what workers see."""
    return [_provider(one, reports) for one in accounts]


def _provider(account: AccountOf, reports: Sequence[Sequence[Seen]] | None) -> ProviderView:
    found = wellbeing(reports or (), account.id)
    return ProviderView(
        name=account.name,
        tenant=account.tenant,
        channel=account.channel.name,
        state=account.state,
        breaker=None if reports is None else found.breaker,
        since=found.since or (account.state_since if account.state != "auto" else None),
        why=found.why,
        workers_open=found.workers_open,
        rests_until=found.rests_until,
    )


def _doubt(standing: Iterable[Standing]) -> DoubtView:
    found = list(standing)
    return DoubtView(sum(one.count for one in found), max((one.oldest_s for one in found), default=0.0))


def _dead(lanes: Sequence[LaneCount], buried: Sequence[Buried], names: Mapping[int, str]) -> DeadView:
    return DeadView(sum(one.waiting for one in lanes if one.lane == DEAD), causes(buried, names))


def _told(fault: Exception) -> str:
    return "no answer in time" if isinstance(fault, TimeoutError) else type(fault.__cause__ or fault).__name__

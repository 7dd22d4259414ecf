"""How much there is in a shard, for people and metrics. However much waits, it costs some milliseconds to ask."""

from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

import asyncpg

from tidings.domain.errors import Unavailable
from tidings.domain.figures import Buried, LaneCount
from tidings.domain.ids import ShardNumber
from tidings.domain.lanes import DEAD, IN_DOUBT, Channel, Lane, sending_lanes
from tidings.domain.overview import AccountOf
from tidings.domain.routing import AccountState
from tidings.storage.shards import AWAY, Pool, PoolConnection, Shards
from tidings.storage.sql import load_statements

_COUNTED: Final = 5_000
"""Up to so many of a lane are counted one by one; how many more there are is estimated."""
_PAGES: Final = 2_000
"""The estimate reads about so many pages: some 100,000 rows, and all of a table that is not larger."""
_LETTERS: Final = 1_000

_Sample: TypeAlias = Mapping[Lane, tuple[int, int]]


class Figures:
    """Raises ``errors.Unavailable`` where the shard cannot be reached."""

    def __init__(self, shards: Shards) -> None:
        self._shards = shards
        self._sql = load_statements("figures")

    async def lanes(self, shard: ShardNumber) -> Sequence[LaneCount]:
        """Every lane, the parked ones too."""
        async with self._shards.connection(shard) as connection:
            rows = await connection.fetch(self._sql["lanes"], [*sending_lanes(), IN_DOUBT, DEAD], _COUNTED)
            more = any(row["waiting"] >= _COUNTED for row in rows)
            sampled: _Sample = await self._sampled(connection) if more else {}
        return [_counted(row, sampled.get(row["lane"], (0, 0))) for row in rows]

    async def buried(self, shard: ShardNumber) -> Sequence[Buried]:
        """The causes of those that were buried last."""
        rows = await self._shards.fetch(shard, self._sql["buried"], _LETTERS)
        return [Buried(row["reason"], Channel(row["channel"]), row["provider"], row["count"]) for row in rows]

    async def _sampled(self, connection: PoolConnection) -> _Sample:
        """About how many wait, and are due, in each lane."""
        pages = await connection.fetchval(self._sql["pages"])
        share = min(1.0, _PAGES / max(1, pages))
        rows = await connection.fetch(self._sql["sampled"], 100 * share)
        return {row["lane"]: (round(row["waiting"] / share), round(row["due"] / share)) for row in rows}


class Accounts:
    """The accounts of all tenants, without what is secret of them. Raises ``errors.Unavailable``."""

    def __init__(self, control: Pool) -> None:
        self._control = control
        self._sql = load_statements("figures")

    async def __call__(self) -> Sequence[AccountOf]:
        try:
            rows = await self._control.fetch(self._sql["accounts"])
        except AWAY as fault:
            raise Unavailable(f"control database: {type(fault).__name__}") from fault
        return [
            AccountOf(
                row["id"],
                row["name"],
                row["tenant"],
                Channel(row["channel"]),
                AccountState(row["state"]),
                row["state_since"],
            )
            for row in rows
        ]


def _counted(row: asyncpg.Record, sampled: tuple[int, int]) -> LaneCount:
    """What was counted is certain; there may be more only where the count was cut off."""
    waiting, due = row["waiting"], row["due"]
    if waiting >= _COUNTED:
        waiting = max(waiting, sampled[0])
        due = max(due, sampled[1]) if due >= _COUNTED else due
    return LaneCount(row["lane"], waiting, due, row["oldest_due_s"])

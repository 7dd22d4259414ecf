"""The suppression list: what is held against addresses, whole in every shard.

A word is stored in one shard first, and is safe from then on: what the other shards do not know yet, the sweep tells
them. Words meet in any order; the last one for an address and a reason counts everywhere.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import Any, Final

import asyncpg

from tidings.domain.ids import ShardNumber, TenantId
from tidings.domain.lanes import Channel
from tidings.domain.suppression import Suppression, latest
from tidings.storage.shards import Shards
from tidings.storage.sql import load_statements

_COLUMNS: Final = ("tenant", "channel", "hash", "reason", "at", "lifted", "delivery")


class SuppressionStore:
    """Implements ``ports.Suppressions``. Raises ``errors.Unavailable`` where a shard cannot be reached."""

    def __init__(self, shards: Shards) -> None:
        self._shards = shards
        self._sql = load_statements("suppressions")

    async def put(self, rows: Sequence[Suppression]) -> None:
        by_home = defaultdict[ShardNumber, list[Suppression]](list)
        for row in latest(rows):
            by_home[self._home(row.hash)].append(row)
        await asyncio.gather(*(self._put(home, some) for home, some in by_home.items()))

    async def spread(self, shard: ShardNumber, most: int) -> int:
        """Tells the other shards what this one has learnt; returns how much."""
        rows = [_row(found) for found in await self._shards.fetch(shard, self._sql["unspread"], most)]
        if rows:
            await self._tell_others(shard, rows)
        return len(rows)

    async def of_address(self, tenant: TenantId, channel: Channel, hash_: bytes) -> Sequence[Suppression]:
        """The last words about an address, lifted ones too, from all shards: true before they have told each other."""
        asked = (self._shards.fetch(shard, self._sql["of_address"], tenant, channel, hash_) for shard in self._numbers)
        return latest(_row(found) for some in await asyncio.gather(*asked) for found in some)

    async def page(
        self, tenant: TenantId, channel: Channel | None, after: tuple[int, bytes, str], limit: int
    ) -> Sequence[Suppression]:
        """What is held against addresses, by channel, hash and reason, beyond ``after``."""
        channels = (channel, channel) if channel else (min(Channel), max(Channel))
        found = await self._shards.fetch(self._numbers[0], self._sql["page"], tenant, *channels, *after, limit)
        return [_row(one) for one in found]

    @property
    def _numbers(self) -> Sequence[ShardNumber]:
        return self._shards.numbers

    def _home(self, hash_: bytes) -> ShardNumber:
        return self._numbers[hash_[0] % len(self._numbers)]

    async def _put(self, home: ShardNumber, rows: Sequence[Suppression]) -> None:
        await self._merge(home, rows, known=False)
        await self._tell_others(home, rows)

    async def _tell_others(self, shard: ShardNumber, rows: Sequence[Suppression]) -> None:
        await asyncio.gather(*(self._merge(other, rows, known=True) for other in self._numbers if other != shard))
        await self._shards.fetch(shard, self._sql["spread"], *list(_columns(rows))[:-1])

    async def _merge(self, shard: ShardNumber, rows: Sequence[Suppression], *, known: bool) -> None:
        await self._shards.fetch(shard, self._sql["merge"], *_columns(rows), known)


def _columns(rows: Sequence[Suppression]) -> Iterator[list[Any]]:
    for name in _COLUMNS:
        yield list(map(attrgetter(name), rows))


def _row(found: asyncpg.Record) -> Suppression:
    return Suppression(
        tenant=found["tenant"],
        channel=Channel(found["channel"]),
        hash=found["hash"],
        reason=found["reason"],
        at=found["at"],
        lifted=found["lifted"],
        delivery=found["delivery_id"],
    )

"""How much is in doubt: read, never written."""

import asyncio
from collections.abc import Iterable, Sequence

import asyncpg

from tidings.domain.doubt import Standing, joined
from tidings.domain.ids import ShardNumber, TenantId
from tidings.domain.lanes import Channel
from tidings.storage.shards import Shards
from tidings.storage.sql import load_statements


class DoubtFigures:
    """Raises ``errors.Unavailable`` where a shard cannot be reached."""

    def __init__(self, shards: Shards) -> None:
        self._shards = shards
        self._sql = load_statements("doubts")

    async def standing(self, shard: ShardNumber) -> Sequence[Standing]:
        """By channel and account, over all tenants of one shard."""
        return list(_standing(await self._shards.fetch(shard, self._sql["standing"])))

    async def of_tenant(self, tenant: TenantId) -> Sequence[Standing]:
        """By channel and account, the oldest first."""
        asked = (self._shards.fetch(shard, self._sql["standing_of"], tenant) for shard in self._shards.numbers)
        return joined(one for rows in await asyncio.gather(*asked) for one in _standing(rows))


def _standing(rows: Iterable[asyncpg.Record]) -> Iterable[Standing]:
    for row in rows:
        yield Standing(
            Channel(row["channel"]), row["provider"], row["count"], row["oldest_at"] or row["now"], row["now"]
        )

"""The lines of what waits for accounts that were away: columns of ``dispatch`` that only change while nobody holds the
row."""

from collections.abc import Sequence

from tidings.domain.ids import DeliveryId, ShardNumber, TenantId
from tidings.domain.lanes import Lane
from tidings.storage.shards import Shards
from tidings.storage.sql import load_statements


class LineStore:
    """Implements ``ports.Lines``. A turn that is lost is given again, so our own disk is enough."""

    def __init__(self, quick: Shards) -> None:
        self._quick = quick
        self._sql = load_statements("lines")

    async def queues(self, shard: ShardNumber) -> Sequence[tuple[TenantId, Lane]]:
        rows = await self._quick.fetch(shard, self._sql["queues"])
        return [(row["waits_for"], row["lane"]) for row in rows]

    async def read(
        self, shard: ShardNumber, queue: tuple[TenantId, Lane], behind: DeliveryId, most: int
    ) -> Sequence[DeliveryId]:
        return [row["id"] for row in await self._quick.fetch(shard, self._sql["read"], *queue, behind, most)]

    async def let_go(self, shard: ShardNumber, tenant: TenantId, ids: Sequence[DeliveryId]) -> Sequence[DeliveryId]:
        return [row["id"] for row in await self._quick.fetch(shard, self._sql["let_go"], tenant, ids)]

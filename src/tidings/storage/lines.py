"""The lines of what waits for accounts that were away: columns of ``dispatch`` that only change while nobody holds the
row."""

from collections.abc import Sequence

from tidings.domain import ids
from tidings.domain.ids import DeliveryId, ShardNumber, TenantId
from tidings.domain.lanes import Lane
from tidings.ports import Waiting
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
        self, shard: ShardNumber, queue: tuple[TenantId, Lane], behind: DeliveryId, most: int, *, lined: bool = False
    ) -> Sequence[Waiting]:
        rows = await self._quick.fetch(shard, self._sql["read"], *queue, behind, most, lined)
        return [Waiting(row["id"], row["turn_s"]) for row in rows]

    async def place(
        self, shard: ShardNumber, tenant: TenantId, ids_: Sequence[DeliveryId], after_s: Sequence[float]
    ) -> int:
        rows = await self._quick.fetch(shard, self._sql["place"], tenant, ids_, after_s, *ids.bounds(ids_))
        return len(rows)

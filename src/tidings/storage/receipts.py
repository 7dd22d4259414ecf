"""What providers said later. The only writer of ``receipt``."""

from collections.abc import Mapping, Sequence
from typing import Final

from tidings.domain import ids
from tidings.domain.delivery import Mark
from tidings.domain.ids import DeliveryId, ShardNumber, TenantId
from tidings.domain.outcome import Receipt
from tidings.ports import Filed
from tidings.storage.shards import Shards
from tidings.storage.sql import load_statements

_UNREFERENCED: Final = Filed(known=False, new=False, resolved=False)


class ReceiptStore:
    """Implements ``ports.Receipts``."""

    def __init__(self, durable: Shards) -> None:
        self._durable = durable
        self._sql = load_statements("receipts")

    async def file(
        self, shard: ShardNumber, tenant: TenantId, provider: int, rows: Sequence[Receipt]
    ) -> Sequence[Filed]:
        named = [(ids.parse_reference(row.reference), row) for row in rows]
        usable = [(*reference, row) for reference, row in named if reference]
        if not usable:
            return [_UNREFERENCED] * len(rows)
        found = await self._durable.fetch(
            shard,
            self._sql["file"],
            *ids.bounds([id_ for id_, _, _ in usable]),
            tenant,
            provider,
            [id_ for id_, _, _ in usable],
            [n for _, n, _ in usable],
            [row.event_key for *_, row in usable],
            [row.kind for *_, row in usable],
            [Mark[row.status] if row.status else None for *_, row in usable],
            [row.reason for *_, row in usable],
            [row.message_id for *_, row in usable],
            [row.occurred_at for *_, row in usable],
            [row.raw for *_, row in usable],
        )
        filed = {(row["id"], row["event_key"]): Filed(row["known"], row["new"], row["resolved"]) for row in found}
        return [filed[reference[0], row.event_key] if reference else _UNREFERENCED for reference, row in named]

    async def taken(self, shard: ShardNumber, deliveries: Sequence[DeliveryId]) -> Mapping[DeliveryId, Sequence[int]]:
        found = await self._durable.fetch(shard, self._sql["taken"], deliveries, *ids.bounds(deliveries))
        return {row["delivery_id"]: row["tries"] for row in found}

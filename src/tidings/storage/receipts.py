"""What providers said later. The only writer of ``receipt``, and in the same commit one of ``suppression``."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import asyncpg

from tidings.domain import ids
from tidings.domain.catalog import Account
from tidings.domain.delivery import Mark
from tidings.domain.ids import DeliveryId, ShardNumber
from tidings.domain.outcome import Gone, Receipt
from tidings.domain.plan import AddressHash
from tidings.domain.suppression import held_against
from tidings.ports import Filed
from tidings.storage.push_tokens import PushTokens
from tidings.storage.shards import PoolConnection, Shards
from tidings.storage.sql import column, load_statements

_UNREFERENCED: Final = Filed(known=False, new=False, resolved=False)


class ReceiptStore:
    """Implements ``ports.Receipts``."""

    def __init__(self, durable: Shards, address_hash: AddressHash) -> None:
        self._durable = durable
        self._hash = address_hash
        self._sql = load_statements("receipts")
        self._tokens = PushTokens()

    async def file(self, shard: ShardNumber, account: Account, rows: Sequence[Receipt]) -> Sequence[Filed]:
        named = [(ids.parse_reference(row.reference), row) for row in rows]
        usable = [(*reference, row) for reference, row in named if reference]
        if not usable:
            return [_UNREFERENCED] * len(rows)
        values = (*ids.bounds([id_ for id_, _, _ in usable]), *self._columns(account, usable))
        dead = {id_ for id_, _, row in usable if row.gone == Gone.unregistered}
        async with self._durable.connection(shard) as connection:
            found = await self._filed(connection, values, dead)
        filed = {(row["id"], row["event_key"]): Filed(row["known"], row["new"], row["resolved"]) for row in found}
        return [filed[reference[0], row.event_key] if reference else _UNREFERENCED for reference, row in named]

    async def _filed(
        self, connection: PoolConnection, values: Sequence[Any], dead: Collection[DeliveryId]
    ) -> Sequence[asyncpg.Record]:
        if not dead:
            return await connection.fetch(self._sql["file"], *values)
        async with connection.transaction():
            found = await connection.fetch(self._sql["file"], *values)
            if known := [row["id"] for row in found if row["known"] and row["id"] in dead]:
                await self._tokens.forget(connection, known)
        return found

    def _columns(self, account: Account, usable: Sequence[tuple[DeliveryId, int, Receipt]]) -> Sequence[Any]:
        return (
            account.tenant,
            account.id,
            [id_ for id_, _, _ in usable],
            [n for _, n, _ in usable],
            [row.event_key for *_, row in usable],
            [row.kind for *_, row in usable],
            [Mark[row.status] if row.status else None for *_, row in usable],
            [row.reason for *_, row in usable],
            [row.message_id for *_, row in usable],
            [row.occurred_at for *_, row in usable],
            [row.raw for *_, row in usable],
            column(row.engagement for *_, row in usable),
            column(held_against(row.gone or row.lifts) for *_, row in usable),
            [row.gone is None for *_, row in usable],
            column(self._hash_of(account, row) for *_, row in usable),
        )

    def _hash_of(self, account: Account, row: Receipt) -> bytes | None:
        if row.address is None or not (row.gone or row.lifts):
            return None
        return self._hash(account.tenant, account.channel, row.address)

    async def taken(self, shard: ShardNumber, deliveries: Sequence[DeliveryId]) -> Mapping[DeliveryId, Sequence[int]]:
        found = await self._durable.fetch(shard, self._sql["taken"], deliveries, *ids.bounds(deliveries))
        return {row["delivery_id"]: row["tries"] for row in found}

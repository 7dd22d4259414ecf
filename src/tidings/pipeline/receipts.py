"""Receipts: a provider's later words, each filed once in the shard that its reference names."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from tidings.domain import ids
from tidings.domain.catalog import Account
from tidings.domain.events import DoubtResolved, ReceiptsFiled
from tidings.domain.ids import ShardNumber
from tidings.domain.outcome import Receipt
from tidings.ports import Catalogs, Emit, Filed, FileStrays, Receipts


@dataclass
class FileReceipts:
    """Files for all shards. A receipt without a delivery of ours is kept apart and acted on never."""

    receipts: Receipts
    strays: FileStrays
    catalogs: Catalogs
    emit: Emit

    async def submit(self, account: Account, rows: Sequence[Receipt]) -> None:
        """Returns after the commits. Raises ``errors.Unavailable``: then the provider must send them again."""
        by_shard = defaultdict[ShardNumber | None, list[Receipt]](list)
        for row in _once(rows):
            by_shard[self._shard(row)].append(row)
        stray = by_shard.pop(None, [])
        filed = await asyncio.gather(
            *(self._file(shard, account, few) for shard, few in by_shard.items() if shard is not None)
        )
        stray += [row for few in filed for row in few]
        if stray:
            await self.strays(account.id, stray)
        self.emit(ReceiptsFiled(account=account.id, count=len(rows), strays=len(stray)))

    def _shard(self, row: Receipt) -> ShardNumber | None:
        reference = ids.parse_reference(row.reference)
        return self.catalogs().shard(ids.slot_in(reference[0])) if reference else None

    async def _file(self, shard: ShardNumber, account: Account, rows: Sequence[Receipt]) -> list[Receipt]:
        """Returns those that belong to nobody."""
        filed: Sequence[Filed] = await self.receipts.file(shard, account.tenant, account.id, rows)
        for row, one in zip(rows, filed, strict=True):
            reference = ids.parse_reference(row.reference)
            if one.resolved and one.new and reference:
                self.emit(DoubtResolved(delivery=reference[0], how="receipt"))
        return [row for row, one in zip(rows, filed, strict=True) if not one.known]


def _once(rows: Sequence[Receipt]) -> Sequence[Receipt]:
    """A provider repeats itself even inside one call."""
    return list({(row.reference, row.event_key): row for row in rows}.values())

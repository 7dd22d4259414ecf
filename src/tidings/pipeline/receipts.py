"""Receipts: a provider's later words, each filed once in the shard that its reference names."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from tidings.domain import ids
from tidings.domain.catalog import Account
from tidings.domain.events import AddressesGone, DoubtResolved, ReceiptsFiled
from tidings.domain.ids import ShardNumber
from tidings.domain.outcome import Receipt
from tidings.domain.plan import AddressHash
from tidings.domain.suppression import Suppression, held_against
from tidings.ports import Catalogs, Clock, Emit, Filed, FileStrays, Receipts, Suppressions


@dataclass
class FileReceipts:
    """Files for all shards. A receipt without a delivery of ours speaks for the address that it names, if it says that
    this is gone or back; otherwise it is kept apart and acted on never."""

    receipts: Receipts
    suppressions: Suppressions
    strays: FileStrays
    catalogs: Catalogs
    clock: Clock
    address_hash: AddressHash
    emit: Emit

    async def submit(self, account: Account, rows: Sequence[Receipt]) -> None:
        """Returns after the commits. Raises ``errors.Unavailable``: then the provider must send them again."""
        by_shard = defaultdict[ShardNumber | None, list[Receipt]](list)
        for row in _once(rows):
            by_shard[self._shard(row)].append(row)
        stray = by_shard.pop(None, [])
        named = {shard: few for shard, few in by_shard.items() if shard is not None}
        filed = await asyncio.gather(*(self.receipts.file(shard, account, few) for shard, few in named.items()))
        ends = [end for few, said in zip(named.values(), filed, strict=True) for end in zip(few, said, strict=True)]
        stray += [row for row, end in ends if not end.known]
        await self._without_delivery(account, stray)
        self._tell(account, [end for _, end in ends], len(stray))
        if gone := Counter(row.gone.value for row in (*(row for row, end in ends if end.new), *stray) if row.gone):
            self.emit(AddressesGone(gone))

    async def _without_delivery(self, account: Account, stray: Sequence[Receipt]) -> None:
        words = [(row, self._word(account, row)) for row in stray]
        if said := [word for _, word in words if word]:
            await self.suppressions.put(said)
        if others := [row for row, word in words if not word]:
            await self.strays(account.id, others)

    def _word(self, account: Account, row: Receipt) -> Suppression | None:
        """What is said of an address as such. Nobody's clock but ours says that it is later than now."""
        reason = held_against(row.gone or row.lifts)
        if reason is None or row.address is None:
            return None
        hash_ = self.address_hash(account.tenant, account.channel, row.address)
        at = min(row.occurred_at, self.clock.now())
        return Suppression(account.tenant, account.channel, hash_, reason, at, lifted=row.gone is None)

    def _shard(self, row: Receipt) -> ShardNumber | None:
        reference = ids.parse_reference(row.reference)
        return self.catalogs().shard(ids.slot_in(reference[0])) if reference else None

    def _tell(self, account: Account, filed: Sequence[Filed], strays: int) -> None:
        new = sum(one.new for one in filed)
        repeated = sum(one.known and not one.new for one in filed)
        self.emit(ReceiptsFiled(account.id, new, repeated, strays))
        if resolved := sum(one.new and one.resolved for one in filed):
            self.emit(DoubtResolved(resolved, "receipt"))


def _once(rows: Sequence[Receipt]) -> Sequence[Receipt]:
    """A provider repeats itself even inside one call."""
    return list({(row.reference, row.event_key): row for row in rows}.values())

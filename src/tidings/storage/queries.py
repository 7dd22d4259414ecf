"""Plain reading for the API: one notification, history. Every statement is bound to a tenant."""

import asyncio
import heapq
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from operator import attrgetter
from typing import Any, Final
from uuid import UUID

import asyncpg
import msgspec

from tidings.domain import ids
from tidings.domain.delivery import Mark, State, status_of
from tidings.domain.history import Note, Page, PastAttempt, PastDelivery, PastNotification, PastReceipt
from tidings.domain.ids import DeliveryId, NotificationId, ShardNumber, TenantId, UserId
from tidings.domain.lanes import Channel
from tidings.domain.notification import Payload
from tidings.domain.outcome import Engagement
from tidings.ports import Catalogs
from tidings.storage.shards import Shards
from tidings.storage.sql import load_statements

_ATTEMPT: Final = PastAttempt.__struct_fields__
_payload: Final = msgspec.json.Decoder(Payload)
_notes: Final = msgspec.json.Decoder(tuple[Note, ...])


class Queries:
    """Raises ``errors.Unavailable`` where a shard cannot be reached."""

    def __init__(self, shards: Shards, catalogs: Catalogs) -> None:
        self._shards = shards
        self._catalogs = catalogs
        self._sql = load_statements("queries")

    async def notification(self, tenant: TenantId, id_: NotificationId) -> PastNotification | None:
        """The whole of one, None for what does not exist or is another tenant's."""
        shard = self._shard_of(id_)
        rows = await self._fetch(shard, "notification", id_, tenant)
        if not rows:
            return None
        deliveries = (await self._deliveries(shard, tenant, [id_])).get(id_, ())
        return _notification(rows[0], await self._with_calls(shard, deliveries))

    async def deliveries(
        self, tenant: TenantId, notifications: Sequence[NotificationId]
    ) -> Mapping[NotificationId, tuple[PastDelivery, ...]]:
        """How the deliveries of these stand now, without attempts and receipts."""
        by_shard = defaultdict[ShardNumber, list[NotificationId]](list)
        for id_ in notifications:
            by_shard[self._shard_of(id_)].append(id_)
        found = await asyncio.gather(*(self._deliveries(shard, tenant, some) for shard, some in by_shard.items()))
        return {id_: deliveries for one in found for id_, deliveries in one.items()}

    async def of_user(
        self, tenant: TenantId, user: UserId, page: Page, reference: str | None = None
    ) -> Sequence[PastNotification]:
        """From one shard, and true at once."""
        slot = ids.slot_of(tenant, user)
        shard = self._catalogs().shard(slot)
        rows = await self._fetch(shard, "by_user", *_bounds(tenant, page), slot, user, reference)
        return await self._summaries(shard, tenant, rows)

    async def search(self, tenant: TenantId, page: Page, reference: str | None = None) -> Sequence[PastNotification]:
        """Over all shards."""
        asked = (self._search(shard, tenant, page, reference) for shard in self._shards.numbers)
        found = heapq.merge(*await asyncio.gather(*asked), key=attrgetter("id"), reverse=True)
        return list(islice(found, page.limit))

    async def _search(
        self, shard: ShardNumber, tenant: TenantId, page: Page, reference: str | None
    ) -> Sequence[PastNotification]:
        if reference is None:
            rows = await self._fetch(shard, "by_time", *_bounds(tenant, page))
        else:
            rows = await self._fetch(shard, "by_reference", *_bounds(tenant, page), reference)
        return await self._summaries(shard, tenant, rows)

    def _shard_of(self, id_: UUID) -> ShardNumber:
        return self._catalogs().shard(ids.slot_in(id_))

    async def _fetch(self, shard: ShardNumber, statement: str, *values: Any) -> list[asyncpg.Record]:
        return await self._shards.fetch(shard, self._sql[statement], *values)

    async def _summaries(
        self, shard: ShardNumber, tenant: TenantId, rows: Sequence[asyncpg.Record]
    ) -> Sequence[PastNotification]:
        if not rows:
            return []
        deliveries = await self._deliveries(shard, tenant, [row["id"] for row in rows])
        return [_notification(row, deliveries.get(row["id"], ())) for row in rows]

    async def _deliveries(
        self, shard: ShardNumber, tenant: TenantId, notifications: Sequence[NotificationId]
    ) -> Mapping[NotificationId, tuple[PastDelivery, ...]]:
        siblings = [ids.siblings(id_) for id_ in notifications]
        lowest, highest = [low for low, _ in siblings], [high for _, high in siblings]
        rows = await self._fetch(
            shard, "deliveries", notifications, tenant, *ids.bounds(notifications), lowest, highest
        )
        found = defaultdict[NotificationId, tuple[PastDelivery, ...]](tuple)
        for row in rows:
            found[row["notification_id"]] += (_delivery(row),)
        return found

    async def _with_calls(self, shard: ShardNumber, deliveries: Sequence[PastDelivery]) -> tuple[PastDelivery, ...]:
        """The same with their attempts and receipts."""
        if not deliveries:
            return ()
        wanted = [one.id for one in deliveries]
        attempts = await self._fetch(shard, "attempts", wanted, *ids.bounds(wanted))
        receipts = await self._fetch(shard, "receipts", wanted, *ids.bounds(wanted))
        return tuple(
            msgspec.structs.replace(
                one,
                attempts=tuple(_attempt(row) for row in _of(one.id, attempts)),
                receipts=tuple(_receipt(row) for row in _of(one.id, receipts)),
            )
            for one in deliveries
        )


def _bounds(tenant: TenantId, page: Page) -> tuple[Any, ...]:
    return tenant, page.first, page.before, page.category, page.limit


def _of(delivery: DeliveryId, rows: Iterable[asyncpg.Record]) -> Iterable[asyncpg.Record]:
    return (row for row in rows if row["delivery_id"] == delivery)


def _notification(row: asyncpg.Record, deliveries: tuple[PastDelivery, ...]) -> PastNotification:
    return PastNotification(
        id=row["id"],
        tenant=row["tenant"],
        user=row["user_id"],
        category=row["category"],
        template_version=row["template_version"],
        reference=row["reference"],
        payload=_payload.decode(row["payload"]),
        send_at=row["send_at"],
        expires_at=row["expires_at"],
        created_at=row["created_at"],
        deliveries=deliveries,
    )


def _delivery(row: asyncpg.Record) -> PastDelivery:
    state = State(row["state"]) if row["state"] is not None else None
    mark = Mark(row["status"])
    return PastDelivery(
        id=row["id"],
        channel=Channel(row["channel"]),
        address=row["address"],
        status=status_of(mark, state, row["send_at"], row["now"]),
        reason=row["reason"],
        detail=row["detail"],
        duplicate_possible=row["duplicate_possible"],
        due_at=row["due_at"] if mark == Mark.pending else None,
        finished_at=row["finished_at"],
        notes=_notes.decode(row["notes"]) if row["notes"] else (),
    )


def _attempt(row: asyncpg.Record) -> PastAttempt:
    return PastAttempt(**{name: row[name] for name in _ATTEMPT})


def _receipt(row: asyncpg.Record) -> PastReceipt:
    return PastReceipt(
        n=row["n"],
        provider=row["provider"],
        kind=row["kind"],
        status=Mark(row["status"]) if row["status"] is not None else None,
        reason=row["reason"],
        occurred_at=row["occurred_at"],
        received_at=row["received_at"],
        engagement=Engagement(row["engagement"]) if row["engagement"] is not None else None,
    )

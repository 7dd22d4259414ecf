"""Accepting: the keys, notifications, deliveries and dispatches of a batch in one commit. The only writer of
``accept_key`` and ``notification``."""

from collections.abc import Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Any, Final
from uuid import UUID

import asyncpg

from tidings.domain.errors import StillCommitting, Unavailable
from tidings.domain.ids import NotificationId, ShardNumber, bounds
from tidings.domain.notification import Acceptance, Accepted, Verdict
from tidings.storage.shards import AWAY, CancelledWait, DurableCommit, Shards
from tidings.storage.sql import column, load_statements

_ACCEPTANCE: Final = (
    "id",
    "slot",
    "tenant",
    "user",
    "category",
    "template_version",
    "sender",
    "reference",
    "payload",
    "key_hash",
    "fingerprint",
    "deduplication_hash",
    "send_at",
    "expires_after_s",
)


class AcceptStore:
    """Implements ``ports.Acceptor``."""

    def __init__(self, shards: Shards, idempotency_s: float, deduplication_s: float) -> None:
        self._shards = shards
        self._keep = (idempotency_s, deduplication_s)
        self._sql: Mapping[str, str] = load_statements("accept")

    async def accept(self, shard: ShardNumber, rows: Sequence[Acceptance]) -> Sequence[Accepted]:
        ordered = sorted(rows, key=lambda row: (row.slot, row.tenant, row.user, row.key_hash or b""))
        found = await self._committed(shard, "accept", *_columns(ordered), *self._keep, *_planned(ordered))
        known = {record["id"]: record for record in found}
        accepted = {row.id: await self._accepted(shard, row, known.get(row.id)) for row in rows}
        moved = [(row, known[row.id]["first_id"], accepted[row.id].id) for row in ordered if row.id in known]
        await self._point(shard, [one for one in moved if one[1] not in (None, one[2])])
        return [accepted[row.id] for row in rows]

    async def _committed(self, shard: ShardNumber, statement: str, *values: Any) -> list[asyncpg.Record]:
        try:
            return await DurableCommit(self._shards.pool(shard)).fetch(self._sql[statement], *values)
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError) as fault:
            raise StillCommitting from fault
        except (CancelledWait, asyncpg.CheckViolationError, *AWAY) as fault:  # a check: no partition for this day yet
            raise Unavailable from fault

    async def _accepted(self, shard: ShardNumber, row: Acceptance, known: asyncpg.Record | None) -> Accepted:
        if known is None:
            return Accepted(row.id, Verdict.stored)
        if known["first_id"] in (None, row.id):
            return Accepted(NotificationId(known["deduplicated_id"]), Verdict.deduplicated)
        if known["first_fingerprint"] != row.fingerprint:
            return Accepted(NotificationId(known["first_id"]), Verdict.conflict, known["first_fingerprint"])
        return Accepted(await self._first(shard, row, NotificationId(known["first_id"])), Verdict.replayed)

    async def _first(self, shard: ShardNumber, row: Acceptance, first: NotificationId) -> NotificationId:
        """What the key stands for. Where that was never stored, the first call was a duplicate, and ended before it
        could say of what."""
        if row.deduplication_hash is None or await self._shards.fetch(
            shard, self._sql["exists"], first, *bounds([first])
        ):
            return first
        of = (row.slot, row.tenant, row.user, row.deduplication_hash)
        found = await self._shards.fetch(shard, self._sql["deduplicated"], *of)
        return NotificationId(found[0]["notification_id"]) if found else first

    async def _point(self, shard: ShardNumber, moved: Sequence[tuple[Acceptance, UUID, NotificationId]]) -> None:
        """Keys whose call was a duplicate stand for what was answered, before that is answered: the deduplication key
        may be forgotten, or another's, earlier than they are."""
        if moved:
            keys = [[getattr(row, name) for row, _, _ in moved] for name in ("slot", "tenant", "user", "key_hash")]
            await self._committed(shard, "point", *keys, [was for _, was, _ in moved], [to for _, _, to in moved])

    async def empty_keys(self, shard: ShardNumber, most: int) -> int:
        """Removes expired keys; returns how many."""
        async with self._shards.connection(shard) as connection:
            return int((await connection.execute(self._sql["empty_keys"], most)).split()[-1])


def _columns(rows: Sequence[Acceptance]) -> Iterator[Sequence[Any]]:
    for name in _ACCEPTANCE:
        yield column(map(attrgetter(name), rows))


def _planned(rows: Sequence[Acceptance]) -> Iterator[Sequence[Any]]:
    planned = [(delivery, row) for row in rows for delivery in row.deliveries]
    yield [delivery.id for delivery, _ in planned]
    yield [row.id for _, row in planned]
    yield [row.tenant for _, row in planned]
    yield [delivery.channel for delivery, _ in planned]
    yield [delivery.lane for delivery, _ in planned]
    yield column(delivery.address for delivery, _ in planned)
    yield column(delivery.address_hash for delivery, _ in planned)
    yield column(delivery.due_at for delivery, _ in planned)

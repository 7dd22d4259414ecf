"""Accepting: the keys, notifications, deliveries and dispatches of a batch in one commit. The only writer of
``accept_key`` and ``notification``."""

from collections.abc import Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Any, Final

import asyncpg

from tidings.domain.errors import StillCommitting, Unavailable
from tidings.domain.ids import NotificationId, ShardNumber
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
    "expires_at",
)


class AcceptStore:
    """Implements ``ports.Acceptor``."""

    def __init__(self, shards: Shards, idempotency_s: float, deduplication_s: float) -> None:
        self._shards = shards
        self._keep = (idempotency_s, deduplication_s)
        self._sql: Mapping[str, str] = load_statements("accept")

    async def accept(self, shard: ShardNumber, rows: Sequence[Acceptance]) -> Sequence[Accepted]:
        ordered = sorted(rows, key=lambda row: (row.slot, row.tenant, row.user, row.key_hash or b""))
        try:
            known = await DurableCommit(self._shards.pool(shard)).fetch(
                self._sql["accept"], *_columns(ordered), *self._keep, *_planned(ordered)
            )
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError) as fault:
            raise StillCommitting from fault
        except (CancelledWait, asyncpg.CheckViolationError, *AWAY) as fault:  # a check: no partition for this day yet
            raise Unavailable from fault
        verdicts = {record["id"]: record for record in known}
        return [await self._accepted(shard, row, verdicts.get(row.id)) for row in rows]

    async def _accepted(self, shard: ShardNumber, row: Acceptance, known: asyncpg.Record | None) -> Accepted:
        if known is None:
            return Accepted(row.id, Verdict.stored)
        if known["first_id"] in (None, row.id):
            return Accepted(NotificationId(known["deduplicated_id"]), Verdict.deduplicated)
        if known["first_fingerprint"] != row.fingerprint:
            return Accepted(NotificationId(known["first_id"]), Verdict.conflict, known["first_fingerprint"])
        return Accepted(await self._first(shard, row, NotificationId(known["first_id"])), Verdict.replayed)

    async def _first(self, shard: ShardNumber, row: Acceptance, first: NotificationId) -> NotificationId:
        """The id that the key's first answer gave: another notification's, where that one was a duplicate."""
        if row.deduplication_hash is None:
            return first
        found = await self._shards.fetch(
            shard, self._sql["deduplicated"], row.slot, row.tenant, row.user, row.deduplication_hash
        )
        return NotificationId(found[0]["notification_id"]) if found else first

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

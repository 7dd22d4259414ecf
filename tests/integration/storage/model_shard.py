"""One real shard whose clock stands still, and the calls of ``tests.property.actions`` on it.

``now()`` of the statements under test is a function of ours, so that instants compare exactly; waiting moves the times
in the rows back. All else is as in the product: the same text, the same settings, the same stores.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import msgspec

from tests.property.shard_model import LEASE_S, RESERVE_S, ShardModel
from tidings.domain.catalog import Account
from tidings.domain.dead_letters import Back
from tidings.domain.delivery import Mark, State
from tidings.domain.dispatch import Dispatch
from tidings.domain.ids import DeliveryId, NotificationId, ShardNumber, Slot, TenantId, bounds, compose
from tidings.domain.lanes import Channel, Lane
from tidings.domain.outcome import Receipt
from tidings.ports import Filed, Marked, Settled
from tidings.storage.dead_letters import DeadLetterStore
from tidings.storage.dispatches import OUTCOME_NAMES, DispatchStore
from tidings.storage.migrate import make_partitions, migrate
from tidings.storage.receipts import ReceiptStore
from tidings.storage.shards import BY_ID, ONE_PLAN, Shards

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SHARD, TENANT = ShardNumber(0), TenantId(1)
ACCOUNT = Account(1, TENANT, "main", "sendgrid", Channel.email, {}, "token")
OWN_CLOCK = {"search_path": "clock, pg_catalog, public"}
CLOCK = f"""
CREATE SCHEMA clock;
CREATE FUNCTION clock.now() RETURNS timestamptz LANGUAGE sql STABLE RETURN timestamptz '{NOW.isoformat()}'
"""
ACCEPT = """
WITH n AS (INSERT INTO notification (id, slot, tenant, user_id, category, payload)
           SELECT id, 1, $2, 'user', 1, '{}' FROM unnest($1::uuid[]) id),
     v AS (INSERT INTO delivery (id, notification_id, tenant, channel, address)
           SELECT id, id, $2, 1, 'user@example.com' FROM unnest($1::uuid[]) id)
INSERT INTO dispatch (id, home, lane, due_at)
SELECT id, lane, lane, now() FROM unnest($1::uuid[], $3::smallint[]) AS a(id, lane)
"""
WAIT = """
UPDATE dispatch d SET due_at = d.due_at - s * interval '1 second', started_at = d.started_at - s * interval '1 second'
FROM unnest($1::uuid[], $2::float8[]) AS waited(id, s) WHERE d.id = waited.id
"""
CLEAR = ("dispatch", "attempt", "receipt", "delivery", "notification", "accept_key")


class Life(msgspec.Struct, frozen=True):
    """All that is stored of one delivery: ``row`` is None when nothing is left to do; attempts are ``(n, outcome,
    code)``."""

    row: Dispatch | None
    mark: Mark
    duplicate_possible: bool
    attempts: tuple[tuple[int, str, str], ...]


Picture = Mapping[DeliveryId, Life]


def picture_of(model: ShardModel) -> Picture:
    said: dict[DeliveryId, list[tuple[int, str, str]]] = {id_: [] for id_ in model.deliveries}
    for (id_, n), outcome in model.attempts.items():
        said[id_].append((n, OUTCOME_NAMES[type(outcome)], outcome.code))
    return {
        id_: Life(model.rows.get(id_), one.mark, one.duplicate_possible, tuple(sorted(said[id_])))
        for id_, one in model.deliveries.items()
    }


class OneShard:
    """As much of a catalog as finds the one shard there is."""

    def shard(self, _: Slot) -> ShardNumber:
        return SHARD


class ModelShard:
    """Plays the same calls as ``ShardModel``."""

    def __init__(self, by_id: Shards, one_plan: Shards) -> None:
        self.shards = one_plan
        self.dispatches = DispatchStore(by_id, by_id, LEASE_S, RESERVE_S)
        self.dead_letters = DeadLetterStore(by_id, OneShard)
        self.receipts = ReceiptStore(one_plan, lambda *_: b"hash")

    @classmethod
    @asynccontextmanager
    async def open(cls, dsn: str) -> AsyncIterator["ModelShard"]:
        """On an empty database."""
        await migrate(dsn, "shard")
        by_id, one_plan = [await Shards.open([dsn], 1, {**plans, **OWN_CLOCK}) for plans in (BY_ID, ONE_PLAN)]
        try:
            for statement in CLOCK.split(";"):
                await one_plan.fetch(SHARD, statement)
            await make_partitions(one_plan, SHARD, 2)
            yield cls(by_id, one_plan)
        finally:
            await by_id.close()
            await one_plan.close()

    async def accept(self, homes: Mapping[DeliveryId, Lane]) -> None:
        await self.shards.fetch(SHARD, ACCEPT, list(homes), TENANT, list(homes.values()))

    async def clear(self) -> None:
        for table in CLEAR:
            await self.shards.fetch(SHARD, f"DELETE FROM {table}")

    async def claim(self, limits: Mapping[Lane, int], token: int) -> list[Dispatch]:
        held = await self.dispatches.claim(SHARD, limits, token)
        assert all(one.now == NOW for one in held)
        rows = (await self._rows([one.id for one in held])) if held else {}
        for one in held:
            row = rows[one.id]
            told = (one.token, one.lane, one.home, one.claims, one.tries, one.spent, one.tried, one.provider)
            assert told == (row.token, row.lane, row.home, row.claims, row.tries, row.spent, row.tried, row.provider)
            assert (one.started_at, one.in_doubt) == (row.started_at, row.state == State.in_doubt)
        return [rows[one.id] for one in held]

    async def mark(self, ids: Sequence[DeliveryId], tokens: Sequence[int], providers: Sequence[int]) -> list[Marked]:
        return list(await self.dispatches.mark(SHARD, ids, tokens, providers))

    async def settle(self, rows: Sequence[Settled]) -> list[DeliveryId]:
        return list(await self.dispatches.settle(SHARD, rows))

    async def look_again(self, *columns: Any) -> None:
        await self.dispatches.look_again(SHARD, *columns)

    async def give_back(self, *columns: Any) -> None:
        await self.dispatches.give_back(SHARD, *columns)

    async def file(self, rows: Sequence[Receipt]) -> list[Filed]:
        return list(await self.receipts.file(SHARD, ACCOUNT, rows))

    async def cancel(self, ids: Sequence[DeliveryId]) -> list[DeliveryId]:
        cancelled = [await self.dispatches.cancel(SHARD, NotificationId(id_), TENANT) for id_ in ids]
        return [id_ for few in cancelled for id_ in few]

    async def replay(self, ids: Sequence[DeliveryId]) -> list[DeliveryId]:
        back = await self.dead_letters.replay(TENANT, [Back(id_) for id_ in ids], "a key")
        return [id_ for id_ in ids if id_ in back]

    async def discard(self, ids: Sequence[DeliveryId]) -> list[DeliveryId]:
        gone = await self.dead_letters.discard(TENANT, ids, None, "a key")
        return [id_ for id_ in ids if id_ in gone]

    async def wait(self, ids: Sequence[DeliveryId], waits_s: Sequence[float]) -> None:
        await self.shards.fetch(SHARD, WAIT, ids, waits_s)

    async def taken(self, ids: Sequence[DeliveryId]) -> Mapping[DeliveryId, Sequence[int]]:
        found = await self.receipts.taken(SHARD, ids)
        return {id_: sorted(found.get(id_, ())) for id_ in ids}

    async def picture(self, ids: Sequence[DeliveryId]) -> Picture:
        rows = await self._rows(ids)
        deliveries = await self.shards.fetch(
            SHARD,
            "SELECT id, status, duplicate_possible FROM delivery WHERE id = ANY($1) AND id BETWEEN $2 AND $3",
            ids,
            *bounds(ids),
        )
        attempts = await self.shards.fetch(
            SHARD,
            "SELECT delivery_id, n, outcome, code FROM attempt WHERE delivery_id BETWEEN $1 AND $2 ORDER BY n",
            *bounds(ids),
        )
        said: dict[DeliveryId, list[tuple[int, str, str]]] = {id_: [] for id_ in ids}
        for id_, *attempt in attempts:
            said[id_].append(tuple(attempt))
        return {
            id_: Life(rows.get(id_), Mark(status), flagged, tuple(said[id_])) for id_, status, flagged in deliveries
        }

    async def _rows(self, ids: Sequence[DeliveryId]) -> dict[DeliveryId, Dispatch]:
        found = await self.shards.fetch(
            SHARD,
            "SELECT id, home, lane, due_at, state, token, claims, tries, spent, tried, provider, started_at "
            "FROM dispatch WHERE id = ANY($1)",
            ids,
        )
        return {row["id"]: _dispatch(dict(row)) for row in found}


def _dispatch(row: dict[str, Any]) -> Dispatch:
    state, tried = State(row.pop("state")), tuple(row.pop("tried") or ())
    return Dispatch(**row, state=state, tried=tried)


def some_ids(count: int) -> list[DeliveryId]:
    """Of now, because only the partitions of these days exist; told apart by their last digits."""
    now_ms = int(datetime.now(UTC).timestamp() * 1000)
    return [DeliveryId(compose(Slot(1), now_ms, number)) for number in range(1, count + 1)]

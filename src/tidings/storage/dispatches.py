"""The hot rows: claimed, marked, settled. The only writer of ``dispatch`` from the accept to the end or the dead
letters, and of ``attempt``."""

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import asyncpg
import msgspec

from tidings.domain import ids
from tidings.domain.claimed import Claimed
from tidings.domain.delivery import State
from tidings.domain.dispatch import Again, Bury, Doubt, Finish, Settlement
from tidings.domain.errors import Unavailable
from tidings.domain.events import DoubtOpened, DoubtResolved
from tidings.domain.ids import DeliveryId, NotificationId, ShardNumber, TenantId
from tidings.domain.lanes import DEAD, IN_DOUBT, Channel, Lane
from tidings.domain.outcome import Fenced, Gone, Outcome, Refused, Sent, TryLater, TryNext, Unsure
from tidings.domain.suppression import held_against
from tidings.ports import Emit, Marked, Settled
from tidings.storage.push_tokens import PushTokens
from tidings.storage.shards import PoolConnection, Shards
from tidings.storage.sql import column, load_statements

OUTCOME_NAMES: Final[Mapping[type[Outcome], str]] = {
    Sent: "sent",
    TryLater: "try_later",
    TryNext: "try_next",
    Refused: "refused",
    Unsure: "unsure",
    Fenced: "fenced",
}
WORKER_LOST: Final = "worker_lost"
"""Why a call is in doubt whose worker never said what became of it."""
LATE_ANSWER: Final = "late_answer"
"""How a doubt ends when its worker says after all what became of the call."""
_DETAIL_MAX: Final = 500
_suppressed: Final = msgspec.json.Decoder(dict[str, datetime])


class DispatchStore:
    """Implements ``ports.Dispatches``. ``quick`` commits to our own disk, ``durable`` waits for the standby too."""

    def __init__(
        self, quick: Shards, durable: Shards, lease_s: float, reserve_s: float, emit: Emit = lambda _: None
    ) -> None:
        self._emit = emit
        self._quick = quick
        self._durable = durable
        self._lease_s = lease_s
        self._reserve_s = reserve_s
        self._sql = load_statements("dispatch")
        self._tokens = PushTokens()

    async def claim(self, shard: ShardNumber, limits: Mapping[Lane, int], token: int) -> Sequence[Claimed]:
        async with self._quick.connection(shard) as connection:
            held = await connection.fetch(self._sql["claim"], list(limits), list(limits.values()), self._lease_s, token)
            return await self._load(connection, held, limits, token)

    async def claim_named(
        self, shard: ShardNumber, lanes: Sequence[Lane], ids_: Sequence[DeliveryId], token: int
    ) -> Sequence[Claimed]:
        async with self._quick.connection(shard) as connection:
            held = await connection.fetch(self._sql["claim_named"], ids_, lanes, self._lease_s, token)
            return await self._load(connection, held, lanes, token)

    async def _load(
        self, connection: PoolConnection, held: Sequence[asyncpg.Record], lanes: Container[Lane], token: int
    ) -> Sequence[Claimed]:
        kept = {row["id"]: row for row in held if row["lane"] in lanes}
        if len(kept) < len(held):
            self._emit(DoubtOpened(len(held) - len(kept), WORKER_LOST))
        if not kept:
            return []
        loaded = await connection.fetch(self._sql["load"], list(kept), *ids.bounds(kept))
        claimed = [_claimed(kept[row["id"]], row, token) for row in loaded]
        if shared := [one.id for one in claimed if one.address is None and one.channel == Channel.push]:
            claimed = [one for one in claimed if one.id not in shared]
            claimed += await self._fanned_out(connection, shared, kept, token)
        return sorted(claimed, key=lambda one: (one.lane % 10, one.id))

    async def _fanned_out(
        self,
        connection: PoolConnection,
        shared: Sequence[DeliveryId],
        held: Mapping[DeliveryId, asyncpg.Record],
        token: int,
    ) -> Sequence[Claimed]:
        """Pushes that are to reach every token of their users: each has one of its own now, if there is one."""
        siblings = await self._tokens.fan_out(connection, shared, token)
        loaded = await connection.fetch(self._sql["load"], shared, *ids.bounds(shared))
        claimed = [_claimed(held[row["id"]], row, token) for row in loaded]
        return [msgspec.structs.replace(one, siblings=siblings.get(one.id, 0)) for one in claimed]

    async def mark(
        self, shard: ShardNumber, ids_: Sequence[DeliveryId], tokens: Sequence[int], providers: Sequence[int]
    ) -> Sequence[Marked]:
        rows = await self._durable.fetch(shard, self._sql["mark"], ids_, tokens, providers, self._reserve_s)
        return [Marked(row["id"], row["tries"]) for row in rows]

    async def settle(self, shard: ShardNumber, rows: Sequence[Settled]) -> Sequence[DeliveryId]:
        try:
            async with self._quick.connection(shard) as connection:
                done = await self._settled(connection, rows)
        except (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError):
            raise  # a row that cannot be stored, now or later
        except asyncpg.PostgresError as fault:
            raise Unavailable(f"shard {shard}: {type(fault).__name__}") from fault
        if late := sum(row["late"] for row in done):
            self._emit(DoubtResolved(late, LATE_ANSWER))
        return [row["id"] for row in done]

    async def _settled(self, connection: PoolConnection, rows: Sequence[Settled]) -> Sequence[asyncpg.Record]:
        values = (*ids.bounds([row.id for row in rows]), *_columns(rows))
        dead = [row.id for row in rows if isinstance(row.said, Refused) and row.said.gone == Gone.unregistered]
        if not dead:
            return await connection.fetch(self._sql["settle"], *values)
        async with connection.transaction():
            done = await connection.fetch(self._sql["settle"], *values)
            await self._tokens.forget(connection, dead)
        return done

    async def look_again(
        self, shard: ShardNumber, ids_: Sequence[DeliveryId], tokens: Sequence[int], after_s: Sequence[float]
    ) -> None:
        await self._quick.fetch(shard, self._sql["hand_back_doubt"], ids_, tokens, after_s)

    async def give_back(self, shard: ShardNumber, ids_: Sequence[DeliveryId], tokens: Sequence[int]) -> None:
        await self._quick.fetch(shard, self._sql["give_back"], ids_, tokens)

    async def cancel(self, shard: ShardNumber, id_: NotificationId, tenant: TenantId) -> Sequence[DeliveryId]:
        """What had not left, and now never will. Asked twice at least, and until nothing is left: a push that was
        fanned out meanwhile has siblings that the first statement could not see, even where that came too late for the
        push itself."""
        asked = (self._sql["cancel"], id_, tenant, *ids.siblings(id_))
        cancelled = [row["id"] for row in await self._durable.fetch(shard, *asked)]
        while rows := await self._durable.fetch(shard, *asked):
            cancelled += [row["id"] for row in rows]
        return cancelled


def _claimed(held: asyncpg.Record, row: asyncpg.Record, token: int) -> Claimed:
    return Claimed(
        id=held["id"],
        notification=row["notification_id"],
        token=token,
        lane=held["lane"],
        home=held["home"],
        claims=held["claims"],
        tries=held["tries"],
        spent=held["spent"],
        tried=tuple(held["tried"] or ()),
        provider=held["provider"],
        started_at=held["started_at"],
        in_doubt=held["state"] == State.in_doubt,
        now=held["now"],
        slot=row["slot"],
        tenant=row["tenant"],
        user=row["user_id"],
        channel=Channel(row["channel"]),
        category=row["category"],
        template_version=row["template_version"],
        sender=row["sender"],
        payload=row["payload"],
        address=row["address"],
        address_hash=row["address_hash"],
        suppressed=_suppressed.decode(row["suppressed"]) if row["suppressed"] else {},
        preferences=row["preferences"],
        zone=row["zone"],
        locale=row["locale"],
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        duplicate_possible=row["duplicate_possible"],
        reason=held["reason"],
    )


_Value = Callable[[Settled], Any]
_OF_THE_CALL: Final[tuple[_Value, ...]] = (
    lambda row: row.id,
    lambda row: row.token,
    lambda row: row.n,
    lambda row: row.provider,
    lambda row: OUTCOME_NAMES[type(row.said)] if row.said else None,
    lambda row: row.said.code if row.said else None,
    lambda row: row.said.detail[:_DETAIL_MAX] if row.said else None,
    lambda row: row.said.message_id if isinstance(row.said, Sent) else None,
    lambda row: row.started_at,
    lambda row: row.took_ms,
    lambda row: row.charge.units if row.charge else None,
    lambda row: row.charge.cost_micros if row.charge else None,
)
_AFTERWARDS: Final[tuple[_Value, ...]] = (
    lambda row: row.expires_at,
    lambda row: row.to.spent if isinstance(row.to, Again) else None,
    lambda row: _array(row.to.tried) if isinstance(row.to, Again) else None,
    lambda row: row.duplicate_possible or None,
    lambda row: row.to.detail[:_DETAIL_MAX] if isinstance(row.to, Bury | Finish) and row.to.detail else None,
    lambda row: held_against(row.said.gone) if isinstance(row.said, Refused) else None,
    lambda row: row.waits_for,
)


def _columns(rows: Sequence[Settled]) -> Iterator[Sequence[Any]]:
    for value in _OF_THE_CALL:
        yield column(map(value, rows))
    places = [_place(row.to) for row in rows]
    yield column(place[0] for place in places)
    yield column(place[1] for place in places)
    yield column(row.address for row in rows)
    yield column(row.address_hash for row in rows)
    for n in (2, 3, 4):
        yield column(place[n] for place in places)
    for value in _AFTERWARDS:
        yield column(map(value, rows))


def _place(to: Settlement) -> tuple[int | None, str | None, int | None, int | None, float | None]:
    """``(status or None, reason, state, lane or None for home, due in seconds)``."""
    match to:
        case Finish(mark=mark, reason=reason):
            return mark, reason, None, None, None
        case Again(after_s=after_s, reason=reason):
            return None, reason, State.ready, None, after_s
        case Doubt(after_s=after_s, reason=reason):
            return None, reason, State.in_doubt, IN_DOUBT, after_s
        case Bury(reason=reason):
            return None, reason, State.dead, DEAD, 0.0


def _array(numbers: Sequence[int]) -> str | None:
    """An array literal: a nested array parameter would be flattened by ``unnest``."""
    return "{" + ",".join(map(str, numbers)) + "}" if numbers else None

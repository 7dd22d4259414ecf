"""The dead letters: found, shown, edited, replayed, discarded. The only writer of their rows once they are dead.

There may be millions. Every statement reads a bounded piece, and every call a bounded number of pieces.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, TypeVar
from uuid import UUID

import asyncpg
import msgspec

from tidings.domain import ids
from tidings.domain.dead_letters import (
    Back,
    Cause,
    Choice,
    Contents,
    Edit,
    Found,
    Group,
    Groups,
    Letter,
    Pile,
    Place,
    joined,
    pile,
)
from tidings.domain.ids import DeliveryId, ShardNumber, TenantId
from tidings.domain.lanes import Channel, Class, lane_of
from tidings.domain.notification import Payload
from tidings.ports import Catalogs
from tidings.storage.shards import Shards
from tidings.storage.sql import column, load_statements

T = TypeVar("T")

_PIECE: Final = 1_000
_PIECES_OF_A_PAGE: Final = 20
_PIECES_COUNTED: Final = 100
_LETTER: Final = Letter.__struct_fields__
_FIRST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST: Final = datetime(9999, 1, 1, tzinfo=UTC)
_LOWEST: Final = DeliveryId(UUID(int=0))
_payload: Final = msgspec.json.Decoder(Payload)


class Walk(msgspec.Struct, frozen=True):
    """Along the lane in one direction, until there are more than ``limit`` letters, but only so many pieces far."""

    limit: int
    newest: bool
    pieces: int = _PIECES_OF_A_PAGE


class DeadLetterStore:
    """Raises ``errors.Unavailable`` where a shard cannot be reached. ``by`` is the key of whoever decided."""

    def __init__(self, shards: Shards, catalogs: Catalogs) -> None:
        self._shards = shards
        self._catalogs = catalogs
        self._sql = load_statements("dead_letters")

    async def groups(self, tenant: TenantId, choice: Choice) -> Groups:
        """By cause, of all shards."""
        counted = await asyncio.gather(*(self._counted(shard, tenant, choice) for shard in self._shards.numbers))
        items = joined(group for groups, _ in counted for group in groups)
        return Groups(items, all(complete for _, complete in counted))

    async def page(
        self, tenant: TenantId, choice: Choice, limit: int, after: Place | None = None, *, newest: bool = False
    ) -> Pile:
        """At most ``limit`` of them. It may hold fewer, or none, and still not be the last."""
        some = (self._found(shard, tenant, choice, after, Walk(limit, newest)) for shard in self._shards.numbers)
        return pile(await asyncio.gather(*some), limit, newest=newest)

    async def named(self, tenant: TenantId, choice: Choice, wanted: Sequence[DeliveryId]) -> Sequence[Letter]:
        """Those of them that are chosen, the oldest first."""
        by_shard = self._by_shard(dict.fromkeys(wanted), lambda id_: id_)
        found = await asyncio.gather(*(self._letters(shard, tenant, choice, some) for shard, some in by_shard.items()))
        letters = (one for some in found for one in some if choice.takes(one))
        return sorted(letters, key=lambda one: one.place)

    async def contents(self, tenant: TenantId, letter: DeliveryId) -> Contents | None:
        rows = await self._fetch(self._shard_of(letter), "contents", letter, tenant, *ids.bounds([letter]))
        return Contents(rows[0]["address"], _payload.decode(rows[0]["payload"]), rows[0]["version"]) if rows else None

    async def edit(self, tenant: TenantId, letter: DeliveryId, edit: Edit, by: str) -> bool:
        """False when it is dead no longer, or was changed since."""
        payload = msgspec.json.encode(edit.payload) if edit.payload is not None else None
        changed = (edit.address, edit.address_hash, payload, edit.template_version, edit.what, by, edit.version)
        bounds = ids.bounds([letter])
        return bool(await self._fetch(self._shard_of(letter), "edit", letter, tenant, *bounds, *changed))

    async def replay(self, tenant: TenantId, letters: Sequence[Back], by: str) -> set[DeliveryId]:
        """Back to their lanes; those that were dead still. One commit in each shard."""
        by_shard = self._by_shard(letters, lambda one: one.id)
        back = await asyncio.gather(*(self._replay(shard, tenant, some, by) for shard, some in by_shard.items()))
        return set[DeliveryId]().union(*back)

    async def discard(
        self, tenant: TenantId, letters: Sequence[DeliveryId], because: str | None, by: str
    ) -> set[DeliveryId]:
        """Given up for good; those that were dead still. One commit in each shard."""
        by_shard = self._by_shard(letters, lambda id_: id_)
        gone = await asyncio.gather(
            *(
                self._fetch(shard, "discard", some, *ids.bounds(some), tenant, because, by)
                for shard, some in by_shard.items()
            )
        )
        return {row["id"] for rows in gone for row in rows}

    async def _replay(self, shard: ShardNumber, tenant: TenantId, letters: Sequence[Back], by: str) -> set[DeliveryId]:
        wanted = [one.id for one in letters]
        columns = [one.after_s for one in letters], column(one.version for one in letters)
        rows = await self._fetch(shard, "replay", wanted, *ids.bounds(wanted), tenant, *columns, by)
        return {row["id"] for row in rows}

    def _by_shard(self, letters: Iterable[T], id_of: Callable[[T], DeliveryId]) -> Mapping[ShardNumber, Sequence[T]]:
        found = defaultdict[ShardNumber, list[T]](list)
        for one in letters:
            found[self._shard_of(id_of(one))].append(one)
        return found

    def _shard_of(self, letter: DeliveryId) -> ShardNumber:
        return self._catalogs().shard(ids.slot_in(letter))

    async def _found(
        self, shard: ShardNumber, tenant: TenantId, choice: Choice, after: Place | None, walk: Walk
    ) -> Found:
        letters, place = list[Letter](), after
        for _ in range(walk.pieces):
            piece = await self._piece(shard, choice, place, newest=walk.newest)
            letters += await self._letters(shard, tenant, choice, [one.id for one in piece])
            if len(piece) < _PIECE:
                return Found(letters, None)
            place = piece[-1]
            if len(letters) > walk.limit:
                break
        return Found(letters, place)

    async def _counted(self, shard: ShardNumber, tenant: TenantId, choice: Choice) -> tuple[Sequence[Group], bool]:
        """With whether all of them were counted."""
        groups, place = list[Group](), None
        for _ in range(_PIECES_COUNTED):
            piece = await self._piece(shard, choice, place, newest=True)
            rows = await self._of(shard, "causes", tenant, choice, [one.id for one in piece])
            groups += [_group(row) for row in rows]
            if len(piece) < _PIECE:
                return groups, True
            place = piece[-1]
        return groups, False

    async def _piece(self, shard: ShardNumber, choice: Choice, after: Place | None, *, newest: bool) -> Sequence[Place]:
        """The next of the lane, of all tenants."""
        since, until = choice.since or _FIRST, choice.until or _LAST
        start, end = (until, since) if newest else (since, until)
        at, id_ = (after.at, after.id) if after else (start, _LOWEST)
        lanes = [lane_of(choice.channel, class_) for class_ in Class] if choice.channel else None
        chosen = (choice.reason, choice.provider, lanes)
        rows = await self._fetch(shard, "newest" if newest else "oldest", at, id_, end, *chosen, _PIECE)
        return [Place(row["due_at"], row["id"]) for row in rows]

    async def _letters(
        self, shard: ShardNumber, tenant: TenantId, choice: Choice, wanted: Sequence[DeliveryId]
    ) -> Sequence[Letter]:
        rows = await self._of(shard, "letters", tenant, choice, wanted)
        return [Letter(**{name: row[name] for name in _LETTER}) for row in rows]

    async def _of(
        self, shard: ShardNumber, statement: str, tenant: TenantId, choice: Choice, wanted: Sequence[DeliveryId]
    ) -> Sequence[asyncpg.Record]:
        """What the lane alone does not tell: whose they are, of which template, and what the provider said."""
        if not wanted:
            return []
        bounds = ids.bounds(wanted)
        return await self._fetch(shard, statement, wanted, *bounds, tenant, choice.code, choice.versions)

    async def _fetch(self, shard: ShardNumber, statement: str, *values: Any) -> list[asyncpg.Record]:
        return await self._shards.fetch(shard, self._sql[statement], *values)


def _group(row: asyncpg.Record) -> Group:
    cause = Cause(row["reason"], Channel(row["channel"]), row["provider"], row["code"], row["template_version"])
    return Group(cause, row["count"], row["first_at"], row["last_at"], row["latest"])

"""Users and their addresses. The only writer of ``users`` and ``address``, but for the tokens that ``push_tokens``
forgets."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import asyncpg
import msgspec

from tidings.domain import ids
from tidings.domain.ids import ShardNumber, Slot, TenantId, UserId
from tidings.domain.lanes import Channel
from tidings.domain.people import Person
from tidings.domain.plan import AddressHash
from tidings.ports import Catalogs
from tidings.storage.shards import Shards
from tidings.storage.sql import load_statements


class People:
    """Raises ``errors.Unavailable`` where a shard cannot be reached."""

    def __init__(self, shards: Shards, catalogs: Catalogs, address_hash: AddressHash) -> None:
        self._shards = shards
        self._catalogs = catalogs
        self._hash = address_hash
        self._sql = load_statements("people")

    async def get(self, tenant: TenantId, user: UserId) -> Person | None:
        slot = ids.slot_of(tenant, user)
        rows = await self._fetch(slot, "get", slot, tenant, user)
        return _person(user, rows[0]) if rows else None

    async def put(self, tenant: TenantId, person: Person, expected: int | None = None) -> Person | None:
        """Replaces the whole person and returns it as stored; None when ``expected`` is not its version now."""
        return (await self._put(tenant, [person], [expected])).get(person.id)

    async def put_many(self, tenant: TenantId, people: Sequence[Person]) -> None:
        """Replaces them all, each shard in one commit. No person comes twice."""
        by_shard = defaultdict[ShardNumber, list[Person]](list)
        for person in people:
            by_shard[self._catalogs().shard(ids.slot_of(tenant, person.id))].append(person)
        await asyncio.gather(*(self._put(tenant, some, [None] * len(some)) for some in by_shard.values()))

    async def delete(self, tenant: TenantId, user: UserId, expected: int | None = None) -> bool:
        """False when there is nobody, or ``expected`` is not the version now."""
        slot = ids.slot_of(tenant, user)
        return bool(await self._fetch(slot, "delete", slot, tenant, user, expected))

    async def _put(
        self, tenant: TenantId, people: Sequence[Person], expected: Sequence[int | None]
    ) -> Mapping[UserId, Person]:
        """All of one shard."""
        slot = ids.slot_of(tenant, people[0].id)
        columns = [*_columns(tenant, people), expected, *_addresses(tenant, people, self._hash)]
        rows = await self._fetch(slot, "put", tenant, *columns)
        stored = {row["user_id"]: row for row in rows}
        return {
            one.id: msgspec.structs.replace(
                one, version=stored[one.id]["version"], updated_at=stored[one.id]["updated_at"]
            )
            for one in people
            if one.id in stored
        }

    async def _fetch(self, slot: Slot, statement: str, *values: Any) -> list[asyncpg.Record]:
        return await self._shards.fetch(self._catalogs().shard(slot), self._sql[statement], *values)


def _columns(tenant: TenantId, people: Sequence[Person]) -> Iterator[list[Any]]:
    yield [ids.slot_of(tenant, one.id) for one in people]
    yield [one.id for one in people]
    yield [one.zone for one in people]
    yield [one.locale for one in people]
    yield [msgspec.json.encode(one.attributes).decode() for one in people]


def _addresses(tenant: TenantId, people: Sequence[Person], hash_: AddressHash) -> Iterator[list[Any]]:
    rows = [
        (one.id, channel, position, address)
        for one in people
        for channel, addresses in one.addresses.items()
        for position, address in enumerate(addresses)
    ]
    yield [ids.slot_of(tenant, user) for user, *_ in rows]
    yield [user for user, *_ in rows]
    yield [channel for _, channel, _, _ in rows]
    yield [position for _, _, position, _ in rows]
    yield [hash_(tenant, channel, address) for _, channel, _, address in rows]
    yield [address for *_, address in rows]


def _person(user: UserId, row: asyncpg.Record) -> Person:
    addresses = defaultdict[Channel, tuple[str, ...]](tuple)
    for channel, address in zip(row["channels"], row["addresses"], strict=True):
        addresses[Channel(channel)] += (address,)
    return Person(
        id=user,
        addresses=dict(addresses),
        zone=row["zone"],
        locale=row["locale"],
        attributes=msgspec.json.decode(row["attributes"]),
        version=row["version"],
        updated_at=row["updated_at"],
    )

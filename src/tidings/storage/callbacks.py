"""What callers' systems are still to be told. The only writers of ``callback`` once it is there, and of
``listener``."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg
import msgspec

from tidings.domain import ids
from tidings.domain.callback import Callback, Held, Notice, Owed, listeners
from tidings.domain.catalog import Catalog
from tidings.domain.delivery import Mark
from tidings.domain.ids import ShardNumber
from tidings.domain.lanes import Channel
from tidings.ports import Finished
from tidings.storage.shards import Shards
from tidings.storage.sql import load_statements

MOST_COUNTED: Final = 100_000


class _Carried(msgspec.Struct, frozen=True):
    """The part of a notification's payload that its events carry."""

    metadata: dict[str, str] | None = None


_carried: Final = msgspec.json.Decoder(_Carried)


class CallbackStore:
    """Implements ``ports.Callbacks``. ``by_id`` claims and finishes, ``plain`` reads widely; a claim holds for
    ``lease_s``."""

    def __init__(self, by_id: Shards, plain: Shards, lease_s: float) -> None:
        self._by_id = by_id
        self._plain = plain
        self._lease_s = lease_s
        self._sql: Mapping[str, str] = load_statements("callbacks")

    async def put(self, shard: ShardNumber, notices: Sequence[Notice]) -> None:
        columns = [one.id for one in notices], [one.webhook for one in notices], [one.body for one in notices]
        await self._by_id.fetch(shard, self._sql["put"], *columns)

    async def claim(self, shard: ShardNumber, limits: Mapping[int, int], token: int) -> Sequence[Held]:
        async with self._by_id.connection(shard) as connection:
            held = await connection.fetch(self._sql["claim"], list(limits), list(limits.values()), self._lease_s, token)
            if not held:
                return []
            about = list({row["delivery_id"] for row in held if row["body"] is None})
            known = await connection.fetch(self._sql["load"], about, *ids.bounds(about)) if about else ()
        facts = {row["id"]: row for row in known}
        return [_held(row, facts) for row in sorted(held, key=_age)]

    async def finish(self, shard: ShardNumber, rows: Sequence[Finished]) -> None:
        ordered = sorted(rows, key=lambda row: row.id)
        columns = [row.id for row in ordered], [row.token for row in ordered], [row.after_s for row in ordered]
        await self._by_id.fetch(shard, self._sql["finish"], *columns)

    async def drop(self, shard: ShardNumber, most: int) -> int:
        async with self._plain.connection(shard) as connection:
            return int((await connection.execute(self._sql["drop"], most)).split()[-1])

    async def owed(self, shard: ShardNumber) -> Owed:
        """Counted up to MOST_COUNTED."""
        (row,) = await self._plain.fetch(shard, self._sql["owed"], MOST_COUNTED)
        return Owed(row["waiting"], row["oldest_due_s"])


class ListenerStore:
    """Which changes of status make callbacks, and for whom."""

    def __init__(self, shards: Shards) -> None:
        self._shards = shards
        self._sql: Mapping[str, str] = load_statements("callbacks")

    async def everywhere(self, catalog: Catalog) -> None:
        """In every shard on return."""
        await asyncio.gather(*(self.listen(shard, catalog) for shard in self._shards.numbers))

    async def listen(self, shard: ShardNumber, catalog: Catalog) -> None:
        """Implements ``ports.Listen``."""
        rows = listeners(catalog.webhooks.values())
        columns = [row.tenant for row in rows], [row.webhook for row in rows], [row.events for row in rows]
        await self._shards.fetch(shard, self._sql["listen"], catalog.version, *columns)


def _age(row: asyncpg.Record) -> tuple[datetime, UUID]:
    return row["at"], row["id"]


def _held(row: asyncpg.Record, facts: Mapping[UUID, asyncpg.Record]) -> Held:
    if row["body"] is not None:
        return Notice(row["id"], row["webhook"], row["body"], row["token"], row["tries"])
    held = Callback(
        id=row["id"],
        webhook=row["webhook"],
        token=row["token"],
        tries=row["tries"],
        delivery=row["delivery_id"],
        status=Mark(row["status"]),
        reason=row["reason"],
        at=row["at"],
    )
    fact = facts.get(held.delivery)
    return held if fact is None else _with_facts(held, fact)


def _with_facts(held: Callback, fact: asyncpg.Record) -> Callback:
    return msgspec.structs.replace(
        held,
        notification=fact["notification_id"],
        channel=Channel(fact["channel"]),
        user=fact["user_id"],
        category=fact["category"],
        reference=fact["reference"],
        metadata=_carried.decode(fact["payload"]).metadata,
    )

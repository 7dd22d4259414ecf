"""The control database: read whole into a ``Catalog``, edited here and nowhere else."""

import secrets
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from itertools import zip_longest
from typing import Any, Final

import asyncpg
import msgspec

from tidings.domain.catalog import Account, ApiKey, Catalog, Category, DoubtPolicy, Ordered, Sender, Template, Tenant
from tidings.domain.errors import Unavailable, UnknownCategory
from tidings.domain.ids import SLOTS, ShardNumber, TenantId
from tidings.domain.keys import make_key
from tidings.domain.lanes import Channel, Class
from tidings.domain.outcome import Receipt
from tidings.domain.price import check_change, known_price
from tidings.domain.routing import AccountState, Hop, Order, Route, Rule
from tidings.domain.template import TemplateSource
from tidings.storage.secrets import Secrets
from tidings.storage.shards import AWAY, Pool, PoolConnection
from tidings.storage.sql import load_statements
from tidings.storage.webhooks import webhook_of

ALL_SCOPES: Final = ("send", "read", "manage")
_STRAYS_MAX: Final = 100_000


class Control:
    """Reads and edits. Every edit raises the catalog's version, by which all processes notice it. Raises
    ``errors.Unavailable`` when the control database is away."""

    def __init__(self, pool: Pool, secrets_: Secrets) -> None:
        self._pool = pool
        self._secrets = secrets_
        self._sql = load_statements("control")

    async def _fetch(self, statement: str, *values: Any) -> list[asyncpg.Record]:
        async with self._connection() as connection:
            return await connection.fetch(self._sql[statement], *values)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[PoolConnection]:
        try:
            async with self._pool.acquire() as connection:
                yield connection
        except AWAY as fault:
            raise Unavailable(f"control database: {type(fault).__name__}") from fault

    async def version(self) -> int:
        return int((await self._fetch("version"))[0]["version"])

    async def catalog(self) -> Catalog:
        """One consistent view of everything."""
        async with self._connection() as connection, connection.transaction(isolation="repeatable_read"):
            rows = {name: await connection.fetch(self._sql[name]) for name in _READ}
        categories = [_category(row) for row in rows["categories"]]
        return Catalog(
            version=rows["version"][0]["version"],
            tenants={row["id"]: Tenant(row["id"], row["name"], row["twin_of"]) for row in rows["tenants"]},
            keys={row["public_id"]: _key(row) for row in rows["keys"]},
            categories={(one.tenant, one.name): one for one in categories},
            categories_by_id={one.id: one for one in categories},
            templates={(row["tenant"], row["name"]): _template(row) for row in rows["templates"]},
            senders=_senders(rows["senders"]),
            accounts={row["id"]: self._account(row) for row in rows["accounts"]},
            ordered={row["id"]: Ordered(AccountState(row["state"]), row["state_since"]) for row in rows["ordered"]},
            routes={(row["tenant"], Channel(row["channel"])): _route(row) for row in rows["routes"]},
            rollouts={(row["tenant"], Channel(row["channel"])): row["percent"] for row in rows["rollouts"]},
            shard_of=_shard_of(rows["slot_ranges"]),
            webhooks={row["id"]: webhook_of(self._secrets, row) for row in rows["webhooks"]},
        )

    def _account(self, row: asyncpg.Record) -> Account:
        plain = self._secrets.open(row["settings"], _bound(row["tenant"], row["name"]))
        settings = msgspec.json.decode(plain, type=dict[str, str])
        return Account(
            id=row["id"],
            tenant=row["tenant"],
            name=row["name"],
            kind=row["kind"],
            channel=Channel(row["channel"]),
            settings=settings,
            receipt_token=row["receipt_token"],
            price=known_price(settings),
        )

    async def spread_slots(self, shards: int) -> None:
        """Gives every slot a shard, once, in equal ranges."""
        async with self._connection() as connection, connection.transaction():
            await connection.execute("LOCK TABLE slot_range")
            if await connection.fetch(self._sql["slot_ranges"]):
                return
            edges = [SLOTS * n // shards for n in range(shards + 1)]
            for n in range(shards):
                await connection.execute(self._sql["put_slot_range"], edges[n], edges[n + 1] - 1, n)

    async def put_tenant(self, name: str, twin_of: TenantId | None = None) -> TenantId:
        return TenantId((await self._fetch("put_tenant", name, twin_of))[0]["id"])

    async def create_key(
        self, tenant: TenantId, name: str, scopes: Sequence[str] = ALL_SCOPES, until: datetime | None = None
    ) -> str:
        """The key itself, shown this once: only its digest is kept. A test tenant gets a test key."""
        live = (await self._fetch("tenant", tenant))[0]["twin_of"] is None
        public, secret = secrets.token_bytes(8), secrets.token_bytes(32)
        key = make_key(live=live, public=public, secret=secret, pepper=self._secrets.pepper)
        await self._fetch("put_key", key.public_id, tenant, name, key.digest, list(scopes), until)
        return key.plain

    async def list_keys(self) -> list[asyncpg.Record]:
        return await self._fetch("list_keys")

    async def delete_key(self, public_id: str) -> bool:
        return bool(await self._fetch("delete_key", public_id))

    async def put_category(
        self, tenant: TenantId, name: str, class_: Class, channels: Sequence[Channel], **more: Any
    ) -> int:
        """``more``: doubt_policy, expires_after_s, required."""
        rows = await self._fetch(
            "put_category",
            tenant,
            name,
            class_,
            list(channels),
            more.get("doubt_policy", DoubtPolicy.at_least_once),
            more.get("expires_after_s"),
            more.get("required", False),
        )
        return int(rows[0]["id"])

    async def put_template(self, tenant: TenantId, name: str, category: str, source: TemplateSource) -> int:
        """Stores the next version and publishes it; returns the version's id. Raises UnknownCategory."""
        async with self._connection() as connection, connection.transaction():
            made = await connection.fetch(
                self._sql["put_template"], tenant, name, category, msgspec.json.encode(source)
            )
            if not made:
                raise UnknownCategory(f"there is no category {category!r}", pointer="/category")
            await connection.execute(self._sql["publish"], made[0]["template"], made[0]["id"])
        return int(made[0]["id"])

    async def template_source(self, version: int) -> TemplateSource | None:
        rows = await self._fetch("template_source", version)
        return msgspec.json.decode(rows[0]["source"], type=TemplateSource) if rows else None

    async def template_versions(self, tenant: TenantId, name: str) -> list[asyncpg.Record]:
        return await self._fetch("template_versions", tenant, name)

    async def template_names(self, tenant: TenantId, versions: Collection[int]) -> Mapping[int, str]:
        """The names of the templates that these are versions of."""
        return {row["id"]: row["name"] for row in await self._fetch("template_names", tenant, list(versions))}

    async def put_sender(self, tenant: TenantId, name: str, channel: Channel, identity: Mapping[str, str]) -> int:
        rows = await self._fetch("put_sender", tenant, name, channel, msgspec.json.encode(identity).decode())
        return int(rows[0]["id"])

    async def put_account(
        self, tenant: TenantId, name: str, kind: str, channel: Channel, settings: Mapping[str, str]
    ) -> Account:
        """Settings that are not named keep their value; the address of its webhook never changes. Raises Invalid for a
        price that cannot be used, and for another currency than the one it has."""
        async with self._connection() as connection, connection.transaction():
            old = await connection.fetch(self._sql["find_account"], tenant, name)
            known = self._known(tenant, name, old)
            merged = {**known, **settings}
            check_change(known, merged)
            token = old[0]["receipt_token"] if old else secrets.token_urlsafe(24)
            sealed = self._secrets.seal(msgspec.json.encode(merged), _bound(tenant, name))
            if old:
                rows = await connection.fetch(self._sql["change_account"], old[0]["id"], kind, sealed)
            else:
                rows = await connection.fetch(self._sql["put_account"], tenant, name, kind, channel, sealed, token)
        return Account(rows[0]["id"], tenant, name, kind, channel, merged, token, known_price(merged))

    def _known(self, tenant: TenantId, name: str, rows: Sequence[asyncpg.Record]) -> dict[str, str]:
        if not rows:
            return {}
        return msgspec.json.decode(self._secrets.open(rows[0]["settings"], _bound(tenant, name)), type=dict[str, str])

    async def set_account_state(self, tenant: TenantId, name: str, state: AccountState) -> bool:
        """False when there is no such account."""
        return bool(await self._fetch("set_account_state", tenant, name, state))

    async def put_route(
        self, tenant: TenantId, channel: Channel, hops: Sequence[int | Hop], rules: Sequence[Rule] = ()
    ) -> None:
        """A hop that is a number is an account with a rank of its own."""
        full = [hop if isinstance(hop, Hop) else Hop(hop) for hop in hops]
        accounts, weights = [hop.account for hop in full], [hop.weight for hop in full]
        kept = [_KeptRule(rule.order.hops, rule.category, rule.country) for rule in rules]
        await self._fetch("put_route", tenant, channel, accounts, weights, msgspec.json.encode(kept).decode())

    async def put_rollout(self, tenant: TenantId, channel: Channel, percent: float) -> None:
        await self._fetch("put_rollout", tenant, channel, percent)

    async def file_stray(self, account: int, rows: Sequence[Receipt]) -> None:
        """Receipts that name no delivery of ours, kept for a look and bounded in number."""
        keys, raws = [row.event_key for row in rows], [row.raw for row in rows]
        await self._fetch("file_stray", account, keys, raws, _STRAYS_MAX)


_READ: Final = (
    "version",
    "tenants",
    "keys",
    "categories",
    "templates",
    "senders",
    "accounts",
    "ordered",
    "routes",
    "rollouts",
    "slot_ranges",
    "webhooks",
)


class _KeptRule(msgspec.Struct):
    """A rule of a route as it is stored."""

    hops: tuple[Hop, ...]
    category: int | None
    country: str | None


def _route(row: asyncpg.Record) -> Route:
    hops = [Hop(account, weight) for account, weight in zip_longest(row["accounts"], row["weights"])]
    kept = msgspec.json.decode(row["rules"], type=list[_KeptRule])
    return Route.of(hops, [Rule(Order.of(one.hops), one.category, one.country) for one in kept])


def _bound(tenant: int, name: str) -> str:
    return f"account {tenant} {name}"


def _key(row: asyncpg.Record) -> ApiKey:
    until = row["expires_at"].timestamp() if row["expires_at"] else None
    return ApiKey(row["public_id"], row["tenant"], row["digest"], frozenset(row["scopes"]), until)


def _template(row: asyncpg.Record) -> Template:
    return Template(row["tenant"], row["name"], row["published"], row["category"])


def _category(row: asyncpg.Record) -> Category:
    return Category(
        id=row["id"],
        tenant=row["tenant"],
        name=row["name"],
        class_=Class(row["class"]),
        channels=tuple(Channel(number) for number in row["channels"]),
        doubt_policy=DoubtPolicy(row["doubt_policy"]),
        expires_after_s=row["expires_after_s"],
        required=row["required"],
    )


def _senders(rows: Sequence[asyncpg.Record]) -> Mapping[tuple[TenantId, Channel], tuple[Sender, ...]]:
    found = defaultdict[tuple[TenantId, Channel], list[Sender]](list)
    for row in rows:
        channel = Channel(row["channel"])
        identity = msgspec.json.decode(row["identity"], type=dict[str, str])
        found[row["tenant"], channel].append(Sender(row["id"], row["tenant"], row["name"], channel, identity))
    return {key: tuple(senders) for key, senders in found.items()}


def _shard_of(rows: Sequence[asyncpg.Record]) -> tuple[ShardNumber, ...]:
    return tuple(ShardNumber(row["shard"]) for row in rows for _ in range(row["first"], row["last"] + 1))

"""Two migrated shards and a control database of real PostgreSQL: what every storage test runs on."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg
import msgspec

from tidings.domain.catalog import Catalog
from tidings.domain.ids import ShardNumber, TenantId
from tidings.domain.lanes import Channel, Class
from tidings.storage.control import Control
from tidings.storage.migrate import make_partitions, migrate
from tidings.storage.secrets import Secrets
from tidings.storage.shards import Shards, open_pool


@dataclass
class TwoShards:
    """``tenant`` has a category, a sender, an account and a route for e-mail."""

    control_dsn: str
    shard_dsns: tuple[str, str]
    control: Control
    secrets: Secrets
    tenant: TenantId
    catalog: Catalog

    @property
    def numbers(self) -> tuple[ShardNumber, ...]:
        return ShardNumber(0), ShardNumber(1)

    @asynccontextmanager
    async def open(self, settings: dict[str, str] | None = None, size: int = 4) -> AsyncIterator[Shards]:
        shards = await Shards.open(self.shard_dsns, size, settings or {})
        try:
            yield shards
        finally:
            await shards.close()

    async def rows(self, statement: str, *values: object) -> list[asyncpg.Record]:
        """Of both shards together."""
        async with self.open() as shards:
            return [row for n in shards.numbers for row in await shards.fetch(n, statement, *values)]


async def prepare(postgres, url: str = "http://127.0.0.1:1") -> TwoShards:
    """Databases of their own, migrated."""
    control_dsn, *shard_dsns = [postgres.dsn(await postgres.create_database()) for _ in range(3)]
    await migrate(control_dsn, "control")
    for dsn in shard_dsns:
        await migrate(dsn, "shard")
    shards = await Shards.open(shard_dsns, 1, {})
    for number in shards.numbers:
        await make_partitions(shards, number, 2)
    await shards.close()
    vault = Secrets(secrets.token_hex(32))
    control = Control(await open_pool(control_dsn, 2, {}), vault)
    await control.spread_slots(2)
    tenant = await control.put_tenant("acme")
    await control.put_category(tenant, "general", Class.transactional, [Channel.email])
    await control.put_category(tenant, "news", Class.promotional, [Channel.email])
    await control.put_sender(tenant, "default", Channel.email, {"email": "shop@example.com", "name": "Shop"})
    account = await control.put_account(
        tenant, "sendgrid", "sendgrid", Channel.email, {"url": url, "api_key": "SG.test"}
    )
    await control.put_route(tenant, Channel.email, [account.id])
    return TwoShards(control_dsn, (shard_dsns[0], shard_dsns[1]), control, vault, tenant, await control.catalog())


def payload(**data: object) -> bytes:
    return msgspec.json.encode({"data": data, "content": {"subject": "Hello", "text": "World"}})

"""Webhooks in the control database: where events go, the secrets that sign them, and which have been failing."""

import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Final

import asyncpg
import msgspec

from tidings.domain.callback import SECRET_BYTES, Disabled, Signing, Wanted, Webhook, secret_of
from tidings.domain.errors import Invalid, Unavailable
from tidings.domain.ids import TenantId
from tidings.ports import Failing
from tidings.storage.secrets import Secrets
from tidings.storage.shards import AWAY, Pool, PoolConnection
from tidings.storage.sql import load_statements

MOST: Final = 16
"""Webhooks of one tenant: each of them multiplies what a change of status writes."""


class Webhooks:
    """Implements ``ports.WebhookHealth``. Raises ``errors.Unavailable`` when the control database is away."""

    def __init__(self, pool: Pool, vault: Secrets) -> None:
        self._pool = pool
        self._vault = vault
        self._sql: Mapping[str, str] = load_statements("webhooks")

    async def put(self, tenant: TenantId, name: str, wanted: Wanted) -> str | None:
        """The secret, where it is a new one: shown this once. Raises Invalid for one too many."""
        async with self._connection() as connection, connection.transaction():
            await connection.fetch(self._sql["lock"], tenant)
            known = {row["name"]: row["secrets"] for row in await connection.fetch(self._sql["find"], tenant)}
            if name not in known and len(known) >= MOST:
                raise Invalid(f"a tenant has at most {MOST} webhooks", pointer="/name")
            old = opened(self._vault, tenant, name, known[name]) if name in known else ()
            fresh = secret_of(secrets.token_bytes(SECRET_BYTES)) if wanted.rotate or not old else None
            signing = _rotated(old, fresh, wanted.old_until) if fresh else old
            sealed = self._vault.seal(msgspec.json.encode(signing), _bound(tenant, name))
            values = (wanted.url, list(wanted.events), sealed, wanted.enabled)
            await connection.fetch(self._sql["put"], tenant, name, *values)
        return fresh

    async def delete(self, tenant: TenantId, name: str) -> bool:
        return bool(await self._fetch("delete", tenant, name))

    async def failing(self) -> Mapping[int, Failing]:
        return {row["webhook"]: Failing(row["since"], row["code"]) for row in await self._fetch("failing")}

    async def failed(self, webhook: int, code: str) -> None:
        await self._fetch("failed", webhook, code)

    async def recovered(self, webhook: int) -> None:
        await self._fetch("recovered", webhook)

    async def disable_failing(self, webhook: int, for_s: float) -> bool:
        return bool(await self._fetch("disable_failing", webhook, for_s))

    async def disable_gone(self, webhook: int, url: str) -> bool:
        return bool(await self._fetch("disable_gone", webhook, url))

    async def untold(self) -> Sequence[Disabled]:
        return [
            Disabled(row["id"], row["tenant"], row["name"], row["disabled_at"], row["disabled_because"])
            for row in await self._fetch("untold")
        ]

    async def told(self, disabled: Disabled) -> None:
        await self._fetch("told", disabled.webhook, disabled.at)

    async def _fetch(self, statement: str, *values: object) -> list[asyncpg.Record]:
        async with self._connection() as connection:
            return await connection.fetch(self._sql[statement], *values)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[PoolConnection]:
        try:
            async with self._pool.acquire() as connection:
                yield connection
        except AWAY as fault:
            raise Unavailable(f"control database: {type(fault).__name__}") from fault


def webhook_of(vault: Secrets, row: asyncpg.Record) -> Webhook:
    """Of a row of ``control.sql: webhooks``."""
    return Webhook(
        id=row["id"],
        tenant=row["tenant"],
        name=row["name"],
        url=row["url"],
        events=tuple(row["events"]),
        signing=opened(vault, row["tenant"], row["name"], row["secrets"]),
        disabled_at=row["disabled_at"],
        disabled_because=row["disabled_because"],
    )


def opened(vault: Secrets, tenant: TenantId, name: str, sealed: bytes) -> tuple[Signing, ...]:
    return msgspec.json.decode(vault.open(sealed, _bound(tenant, name)), type=tuple[Signing, ...])


def _bound(tenant: TenantId, name: str) -> str:
    return f"webhook {tenant} {name}"


def _rotated(old: Sequence[Signing], fresh: str, until: datetime) -> tuple[Signing, ...]:
    """The newest first, then the one before it: two rotations in a row leave no third one."""
    return (Signing(fresh), *(Signing(one.secret, until) for one in old[:1]))

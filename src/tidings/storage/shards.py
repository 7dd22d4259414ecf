"""The shards: one PostgreSQL database each, reached through pools whose commits are as durable as their use asks."""

import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias, cast

import asyncpg
import asyncpg.pool

from tidings.domain.errors import Unavailable
from tidings.domain.ids import ShardNumber
from tidings.settings import SettingsError

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
PoolConnection: TypeAlias = "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"

ONE_PLAN: Final[Mapping[str, str]] = {
    # One plan is made for good: with bounds as parameters it prunes partitions when it starts.
    "plan_cache_mode": "force_generic_plan",
    "jit": "off",
}
FEW_OF_MANY: Final[Mapping[str, str]] = {
    # Few rows by id of tables that may have been empty when the plan was made: never a scan.
    **ONE_PLAN,
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
}
BY_ID: Final[Mapping[str, str]] = {
    # Statements on the hot rows touch a few by id, or walk an index from its head. Statistics of a queue are always out
    # of date, so the planner is left no other plan.
    **FEW_OF_MANY,
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
}
_CONNECT_TIMEOUT_S: Final = 5.0
_SILENCE: Final[Mapping[int, int]] = {
    socket.TCP_KEEPIDLE: 5,
    socket.TCP_KEEPINTVL: 5,
    socket.TCP_KEEPCNT: 3,
    socket.TCP_USER_TIMEOUT: 20_000,  # milliseconds
}

AWAY: Final = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a connection whose server said goodbye a moment ago: nothing was sent on it
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.ObjectNotInPrerequisiteStateError,  # takes no connections
    asyncpg.InvalidCatalogNameError,
    asyncpg.InvalidAuthorizationSpecificationError,  # a password that is being changed, a fail-over under way
    asyncpg.PostgresSystemError,
    asyncpg.InternalServerError,
)
"""The database cannot do its work now. After a broken connection nothing is known about what it was asked last."""


class CancelledWait(Exception):
    """The server stopped waiting for a standby: the commit is visible, and may exist on one node only."""


def named(dsn: str) -> str:
    """The DSN. Raises SettingsError for an empty one, with which asyncpg would choose a database itself."""
    if not dsn:
        raise SettingsError("no database: set TIDINGS_CONTROL_DSN and TIDINGS_SHARD_DSNS, or start `tidings up`")
    return dsn


async def open_pool(dsn: str, size: int, settings: Mapping[str, str]) -> Pool:
    """Connections are made when first needed, so that a database that is away does not stop the start. Raises
    SettingsError without a DSN."""
    return await asyncpg.create_pool(
        named(dsn),
        min_size=0,
        max_size=size,
        max_inactive_connection_lifetime=300.0,
        timeout=_CONNECT_TIMEOUT_S,
        server_settings={"application_name": "tidings", **settings},
        reset=_as_it_is,
        init=_notice_silence,
    )


async def _notice_silence(connection: Connection) -> None:
    """A server that vanished without a word is noticed by the kernel in some 20 s. There is no time limit on commands:
    a commit is never cancelled."""
    socket_ = cast(Any, connection)._transport.get_extra_info("socket")
    if socket_ is None or socket_.family == socket.AF_UNIX:
        return
    socket_.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _SILENCE.items():
        socket_.setsockopt(socket.IPPROTO_TCP, option, value)


async def _as_it_is(_: object) -> None:
    """Nothing here leaves anything behind in a session, so a connection goes back without the usual round trip."""


class Shards:
    """One pool for each shard, all with the same settings."""

    def __init__(self, pools: Mapping[ShardNumber, Pool]) -> None:
        self._pools = pools

    @classmethod
    async def open(cls, dsns: Sequence[str], size: int, settings: Mapping[str, str]) -> "Shards":
        return cls({ShardNumber(n): await open_pool(dsn, size, settings) for n, dsn in enumerate(dsns)})

    @property
    def numbers(self) -> Sequence[ShardNumber]:
        return tuple(self._pools)

    def pool(self, shard: ShardNumber) -> Pool:
        return self._pools[shard]

    async def fetch(self, shard: ShardNumber, statement: str, *values: Any) -> list[asyncpg.Record]:
        """Raises ``errors.Unavailable`` when the database is away, full, or refuses to write."""
        async with self.connection(shard) as connection:
            return await connection.fetch(statement, *values)

    @asynccontextmanager
    async def connection(self, shard: ShardNumber) -> AsyncIterator[PoolConnection]:
        try:
            async with self._pools[shard].acquire() as connection:
                yield connection
        except AWAY as fault:
            raise Unavailable(f"shard {shard}: {type(fault).__name__}") from fault

    async def close(self) -> None:
        for pool in self._pools.values():
            pool.terminate()


class DurableCommit:
    """A fetch on a connection that notices when its commit was not replicated as it should have been.

    PostgreSQL says so only in a warning (01000, "canceling wait for synchronous replication"), and the row is visible
    to everybody all the same; without this, an answer would promise what one broken disk can take back.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def fetch(self, statement: str, *values: Any) -> list[asyncpg.Record]:
        """Raises CancelledWait. The connection is used for one statement, which is one transaction."""
        warned = list[str]()

        def listen(_: Any, message: asyncpg.PostgresLogMessage) -> None:
            if message.sqlstate == "01000":
                warned.append(str(message))

        async with self._pool.acquire() as connection:
            connection.add_log_listener(listen)
            try:
                rows = await connection.fetch(statement, *values)
            finally:
                connection.remove_log_listener(listen)
        if warned:
            raise CancelledWait(warned[0])
        return rows

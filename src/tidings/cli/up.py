"""``tidings up``: the whole system in one command, supervised.

PostgreSQL, Valkey, Kafka if wanted → schema → first key and routes → sandbox → API, workers, relay. Stopped in the
opposite order.
"""

import asyncio
import os
import secrets
import shutil
import signal
import sys
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Final

import msgspec
import psutil
import typer

from tidings.cli.app import Config, DataDir, Failed, Json
from tidings.cli.parts import (
    LOOPBACK,
    TIDINGS,
    Roles,
    is_free,
    kafka_part,
    ops_url,
    postgres_part,
    prepared_kafka,
    run_once,
    valkey_part,
)
from tidings.embedded import postgres
from tidings.embedded.account import CannotRun
from tidings.embedded.valkey import Valkey
from tidings.runtime import rundir
from tidings.runtime.child import Program
from tidings.runtime.ports import free_port
from tidings.runtime.supervisor import Part, PartFailed, Patience, Supervisor
from tidings.runtime.telemetry import Telemetry
from tidings.sandbox.registry import STAND_INS, scheme_of
from tidings.settings import current, environment_of, pairs

SANDBOX_SETTLE_S: Final = 30.0
CONTROL: Final = "control"
FOUND: Final = (
    *("control_dsn", "shard_dsns", "valkey_url", "hints", "kafka.servers"),
    *("sandbox_url", "sandbox_providers", "public_url", "api.port"),
)
"""What other commands on the same data directory need to know of this run."""


_NO_SANDBOX: Final = (
    "  providers      nothing is sent without an account: docs/how-to/add-a-provider.md, or --sandbox to try it\n"
)


class Options(msgspec.Struct, frozen=True):
    """What ``up`` was asked for, beside settings."""

    workers: int = 1
    sandbox: bool = False
    demo: bool = False
    kafka: bool = False
    json: bool = False
    command: Sequence[str] = TIDINGS


def up(
    data_dir: DataDir = None,
    port: Annotated[int | None, typer.Option(help="The API's port; 0 picks a free one.", show_default="8080")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Worker processes.")] = 1,
    sandbox: Annotated[bool, typer.Option("--sandbox", help="Send to stand-ins of the providers.")] = False,
    demo: Annotated[bool, typer.Option("--demo", help="Send a few notifications and show them arrive.")] = False,
    kafka: Annotated[bool, typer.Option("--kafka", help="Hints by a real Kafka; wants Java and Maven.")] = False,
    json: Json = False,
    config: Config = None,
) -> None:
    """The whole system on this machine: database, Valkey, API, workers, relay."""
    flags = {"data_dir": data_dir and str(data_dir), "config": config and str(config), "api.port": port}
    run(Options(workers, sandbox, demo, kafka, json), flags)


def run(options: Options, flags: dict[str, Any]) -> None:
    """Until SIGTERM or Ctrl-C; a second one does not wait for anybody. Raises Failed and AlreadyRunning."""
    data_dir = current(flags).data_dir
    with rundir.held(data_dir):
        rundir.forget(data_dir)
        try:
            asyncio.run(System(options, flags).run())
        except (CannotRun, PartFailed) as fault:
            raise Failed(str(fault)) from fault
        finally:
            rundir.forget(data_dir)
            shutil.rmtree(postgres.socket_path(postgres.files(data_dir)), ignore_errors=True)


class System:
    """One run. What it finds out, such as ports, becomes flags, and so the settings of its children."""

    def __init__(self, options: Options, flags: dict[str, Any]) -> None:
        self._options = options
        self._flags = flags
        self._settings = current(flags)
        times = self._settings.up
        patience = Patience(times.ready_timeout_s, times.restart_first_s, times.restart_most_s)
        emit = Telemetry("up", self._settings.log.level).emit
        self._supervisor = Supervisor(patience, emit, self._note)
        self._ready = self._leaving = False

    async def run(self) -> None:
        self._obey_signals()
        try:
            async with self._supervisor:
                await self._databases()
                self._insist()
                self._addresses()
                await self._start_roles()
                self._insist()
                self._ready = True
                await self._show()
                self._insist()
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            if not self._leaving:
                raise

    def _insist(self) -> None:
        """A cancellation that met the end of what it cancelled may have been swallowed on the way, by ``wait_for`` for
        one: then nobody else would remember that we were told to leave."""
        if self._leaving:
            raise asyncio.CancelledError

    def _obey_signals(self) -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()

        def leave() -> None:
            if self._leaving or task is None:
                self._supervisor.kill()
            else:
                self._leaving = True
                task.cancel()

        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, leave)

    def _learn(self, **found: Any) -> None:
        """Names have ``__`` where keys have a dot."""
        self._flags |= {name.replace("__", "."): value for name, value in found.items()}
        self._settings = current(self._flags)

    def _is_default(self, key: str) -> bool:
        return key not in self._settings.sources

    async def _databases(self) -> None:
        """Our own, unless the settings name others."""
        data_dir, times, stage = self._settings.data_dir, self._settings.up, list[Part]()
        server = valkey = None
        if self._is_default("control_dsn"):
            server = await asyncio.to_thread(postgres.prepare, data_dir)
            stage.append(postgres_part(server, data_dir, times))
        if self._is_default("valkey_url"):
            valkey = Valkey(postgres.sockets_for(data_dir))
            stage.append(valkey_part(valkey, data_dir, times))
        if self._options.kafka:
            stage.append(await self._kafka())
        await self._supervisor.start(stage)
        if valkey is not None:
            self._learn(valkey_url=valkey.url)
        if server is not None:
            shards = [f"shard_{n}" for n in range(times.shards)]
            await server.create_databases([CONTROL, *shards])
            self._learn(control_dsn=server.dsn(CONTROL), shard_dsns=[server.dsn(name) for name in shards])

    async def _kafka(self) -> Part:
        """A broker of our own, which hints go by unless the settings say otherwise."""
        if not self._is_default("kafka.servers"):
            raise Failed("--kafka starts a broker, but kafka.servers names others: leave one of the two out")
        server = await prepared_kafka(self._settings.data_dir)
        self._learn(kafka__servers=server.servers)
        if self._is_default("hints"):
            self._learn(hints="kafka")
        return kafka_part(server, self._settings.data_dir, self._settings.up)

    def _addresses(self) -> None:
        """The ports of this run, the same for all its restarts; and the key that wraps the others."""
        port = self._settings.api.port or free_port()
        if not is_free(port):
            raise Failed(f"port {port} is taken: choose another with --port, or --port 0 for any")
        self._learn(api__port=port)
        if self._is_default("public_url"):
            self._learn(public_url=self._url)
        if self._options.sandbox:
            self._sandbox_addresses()
        if self._is_default("master_key"):
            rundir.write_private(self._settings.data_dir / rundir.MASTER_KEY, secrets.token_hex(32))
            self._learn()

    def _sandbox_addresses(self) -> None:
        self._learn(
            sandbox_url=f"http://{LOOPBACK}:{free_port()}",
            sandbox_providers=[f"{name}={scheme_of(name)}://{LOOPBACK}:{free_port()}" for name in STAND_INS],
        )
        if self._is_default("doubt.settle_s"):
            self._learn(doubt__settle_s=SANDBOX_SETTLE_S)

    async def _start_roles(self) -> None:
        """Schema first, then what has to be in it, then those who work with it."""
        roles = self._roles()
        await run_once(roles.program("migrate"))
        await run_once(
            msgspec.structs.replace(roles.program("bootstrap"), log=None)
        )  # what it says is for the operator
        if self._options.sandbox:
            await self._supervisor.start([roles.part("sandbox", "sandbox", *self._sandbox_words())])
        workers = [roles.part("worker", "work") for _ in range(self._options.workers)]
        await self._supervisor.start([roles.part("api", "api"), roles.part("relay", "relay"), *workers])

    def _sandbox_words(self) -> Iterator[str]:
        yield from ("--port", _port(self._settings.sandbox_url))
        yield from ("--signing-key", str(self._settings.data_dir / rundir.SANDBOX_KEY))
        for name, url in pairs(self._settings.sandbox_providers).items():
            yield from ("--provider-port", f"{name}={_port(url)}")
        receipts = self._settings.data_dir / rundir.RECEIPTS_URLS
        for word in receipts.read_text().split() if receipts.exists() else ():
            yield from ("--receipts-url", word)

    def _roles(self) -> Roles:
        return Roles(
            command=self._options.command,
            environment=environment_of(self._settings),
            logs=self._settings.data_dir / rundir.LOGS,
            grace_s=self._settings.up.grace_s,
        )

    @property
    def _url(self) -> str:
        return f"http://{self._settings.api.host}:{self._settings.api.port}"

    async def _show(self) -> None:
        """Machines are told before the demonstration, people after it."""
        self._note()
        key = (self._settings.data_dir / rundir.API_KEY).read_text().strip()
        running = self._running()
        if self._options.json:
            fields = ("url", "sandbox_url", "postgres_dsns", "valkey_url", "pids", "ops_urls")
            told = {"api_key": key} | {name: getattr(running, name) for name in fields}
            sys.stdout.write(msgspec.json.encode(told).decode() + "\n")
            sys.stdout.flush()
        if self._options.demo:
            program = self._roles().program("demo", also={"TIDINGS_URL": self._url, "TIDINGS_API_KEY": key})
            await self._demonstrate(msgspec.structs.replace(program, log=None))
        if not self._options.json:
            sys.stdout.write(self._greeting())
            sys.stdout.flush()

    async def _demonstrate(self, program: Program) -> None:
        """One that ends badly is no reason to take the system down, but one to say so."""
        try:
            await run_once(program)
        except Failed:
            again = f"`tidings demo --data-dir {self._settings.data_dir}` shows why"
            sys.stderr.write(f"tidings: the demonstration did not end well; {again}\n")

    def _greeting(self) -> str:
        data_dir, sandbox = self._settings.data_dir, self._settings.sandbox_url
        return (
            f"\nTidings is running. Ctrl-C stops it.\n  API            {self._url}/api/v1\n"
            f"  documentation  {self._url}/docs\n"
            + (f"  sandbox        {sandbox}/\n" if sandbox else _NO_SANDBOX)
            + f"  key            {data_dir / rundir.API_KEY}\n  logs           {data_dir / rundir.LOGS}\n"
        )

    def _note(self) -> None:
        """Rewrites run.json; called whenever a child was replaced."""
        if self._ready:
            rundir.note(self._settings.data_dir, self._running())

    def _running(self) -> rundir.Running:
        settings, children = self._settings, self._supervisor.children()
        urls = {name: tuple(filter(None, (ops_url(one) for _, one in found))) for name, found in children.items()}
        return rundir.Running(
            pid=os.getpid(),
            started_at=psutil.Process().create_time(),
            url=self._url,
            sandbox_url=settings.sandbox_url or None,
            postgres_dsns=tuple(map(str, (settings.control_dsn, *settings.shard_dsns))),
            valkey_url=str(settings.valkey_url),
            pids={name: tuple(pid for pid, _ in found) for name, found in children.items()},
            ops_urls={name: found for name, found in urls.items() if found},
            settings={key: self._flags[key] for key in FOUND if key in self._flags},
        )


def _port(url: str) -> str:
    return url.rpartition(":")[2]

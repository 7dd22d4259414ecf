"""The roles of a fleet: ``api``, ``work``, ``relay``, ``sandbox``. One process each, all told by settings."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
import uvicorn
import uvloop

from tidings import wiring
from tidings.cli.app import Config, Unreachable
from tidings.domain.events import Started, Stopping
from tidings.runtime.ops import Check, Ops
from tidings.runtime.telemetry import Telemetry, failure
from tidings.sandbox.app import SandboxConfig
from tidings.sandbox.app import run as run_sandbox
from tidings.settings import Settings, current

OpsPort = Annotated[int | None, typer.Option("--ops-port", help="/healthz, /readyz, /metrics; 0 picks a free one.")]
Role = Callable[[Settings, Telemetry, asyncio.Event], Awaitable[None]]


def api(
    config: Config = None,
    host: Annotated[str | None, typer.Option(help="Where to listen.")] = None,
    port: Annotated[int | None, typer.Option(help="0 picks a free one.")] = None,
    ops_port: OpsPort = None,
) -> None:
    """Serve the HTTP API."""
    _run("api", _api, {"config": config, "api.host": host, "api.port": port, "ops.port": ops_port})


def work(
    config: Config = None,
    lanes: Annotated[str | None, typer.Option(help="Such as email.transactional,email.promotional.")] = None,
    ops_port: OpsPort = None,
) -> None:
    """Deliver what is due."""
    _run("work", _work, {"config": config, "worker.lanes": lanes, "ops.port": ops_port})


def relay(config: Config = None, ops_port: OpsPort = None) -> None:
    """Resolve doubts and keep the tables in shape."""
    _run("relay", _relay, {"config": config, "ops.port": ops_port})


def sandbox(
    config: Config = None,
    port: Annotated[int, typer.Option(help="The page and the control API; 0 picks a free one.")] = 0,
    provider_port: Annotated[list[str] | None, typer.Option(help="A listener of its own: sendgrid=9001.")] = None,
    receipts_url: Annotated[list[str] | None, typer.Option(help="Where webhooks go: sendgrid=http://…")] = None,
    signing_key: Annotated[Path | None, typer.Option(help="Kept here, made when absent.")] = None,
    lean: Annotated[bool, typer.Option("--lean", help="Keep counts and references only.")] = False,
    ops_port: OpsPort = None,
) -> None:
    """Stand in for every provider."""
    sandbox_config = SandboxConfig(
        port=port,
        provider_ports={name: int(number) for name, number in _pairs(provider_port)},
        receipts_urls=dict(_pairs(receipts_url)),
        signing_key_file=signing_key,
        lean=lean,
    )

    async def serve(settings: Settings, telemetry: Telemetry, stop: asyncio.Event) -> None:
        async with _ops(settings, telemetry, {}):
            await run_sandbox(sandbox_config, stop)

    _run("sandbox", serve, {"config": config, "ops.port": ops_port})


def _pairs(words: list[str] | None) -> Iterator[tuple[str, str]]:
    for word in words or ():
        name, separator, value = word.partition("=")
        if not separator:
            raise typer.BadParameter(f"{word!r} is not of the form name=value")
        yield name, value


def _run(role: str, serve: Role, flags: Mapping[str, Any]) -> None:
    settings = current(dict(flags))
    telemetry = Telemetry(role, settings.log.level)
    telemetry.capture_logging()
    uvloop.run(_until_signalled(role, serve, settings, telemetry))


async def _until_signalled(role: str, serve: Role, settings: Settings, telemetry: Telemetry) -> None:
    stop = asyncio.Event()

    def leave() -> None:
        telemetry.emit(Stopping(role))
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, leave)
    telemetry.emit(Started(role, os.getpid()))
    try:
        await serve(settings, telemetry, stop)
    except OSError as fault:
        telemetry.emit(failure(role, fault))
        raise Unreachable(f"{role}: {fault}") from fault


class _Server(uvicorn.Server):
    """Leaves signals to us: after its own end there are commits to wait for."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _api(settings: Settings, telemetry: Telemetry, stop: asyncio.Event) -> None:
    async with wiring.core(settings, telemetry) as core:
        app, accept, shards = await wiring.build_api(core)
        config = uvicorn.Config(
            app,
            host=settings.api.host,
            port=settings.api.port,
            http="httptools",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=int(settings.worker.drain_s),
        )
        server = _Server(config)
        async with _ops(settings, telemetry, wiring.checks(shards)), asyncio.TaskGroup() as group:
            serving = group.create_task(server.serve())
            group.create_task(_exit_on(stop, server, serving))
        await accept.drain()


async def _exit_on(stop: asyncio.Event, server: uvicorn.Server, serving: "asyncio.Task[None]") -> None:
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({stopping, serving}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    server.should_exit = True


async def _work(settings: Settings, telemetry: Telemetry, stop: asyncio.Event) -> None:
    async with wiring.core(settings, telemetry, listen=True) as core:
        worker, shards = await wiring.build_worker(core)
        async with _ops(settings, telemetry, wiring.checks(shards)):
            await worker.run(stop)


async def _relay(settings: Settings, telemetry: Telemetry, stop: asyncio.Event) -> None:
    async with wiring.core(settings, telemetry, listen=True) as core:
        relay_, shards = await wiring.build_relay(core)
        async with _ops(settings, telemetry, wiring.checks(shards)):
            await relay_.run(stop)


@asynccontextmanager
async def _ops(settings: Settings, telemetry: Telemetry, checks: Mapping[str, Check]) -> AsyncIterator[None]:
    ops = Ops(checks, telemetry.exposition, settings.ops.ready_timeout_s)
    server = await ops.serve(settings.ops.host, settings.ops.port)
    try:
        yield
    finally:
        server.close()

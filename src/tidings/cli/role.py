"""What all roles of a fleet share: one process each, told by settings, ended by a signal."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Any

import typer
import uvloop

from tidings.cli.app import Unreachable
from tidings.domain.events import Started, Stopping
from tidings.runtime.ops import Check, Ops
from tidings.runtime.telemetry import Telemetry, failure
from tidings.settings import Settings, current

OpsPort = Annotated[int | None, typer.Option("--ops-port", help="/healthz, /readyz, /metrics; 0 picks a free one.")]
Role = Callable[[Settings, Telemetry, asyncio.Event], Awaitable[None]]


def run_role(role: str, serve: Role, flags: Mapping[str, Any]) -> None:
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


@asynccontextmanager
async def serving_ops(settings: Settings, telemetry: Telemetry, checks: Mapping[str, Check]) -> AsyncIterator[None]:
    ops = Ops(checks, telemetry.exposition, settings.ops.ready_timeout_s)
    server = await ops.serve(settings.ops.host, settings.ops.port)
    try:
        yield
    finally:
        server.close()

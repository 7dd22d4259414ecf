"""What all roles of a fleet share: one process each, told by settings, ended by a signal."""

import asyncio
import gc
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import msgspec
import typer
import uvloop

from tidings.cli.app import Unreachable
from tidings.domain.events import Started, Stopping
from tidings.runtime.ops import Check, Ops, port_of
from tidings.runtime.telemetry import Telemetry, failure
from tidings.settings import Settings, current

OpsPort = Annotated[int | None, typer.Option("--ops-port", help="/healthz, /readyz, /metrics; 0 picks a free one.")]
Role = Callable[[Settings, Telemetry, asyncio.Event], Awaitable[None]]

_COLLECT_AFTER: Final = 20_000
"""Containers made and not yet gone."""


def run_role(role: str, serve: Role, flags: Mapping[str, Any]) -> None:
    settings = current(dict(flags))
    telemetry = Telemetry(role, settings.log.level)
    telemetry.capture_logging()
    _collect_rarely()
    uvloop.run(_until_signalled(role, serve, settings, telemetry))


def _collect_rarely() -> None:
    """What the imports made stays for good, and nearly all of the rest goes by reference count: the collector looks
    for cycles among what is new, and not again and again through everything."""
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER, 20, 50)


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
async def serving_ops(
    settings: Settings, telemetry: Telemetry, checks: Mapping[str, Check], warnings: Callable[[], Sequence[str]] = tuple
) -> AsyncIterator[None]:
    ops = Ops(checks, telemetry.exposition, settings.ops.ready_timeout_s, warnings)
    server = await ops.serve(settings.ops.host, settings.ops.port)
    announce("ops", http(settings.ops.host, port_of(server)))
    try:
        yield
    finally:
        server.close()


def announce(what: str, url: str) -> None:
    """One more line of the log, with what nobody could know before: the port that was free."""
    at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    line = {"at": at, "event": "Listening", "level": "info", "what": what, "url": url}
    sys.stderr.write(msgspec.json.encode(line).decode() + "\n")
    sys.stderr.flush()


def http(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

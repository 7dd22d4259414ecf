"""``tidings api``: the HTTP edge."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
import uvicorn

from tidings.cli.app import Config
from tidings.cli.role import OpsPort, announce, http, run_role, serving_ops
from tidings.runtime.http import BoundedProtocol
from tidings.runtime.telemetry import Telemetry
from tidings.settings import Settings
from tidings.wiring.api import build_api
from tidings.wiring.core import checks, core


def api(
    config: Config = None,
    host: Annotated[str | None, typer.Option(help="Where to listen.")] = None,
    port: Annotated[int | None, typer.Option(help="0 picks a free one.")] = None,
    ops_port: OpsPort = None,
) -> None:
    """Serve the HTTP API."""
    run_role("api", _api, {"config": config, "api.host": host, "api.port": port, "ops.port": ops_port})


class _Server(uvicorn.Server):
    """Leaves signals to us: after its own end there are commits to wait for. Says where it listens."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for server in self.servers:
            announce("api", http(self.config.host, server.sockets[0].getsockname()[1]))

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _api(settings: Settings, telemetry: Telemetry, stop: asyncio.Event) -> None:
    async with core(settings, telemetry) as parts:
        app, accept, shards = await build_api(parts)
        config = uvicorn.Config(
            app,
            host=settings.api.host,
            port=settings.api.port,
            http=BoundedProtocol,
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=int(settings.worker.drain_s),
        )
        server = _Server(config)
        async with (
            serving_ops(settings, telemetry, checks(shards), parts.presence.warnings),
            asyncio.TaskGroup() as group,
        ):
            serving = group.create_task(server.serve())
            group.create_task(_exit_on(stop, server, serving))
        await accept.drain()


async def _exit_on(stop: asyncio.Event, server: uvicorn.Server, serving: "asyncio.Task[None]") -> None:
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({stopping, serving}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    server.should_exit = True

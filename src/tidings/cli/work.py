"""``tidings work``: delivers what is due."""

import asyncio
from typing import Annotated

import typer

from tidings.cli.app import Config
from tidings.cli.role import OpsPort, run_role, serving_ops
from tidings.runtime.telemetry import Telemetry
from tidings.settings import Settings, SettingsError
from tidings.wiring.core import checks, core
from tidings.wiring.worker import build_worker, lanes_of


def work(
    config: Config = None,
    lanes: Annotated[str | None, typer.Option(help="Such as email.transactional,email.promotional.")] = None,
    ops_port: OpsPort = None,
) -> None:
    """Deliver what is due."""
    run_role("work", _work, {"config": config, "worker.lanes": lanes, "ops.port": ops_port})


async def _work(settings: Settings, telemetry: Telemetry, stop: asyncio.Event) -> None:
    try:
        lanes = lanes_of(settings.worker.lanes)
    except ValueError as fault:
        raise SettingsError(f"worker.lanes: {fault}") from fault
    async with core(settings, telemetry, lanes) as parts:
        worker, shards = await build_worker(parts)
        async with serving_ops(settings, telemetry, checks(shards), parts.presence.warnings):
            await worker.run(stop)

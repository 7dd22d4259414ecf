"""``tidings relay``: doubts, and the passes that keep the tables in shape."""

import asyncio
from collections.abc import Sequence

from tidings.cli.app import Config
from tidings.cli.role import OpsPort, run_role, serving_ops
from tidings.domain.lanes import IN_DOUBT
from tidings.runtime.telemetry import Telemetry
from tidings.settings import Settings
from tidings.wiring.core import checks, core
from tidings.wiring.relay import build_relay


def relay(config: Config = None, ops_port: OpsPort = None) -> None:
    """Resolve doubts and keep the tables in shape."""
    run_role("relay", _relay, {"config": config, "ops.port": ops_port})


async def _relay(settings: Settings, telemetry: Telemetry, stop: asyncio.Event) -> None:
    async with core(settings, telemetry, [IN_DOUBT]) as parts:
        relay_, shards = await build_relay(parts)

        def warnings() -> Sequence[str]:
            return [*parts.presence.warnings(), *relay_.lookout.warnings()]

        async with serving_ops(settings, telemetry, checks(shards), warnings):
            await relay_.run(stop)

"""``tidings status``: the running system on one screen."""

import asyncio
import sys
from typing import Annotated, Final

import msgspec
import typer
from rich.console import Console
from rich.live import Live

from tidings.cli.app import Config, DataDir, Json, Unreachable
from tidings.cli.databases import named
from tidings.cli.screen import screen
from tidings.domain.overview import Overview, attention
from tidings.settings import Settings
from tidings.wiring.overview import looking

_EVERY_S: Final = 1.0


def status(
    once: Annotated[bool, typer.Option("--once", help="Print it and leave; so it does where there is no terminal.")] = (
        False
    ),
    data_dir: DataDir = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Show the running system on one screen: what needs attention, rates, lanes, providers, doubt, dead letters."""
    settings = named(data_dir, config)
    if not once and not json and sys.stdout.isatty():
        _watch(settings)
        return
    seen = asyncio.run(_once(settings))
    wants = attention(seen, settings.doubt.settle_s)
    if json:
        typer.echo(msgspec.json.encode({"attention": wants, **msgspec.structs.asdict(seen)}))
    else:
        Console().print(screen(seen, wants))
    if all(one.fault for one in seen.shards):
        raise Unreachable("no shard answers; `tidings doctor` says from where")


def _watch(settings: Settings) -> None:
    """Until Ctrl-C, which is how everybody leaves."""
    try:
        asyncio.run(_live(settings))
    except KeyboardInterrupt:
        return


async def _live(settings: Settings) -> None:
    console = Console()
    async with looking(settings) as eyes:
        seen = await eyes.look()
        with Live(console=console, screen=True, auto_refresh=False) as live:
            while True:
                wants = attention(seen, settings.doubt.settle_s)
                live.update(screen(seen, wants, console.height), refresh=True)
                await asyncio.sleep(_EVERY_S)
                seen = await eyes.look()


async def _once(settings: Settings) -> Overview:
    """Two looks: one alone knows no rates."""
    async with looking(settings) as eyes:
        await eyes.look()
        await asyncio.sleep(_EVERY_S)
        return await eyes.look()

"""``tidings rollouts``: for how many users each channel is on."""

import asyncio
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from tidings.cli.app import DataDir, Json
from tidings.cli.client import client

rollouts = typer.Typer(help="For how many users each channel is on.", no_args_is_help=True)


@rollouts.command("list")
def list_(data_dir: DataDir = None, json: Json = False) -> None:
    """Every channel, and the share of users whom it reaches."""
    found = asyncio.run(_call("GET", "/rollouts", None, data_dir))
    if json:
        typer.echo(msgspec.json.encode(found))
        return
    table = Table("channel", "users")
    for one in found["items"]:
        table.add_row(one["channel"], f"{one['percent']:g} %")
    Console().print(table)


@rollouts.command("set")
def set_(
    channel: Annotated[str, typer.Argument(help="Such as whatsapp.")],
    percent: Annotated[float, typer.Argument(min=0, max=100, help="A larger share takes nobody out.")],
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Open a channel to a share of the users."""
    done = asyncio.run(_call("PUT", f"/rollouts/{channel}", {"percent": percent}, data_dir))
    typer.echo(msgspec.json.encode(done) if json else f"{done['channel']} is on for {done['percent']:g} % of the users")


async def _call(method: str, path: str, body: dict[str, Any] | None, data_dir: DataDir) -> Any:
    async with client(data_dir) as api:
        return await api.call(method, path, body)

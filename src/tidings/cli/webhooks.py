"""``tidings webhooks``: where the events of a tenant go."""

import asyncio
from typing import Annotated, Any
from urllib.parse import quote

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from tidings.cli.app import DataDir, Failed, Json
from tidings.cli.client import client

webhooks = typer.Typer(help="Systems of your own that are told what becomes of deliveries.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="What you call it.")]


@webhooks.command("list")
def list_(data_dir: DataDir = None, json: Json = False) -> None:
    """All of them, and how they are doing."""
    found = asyncio.run(_call("GET", "/webhooks", None, data_dir))
    if json:
        typer.echo(msgspec.json.encode(found))
        return
    table = Table("name", "url", "events", "state", "since")
    for one in found["items"]:
        table.add_row(one["name"], one["url"], _events(one["events"]), *_state(one))
    Console().print(table)


@webhooks.command()
def put(
    name: Name,
    url: Annotated[str, typer.Argument(help="Where its events go.")],
    event: Annotated[list[str] | None, typer.Option(help="Such as delivery.dead; none: all of them.")] = None,
    rotate: Annotated[bool, typer.Option("--rotate", help="Make a new secret; the old one counts for a day.")] = False,
    disable: Annotated[bool, typer.Option("--disable", help="Tell it nothing, until the next put.")] = False,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Make it, or change it; one that was disabled is enabled again. A new secret is shown this once."""
    body = {"url": url, "events": event or None, "enabled": not disable, "rotate_secret": rotate}
    put_ = asyncio.run(_call("PUT", _path(name), body, data_dir))
    if json:
        typer.echo(msgspec.json.encode(put_))
    else:
        typer.echo(put_["secret"] or f"{name} is {_state(put_)[0]}")


@webhooks.command()
def delete(name: Name, data_dir: DataDir = None) -> None:
    """Forget it. What it was not told yet, it never will be."""
    asyncio.run(_call("DELETE", _path(name), None, data_dir))


@webhooks.command()
def test(name: Name, data_dir: DataDir = None, json: Json = False) -> None:
    """Tell it a webhook.test, and say how it answers."""
    said = asyncio.run(_call("POST", f"{_path(name)}/test", {}, data_dir))
    typer.echo(msgspec.json.encode(said) if json else said["code"])
    if not said["told"]:
        raise Failed(f"{name} was not told: {said['code']}")


def _state(one: dict[str, Any]) -> tuple[str, str]:
    if not one["enabled"]:
        return f"disabled: {one['disabled_because']}", one["disabled_at"]
    if one["failing"]:
        return f"failing: {one['failing']['code']}", one["failing"]["since"]
    return "enabled", ""


def _events(names: list[str]) -> str:
    return ", ".join(name.removeprefix("delivery.") for name in names)


def _path(name: str) -> str:
    return f"/webhooks/{quote(name, safe='')}"


async def _call(method: str, path: str, body: dict[str, Any] | None, data_dir: DataDir) -> Any:
    async with client(data_dir) as api:
        return await api.call(method, path, body)

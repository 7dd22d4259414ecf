"""``tidings suppressions``: addresses to which nothing more goes, and why."""

import asyncio
import sys
from collections.abc import Sequence
from typing import Annotated, Any
from urllib.parse import quote

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from tidings.cli.app import DataDir, Failed, Json
from tidings.cli.client import Client, client

suppressions = typer.Typer(help="Addresses to which nothing more goes, and why.", no_args_is_help=True)

Channel = Annotated[str, typer.Argument(help="Such as email, sms.")]
Address = Annotated[str, typer.Argument(help="Such as ada@example.com.")]
Addresses = Annotated[list[str], typer.Argument(help="Such as ada@example.com; - reads them from stdin, one a line.")]
_PAGE = 200
_AT_ONCE = 8


@suppressions.command()
def show(channel: Channel, address: Address, data_dir: DataDir = None, json: Json = False) -> None:
    """What is held against an address. Fails where nothing is."""
    found = asyncio.run(_one("GET", channel, address, data_dir))
    if json:
        typer.echo(msgspec.json.encode(found))
        return
    table = Table("reason", "at", "delivery")
    for one in found["reasons"]:
        table.add_row(one["reason"], one["at"], one["delivery"] or "")
    Console().print(table)


@suppressions.command()
def add(
    channel: Channel,
    addresses: Addresses,
    reason: Annotated[str, typer.Option(help="Or hard_bounce, complaint, stop, unsubscribe.")] = "manual",
    data_dir: DataDir = None,
) -> None:
    """Hold something against addresses. Safe to repeat."""
    wanted = list(dict.fromkeys(_read(addresses)))
    asyncio.run(_each("PUT", channel, wanted, {"reason": reason}, data_dir))
    typer.echo(f"{len(wanted)} on the list")


@suppressions.command()
def remove(channel: Channel, addresses: Addresses, data_dir: DataDir = None) -> None:
    """Lift all that is held against addresses. The provider may keep a list of its own."""
    wanted = list(dict.fromkeys(_read(addresses)))
    asyncio.run(_each("DELETE", channel, wanted, None, data_dir))
    typer.echo(f"{len(wanted)} lifted")


@suppressions.command("list")
def list_(
    channel: Annotated[str | None, typer.Option(help="Of this channel only.")] = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """All of them; addresses are kept as hashes, so a delivery is what leads to one."""
    found = asyncio.run(_all(channel, data_dir))
    if json:
        typer.echo(msgspec.json.encode({"items": found, "next": None}))
        return
    table = Table("channel", "hash", "reason", "at", "delivery")
    for one in found:
        table.add_row(one["channel"], one["hash"], one["reason"], one["at"], one["delivery"] or "")
    Console().print(table)


def _read(addresses: Sequence[str]) -> Sequence[str]:
    if addresses != ["-"]:
        return addresses
    return [line.strip() for line in sys.stdin if line.strip()]


def _path(channel: str, address: str) -> str:
    return f"/suppressions/{quote(channel, safe='')}/{quote(address, safe='')}"


async def _one(method: str, channel: str, address: str, data_dir: DataDir) -> Any:
    async with client(data_dir) as api:
        return await api.call(method, _path(channel, address))


async def _each(
    method: str, channel: str, addresses: Sequence[str], body: dict[str, str] | None, data_dir: DataDir
) -> None:
    """A few at once; the first that fails ends it, and says which it was."""
    waiting = iter(addresses)

    async def some(api: Client) -> None:
        for address in waiting:
            try:
                await api.call(method, _path(channel, address), body)
            except Failed as fault:
                raise type(fault)(f"{address}: {fault}") from fault

    async with client(data_dir) as api:
        await asyncio.gather(*(some(api) for _ in range(_AT_ONCE)))


async def _all(channel: str | None, data_dir: DataDir) -> list[dict[str, Any]]:
    found, query = list[dict[str, Any]](), f"?limit={_PAGE}" + (f"&channel={quote(channel)}" if channel else "")
    async with client(data_dir) as api:
        page = await api.call("GET", f"/suppressions{query}")
        found += page["items"]
        while page["next"]:
            page = await api.call("GET", f"/suppressions{query}&after={page['next']}")
            found += page["items"]
    return found

"""``tidings providers`` and ``tidings breakers``: how accounts at providers are, and what an operator wants of them."""

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any, Final
from urllib.parse import quote

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from tidings.cli.app import DataDir, Failed, Json
from tidings.cli.client import client

_SIDE_BY_SIDE: Final = 8
providers = typer.Typer(help="Accounts at providers, and what is wanted of them.", no_args_is_help=True)

Account = Annotated[str, typer.Argument(help="The name that `list` shows.")]


@providers.command("list")
def list_(data_dir: DataDir = None, json: Json = False) -> None:
    """All accounts, and how they are."""
    found = _found(data_dir)
    if json:
        typer.echo(msgspec.json.encode(found))
        return
    table = Table("name", "kind", "channel", "state", "price", "breaker", "since", "why", "rests until")
    for one in found["items"]:
        told = (one[field] or "" for field in ("since", "why", "rests_until"))
        named = (one[field] for field in ("name", "kind", "channel", "state"))
        table.add_row(*named, _price(one), one["breaker"], *told)
    Console().print(table)


@providers.command()
def pause(name: Account, data_dir: DataDir = None, json: Json = False) -> None:
    """Give it no calls: what is due goes to the next account of its route, or waits."""
    _set(name, "paused", data_dir, json)


@providers.command()
def force(name: Account, data_dir: DataDir = None, json: Json = False) -> None:
    """Use it whatever its breaker says."""
    _set(name, "forced", data_dir, json)


@providers.command()
def resume(name: Account, data_dir: DataDir = None, json: Json = False) -> None:
    """Leave it to its breaker again."""
    _set(name, "auto", data_dir, json)


@providers.command()
def check(
    name: Annotated[str | None, typer.Argument(help="One of them; all when left out.")] = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Try their credentials by a harmless call. Nothing is sent."""
    tried = asyncio.run(_checked([name] if name else None, data_dir))
    if json:
        typer.echo(msgspec.json.encode({"items": tried}))
    else:
        for one in tried:
            typer.echo(f"{one['name']} {'can send' if one['ok'] else 'cannot send: ' + one['detail']}")
    if bad := [one["name"] for one in tried if not one["ok"]]:
        raise Failed(f"something is wrong with {', '.join(bad)}")


def breakers(data_dir: DataDir = None, json: Json = False) -> None:
    """Which breakers are open, why and since when."""
    fields = ("name", "channel", "state", "breaker", "workers_open", "why", "since", "rests_until")
    rows = [{field: one[field] for field in fields} for one in _found(data_dir)["items"]]
    if json:
        typer.echo(msgspec.json.encode({"items": rows}))
        return
    table = Table("name", "channel", "state", "breaker", "workers", "why", "since", "rests until")
    for row in rows:
        table.add_row(*("" if value is None else str(value) for value in row.values()))
    Console().print(table)


def _price(one: dict[str, Any]) -> str:
    """Of one unit."""
    price = one.get("price")
    if not price:
        return ""
    usual = f"{price['usual']} {price['currency']}" if price["usual"] else price["currency"]
    return f"{usual}, {len(price['countries'])} by country" if price["countries"] else usual


def _found(data_dir: DataDir) -> dict[str, Any]:
    return dict(asyncio.run(_call("GET", "/providers", None, data_dir)))


def _set(name: str, state: str, data_dir: DataDir, as_json: bool) -> None:
    done = asyncio.run(_call("PUT", f"/providers/{name}/state", {"state": state}, data_dir))
    typer.echo(msgspec.json.encode(done) if as_json else f"{done['name']} is {done['state']}")


async def _checked(names: Sequence[str] | None, data_dir: DataDir) -> list[dict[str, Any]]:
    """Side by side; of all accounts where no names are given."""
    async with client(data_dir) as api:
        turns = asyncio.Semaphore(_SIDE_BY_SIDE)

        async def one(name: str) -> dict[str, Any]:
            async with turns:
                return {"name": name, **await api.call("POST", f"/providers/{quote(name, safe='')}/check")}

        if names is None:
            names = [account["name"] for account in (await api.call("GET", "/providers"))["items"]]
        return list(await asyncio.gather(*map(one, names)))


async def _call(method: str, path: str, body: dict[str, Any] | None, data_dir: DataDir) -> Any:
    async with client(data_dir) as api:
        return await api.call(method, path, body)

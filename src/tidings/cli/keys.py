"""``tidings keys``: who may call the API. Works on the control database, so it needs no key itself."""

import asyncio
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from tidings.cli.app import Config, DataDir, Failed, Json
from tidings.cli.databases import named
from tidings.settings import Settings
from tidings.storage.control import ALL_SCOPES
from tidings.wiring.commands import control_of

keys = typer.Typer(help="Who may call the API.", no_args_is_help=True)

Tenant = Annotated[str, typer.Option(help="Whose key.")]


@keys.command("list")
def list_(data_dir: DataDir = None, config: Config = None, json: Json = False) -> None:
    """All keys, without their secrets, which nobody has."""
    rows = asyncio.run(_list(named(data_dir, config)))
    if json:
        typer.echo(msgspec.json.encode(rows))
        return
    table = Table("key", "tenant", "name", "scopes", "expires")
    for row in rows:
        table.add_row(
            row["public_id"], row["tenant"], row["name"], ", ".join(row["scopes"]), str(row["expires_at"] or "")
        )
    Console().print(table)


@keys.command()
def create(
    name: Annotated[str, typer.Argument(help="What it is for.")],
    tenant: Tenant = "default",
    test: Annotated[bool, typer.Option("--test", help="Of the tenant's test twin: reaches the sandbox only.")] = False,
    scopes: Annotated[str, typer.Option(help="Of send, read, manage.")] = ",".join(ALL_SCOPES),
    data_dir: DataDir = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Make a key and show it, this once."""
    wanted = [scope.strip() for scope in scopes.split(",")]
    if unknown := set(wanted) - set(ALL_SCOPES):
        raise typer.BadParameter(f"no scope {', '.join(sorted(unknown))}; there are {', '.join(ALL_SCOPES)}")
    whose = f"{tenant} (test)" if test else tenant
    key = asyncio.run(_create(named(data_dir, config), whose, name, wanted))
    typer.echo(msgspec.json.encode({"key": key, "scopes": wanted}) if json else key)


@keys.command()
def revoke(
    key: Annotated[str, typer.Argument(help="The id that `list` shows.")],
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """End a key; every process knows within a second."""
    if not asyncio.run(_revoke(named(data_dir, config), key)):
        raise Failed(f"there is no key {key}")


async def _list(settings: Settings) -> list[dict[str, Any]]:
    async with control_of(settings) as control:
        return [dict(row) for row in await control.list_keys()]


async def _create(settings: Settings, tenant: str, name: str, scopes: list[str]) -> str:
    async with control_of(settings) as control:
        tenants = (await control.catalog()).tenants.values()
        found = next((one.id for one in tenants if one.name == tenant), None)
        if found is None:
            raise Failed(f"there is no tenant {tenant!r}")
        return await control.create_key(found, name, scopes)


async def _revoke(settings: Settings, key: str) -> bool:
    async with control_of(settings) as control:
        return await control.delete_key(key)

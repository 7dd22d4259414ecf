"""``tidings migrate``: the schema of the control database and every shard."""

import asyncio

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from tidings.cli.app import Config, DataDir, Json
from tidings.cli.databases import named
from tidings.wiring.commands import migrate_all


def migrate(data_dir: DataDir = None, config: Config = None, as_json: Json = False) -> None:
    """Apply what is missing. Safe to repeat, and to run from several places at once."""
    applied = asyncio.run(migrate_all(named(data_dir, config)))
    if as_json:
        typer.echo(msgspec.json.encode(applied))
        return
    table = Table("database", "applied")
    for database, names in applied.items():
        table.add_row(database, ", ".join(name.replace("_", " ") for name in names) or "up to date")
    Console().print(table)

"""``tidings doubt``: calls that may have gone, and nobody can tell yet."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from tidings.cli.app import DataDir, Json
from tidings.cli.client import client


def doubt(data_dir: DataDir = None, json: Json = False) -> None:
    """Show how much is in doubt, by channel and provider, the oldest first."""
    found = asyncio.run(_ask(data_dir))
    if json:
        typer.echo(msgspec.json.encode(found))
        return
    table = Table("channel", "provider", "in doubt", "oldest call", "ago")
    for one in found["items"]:
        table.add_row(
            one["channel"], one["provider"] or "gone", str(one["count"]), one["oldest_at"], _ago(one["oldest_at"])
        )
    Console().print(table if found["items"] else "Nothing is in doubt.")


async def _ask(data_dir: DataDir) -> Any:
    async with client(data_dir) as api:
        return await api.call("GET", "/in-doubt")


def _ago(at: str) -> str:
    return f"{max(0.0, (datetime.now(UTC) - datetime.fromisoformat(at)).total_seconds()):.0f} s"

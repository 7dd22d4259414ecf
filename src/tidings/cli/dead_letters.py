"""``tidings dead-letters``: what could not be delivered, and what to do about it."""

import asyncio
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from tidings.cli.app import DataDir, Failed, Json
from tidings.cli.client import client

dead_letters = typer.Typer(help="What could not be delivered, and what to do about it.", no_args_is_help=True)

Ids = Annotated[list[str] | None, typer.Argument(help="Deliveries; none: all that --reason names.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say which.")]
Reason = Annotated[str | None, typer.Option(help="Such as attempts_used, template_error, quarantined.")]


@dead_letters.command("list")
def list_(data_dir: DataDir = None, json: Json = False) -> None:
    """Grouped by cause."""
    found = asyncio.run(_call("GET", "/dead-letters", None, data_dir))
    if json:
        typer.echo(msgspec.json.encode(found))
        return
    table = Table("reason", "channel", "count", "first", "last", "latest delivery")
    for one in found["items"]:
        table.add_row(
            one["reason"], one["channel"], str(one["count"]), one["first_at"], one["last_at"], one["latest"]
        )  # fmt: skip
    Console().print(table)
    if found["items"]:
        typer.echo(
            "`tidings dead-letters replay` and `discard` take a delivery's id; `tidings show` takes a notification's"
        )


@dead_letters.command()
def replay(
    ids: Ids = None, reason: Reason = None, dry_run: DryRun = False, data_dir: DataDir = None, json: Json = False
) -> None:
    """Put them back into their lanes, with a fresh schedule."""
    done = _act("replay", _chosen(ids, reason) | {"dry_run": dry_run}, data_dir)
    _tell(done, "would be replayed" if dry_run else "replayed", json)


@dead_letters.command()
def discard(ids: Ids = None, reason: Reason = None, data_dir: DataDir = None, json: Json = False) -> None:
    """Give them up for good."""
    _tell(_act("discard", _chosen(ids, reason), data_dir), "discarded", json)


def _chosen(ids: list[str] | None, reason: str | None) -> dict[str, Any]:
    if not ids and not reason:
        raise typer.BadParameter("name deliveries, or a --reason")
    return {"ids": ids} if ids else {"reason": reason}


def _act(verb: str, chosen: dict[str, Any], data_dir: DataDir) -> dict[str, Any]:
    return dict(asyncio.run(_call("POST", f"/dead-letters/{verb}", chosen, data_dir)))


def _tell(done: dict[str, Any], what: str, as_json: bool) -> None:
    if as_json:
        typer.echo(msgspec.json.encode(done))
    else:
        typer.echo(f"{len(done['ids'])} {what}" + ("; there are more: call again" if done["more"] else ""))
    if not done["ids"]:
        raise Failed("nothing matched")


async def _call(method: str, path: str, body: dict[str, Any] | None, data_dir: DataDir) -> Any:
    async with client(data_dir) as api:
        return await api.call(method, path, body)

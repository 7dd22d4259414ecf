"""``tidings drill``: providers go away and come back under load, and a table says what happened when."""

import asyncio
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import asyncpg
import msgspec
import typer
from rich.console import Console
from rich.table import Table

from tidings.bench import show
from tidings.bench.drill import story
from tidings.bench.drill.run import Wish
from tidings.bench.drill.run import run as run_drill
from tidings.bench.drill.story import Notes, Promise
from tidings.bench.suite import together
from tidings.cli.app import Failed, Json, Unreachable


def drill(
    rate: Annotated[float, typer.Option(min=1, help="Notifications per second.")] = 40.0,
    outage_s: Annotated[float, typer.Option(min=5, help="How long each outage lasts.")] = 20.0,
    queued: Annotated[int, typer.Option(min=0, help="A second act: so many queued with one provider, down.")] = 2_000,
    drain_per_s: Annotated[float, typer.Option(min=1, help="How fast what waited comes back.")] = 100.0,
    as_json: Json = False,
) -> None:
    """Take providers away under load, on a system of its own, and see what becomes of it."""
    wish = Wish(rate=rate, outage_s=outage_s, queued=queued, drain_per_s=drain_per_s)
    console = Console(stderr=True)
    try:
        with console.status("start") as status:
            notes = asyncio.run(run_drill(wish, status.update))
    except TimeoutError as fault:
        raise Failed("something that should have come never came") from fault
    except (OSError, asyncpg.PostgresError) as fault:
        raise Unreachable(str(fault)) from fault
    promises = story.promises(notes)
    if as_json:
        sys.stdout.write(msgspec.json.encode(_summary(notes, promises)).decode() + "\n")
    else:
        _show(notes, promises)
    broken = [one.what for one in promises if not one.kept]
    if broken:
        if notes.ledger.violations:
            console.print(show.ledger(notes.ledger))
        raise Failed(f"not kept: {'; '.join(broken)}")


def _summary(notes: Notes, promises: Sequence[Promise]) -> dict[str, Any]:
    return {
        "phases": list(story.rows(notes)),
        "turns": notes.turns,
        "promises": promises,
        "ledger": together([notes.ledger]),
    }


def _show(notes: Notes, promises: Sequence[Promise]) -> None:
    console = Console()
    table = Table(title="What happened", title_justify="left", title_style="bold")
    for row in story.rows(notes):
        if not table.columns:
            for name in row:
                table.add_column(name.replace("_", " "), justify="left" if name == "phase" else "right")
        table.add_row(
            *(
                "–" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
                for value in row.values()
            )
        )
    console.print(table)
    kept = Table(title="What was promised", title_justify="left", title_style="bold")
    for name in ("", "promise", "figure"):
        kept.add_column(name)
    for one in promises:
        kept.add_row("[green]kept" if one.kept else "[red]broken", one.what, one.figure)
    console.print(kept)

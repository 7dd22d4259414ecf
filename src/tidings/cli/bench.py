"""Load, figures, and the ledger check."""

import asyncio
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Annotated, Any

import asyncpg
import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tidings.bench import client_ledger, ledger_rows, show, suite, system
from tidings.bench.ledger import Call, Ledgers, Report, Rules, Taken, check
from tidings.bench.scenarios import Say, Wish
from tidings.bench.standin import NoCompiler, StandIn, sandbox_references
from tidings.bench.standin import running as stand_in_running
from tidings.bench.suite import Bench
from tidings.bench.system import Refused, System
from tidings.cli.app import DataDir, Failed, Json, Unreachable
from tidings.cli.databases import named
from tidings.domain.ids import first_at
from tidings.runtime import rundir

Batch = Annotated[int, typer.Option("--batch", min=0, max=1000, help="Notifications per request; 0: one, unwrapped.")]
Repeat = Annotated[int, typer.Option("--repeat", min=1, help="Runs; the figures are their medians.")]
Seconds = Annotated[float, typer.Option("--seconds", min=0.1, help="Load per run.")]
Latency = Annotated[int, typer.Option("--provider-ms", min=0, help="How long the provider takes to answer.")]
Rate = Annotated[float, typer.Option("--rate", min=1, help="Notifications per second, whatever the answers do.")]
Running = Annotated[
    Path | None, typer.Option("--data-dir", help="A system that runs already.", show_default="one of its own")
]

bench = typer.Typer(help="Throughput and latency beside the bare loop; every run ends with the ledger check.")


class Place(msgspec.Struct, frozen=True):
    """Where a bench runs: on a system of its own (``data_dir`` None), or on the one of that directory."""

    data_dir: Path | None = None
    provider_ms: int = 0


@bench.callback(invoke_without_command=True)
def everything(
    context: typer.Context, seconds: Seconds = 5.0, repeat: Repeat = 3, data_dir: Running = None, as_json: Json = False
) -> None:
    """Without a command: all of them, one JSON document a line with --json."""
    if context.invoked_subcommand is None:
        _measure(suite.standard(seconds), repeat, Place(data_dir), as_json)


@bench.command()
def accept(
    batch: Batch = 0, seconds: Seconds = 5.0, repeat: Repeat = 3, data_dir: Running = None, as_json: Json = False
) -> None:
    """Durably accepted per second, with the workers held still; afterwards everything is sent and compared."""
    what = Bench("accept", Wish(seconds=seconds, batch=batch, hold=True), suite.accepting)
    _measure([what], repeat, Place(data_dir), as_json)


@bench.command()
def deliver(
    batch: Batch = 0,
    seconds: Seconds = 10.0,
    repeat: Repeat = 3,
    provider_ms: Latency = 0,
    data_dir: Running = None,
    as_json: Json = False,
) -> None:
    """End to end at full load: from the API call to the provider's ledger."""
    what = Bench("deliver", Wish(seconds=seconds, batch=batch), suite.delivering)
    _measure([what], repeat, Place(data_dir, provider_ms), as_json)


@bench.command()
def latency(
    rate: Rate = suite.EVERYDAY_RATE,
    seconds: Seconds = 10.0,
    repeat: Repeat = 3,
    provider_ms: Latency = 0,
    data_dir: Running = None,
    as_json: Json = False,
) -> None:
    """From when a request was due to its arrival at the provider, at a fixed rate."""
    what = Bench("latency", Wish(seconds=seconds, rate=rate), suite.delivering, against_limit=False)
    _measure([what], repeat, Place(data_dir, provider_ms), as_json)


@bench.command()
def limit(batch: Batch = 100, seconds: Seconds = 5.0, repeat: Repeat = 3, as_json: Json = False) -> None:
    """The bare loop alone: accept, claim, one provider call, finish, and nothing else."""
    parts = suite.limit_parts(seconds, max(1, batch))
    steps = len(parts) * suite.steps_of(repeat, 1)
    with _progress(steps) as say, _opened(Place()) as tidings, suite.bare_beside(tidings) as bare:
        figures = {part.name: suite.run(part, bare, None, repeat, say) for part in parts}
    _show(suite.limit_summary(figures), as_json)
    _insist([report for result in figures.values() for report in result.reports()])


def _measure(benches: Sequence[Bench], repeat: int, place: Place, as_json: bool) -> None:
    steps = sum(suite.steps_of(repeat, 2 if one.against_limit else 1) for one in benches)
    reports: list[Report] = []
    with _progress(steps) as say, _opened(place) as tidings, suite.bare_beside(tidings) as bare:
        for one in benches:
            result = suite.run(one, tidings, bare if one.against_limit else None, repeat, say)
            reports += result.reports()
            _show(result.summary(), as_json)
    _insist(reports)


@contextmanager
def _opened(place: Place) -> Iterator[System]:
    """The system to be measured, with the stand-in as its provider."""
    try:
        with stand_in_running(place.provider_ms) as provider, _system(place.data_dir, provider) as opened:
            yield opened
    except (NoCompiler, Refused) as fault:
        raise Failed(str(fault)) from fault
    except (OSError, asyncpg.PostgresError) as fault:
        raise Unreachable(str(fault)) from fault


def _system(data_dir: Path | None, provider: StandIn) -> AbstractContextManager[System]:
    return system.started(provider) if data_dir is None else system.running(data_dir, provider)


@contextmanager
def _progress(steps: int) -> Iterator[Say]:
    """A bar on stderr that says which run is in which step."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("start", total=steps)

        def say(step: str) -> None:
            progress.update(bar, description=step, advance=1)

        yield say


def _show(summary: dict[str, Any], as_json: bool) -> None:
    if as_json:
        _print_json(summary)
    else:
        Console().print(show.figures(summary))


def _insist(reports: Sequence[Report]) -> None:
    """Every ledger must agree. Raises Failed."""
    unclean = [report for report in reports if not report.clean]
    if unclean:
        Console(stderr=True).print(show.ledger(unclean[0]))
        raise Failed("the ledgers do not agree")


def ledger(
    data_dir: DataDir = None,
    client: Annotated[Path | None, typer.Option("--client", help="A client ledger kept by the load.")] = None,
    provider: Annotated[str | None, typer.Option("--provider", help="URL of the stand-in for load.")] = None,
    sandbox: Annotated[str | None, typer.Option("--sandbox", help="URL of the sandbox that took the mail.")] = None,
    since_s: Annotated[float | None, typer.Option("--since-s", help="Only what was accepted this long ago.")] = None,
    as_json: Json = False,
) -> None:
    """Compares what was answered, what is on record and what the provider took, and names every difference."""
    settings = named(data_dir)
    running = rundir.find(settings.data_dir)
    since_ms = 0 if since_s is None else int((time.time() - since_s) * 1000)
    if running and running.sandbox_url and not (provider or sandbox):
        sandbox, since_ms = running.sandbox_url, max(since_ms, int(running.started_at * 1000))
        Console(stderr=True).print(f"with the ledger of {sandbox}, which began when this system was started")
    dsns = running.postgres_dsns if running else (settings.control_dsn, *settings.shard_dsns)
    try:
        calls = client_ledger.as_calls(client_ledger.read(client)) if client else None
        report = asyncio.run(_compared(dsns, since_ms, calls, _taken(provider, sandbox)))
    except (OSError, asyncpg.PostgresError) as fault:
        raise Unreachable(str(fault)) from fault
    if as_json:
        _print_json(report.summary())
    else:
        Console().print(show.ledger(report))
    if not report.clean:
        raise Failed("the ledgers do not agree")


def _taken(provider: str | None, sandbox: str | None) -> list[Taken] | None:
    if provider:
        return list(StandIn(provider, 0).references())
    return sandbox_references(sandbox) if sandbox else None


async def _compared(
    dsns: tuple[str, ...], since_ms: int, calls: list[Call] | None, taken: list[Taken] | None
) -> Report:
    """Only what was accepted since then, in all ledgers: ids begin with their time."""
    since = first_at(since_ms).bytes
    calls = None if calls is None else [one for one in calls if one.id is None or one.id >= since]
    taken = None if taken is None else [one for one in taken if one.delivery >= since]
    database = await ledger_rows.read_database(dsns, since_ms)
    return check(Ledgers(database, calls, taken), Rules(accounts=await ledger_rows.read_accounts(dsns)))


def _print_json(document: dict[str, Any]) -> None:
    sys.stdout.write(msgspec.json.encode(document).decode() + "\n")

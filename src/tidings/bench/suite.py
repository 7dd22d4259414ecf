"""A figure: runs of Tidings and of the bare loop in turn, their medians, and what the ledgers said."""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import asyncpg
import msgspec

from tidings.bench.figures import machine, median
from tidings.bench.ledger import Report
from tidings.bench.limit.bare import BareLoop, bare_loop
from tidings.bench.scenarios import STEPS, Outcome, Say, Wish, put_through
from tidings.bench.subject import Subject
from tidings.bench.system import System, database_beside

EVERYDAY_RATE: Final = 600.0
_DATABASE: Final = "tidings_bench_limit"
_CREATE: Final = "CREATE DATABASE tidings_bench_limit"
_DROP: Final = "DROP DATABASE IF EXISTS tidings_bench_limit WITH (FORCE)"
WARM_UP: Final = Wish(seconds=1.0)
KINDS: Final = ("api", "worker", "renderer", "postgres", "valkey", "stand_in", "load")


class Measured(msgspec.Struct, frozen=True):
    """What of an outcome is the figure."""

    per_s: float
    p50_ms: float
    p99_ms: float


def accepting(outcome: Outcome) -> Measured:
    return Measured(outcome.accepted_per_s, outcome.answered_p50_ms, outcome.answered_p99_ms)


def delivering(outcome: Outcome) -> Measured:
    return Measured(outcome.sent_per_s, outcome.sent_p50_ms, outcome.sent_p99_ms)


class Bench(msgspec.Struct, frozen=True):
    """One command: what is wished for, and what is read off."""

    name: str
    wish: Wish
    read: Callable[[Outcome], Measured]
    against_limit: bool = True


class Result(msgspec.Struct, frozen=True):
    """A bench's runs, and the bare loop's beside them (empty when it was not run)."""

    bench: Bench
    outcomes: Sequence[Outcome]
    limits: Sequence[Outcome]

    @property
    def clean(self) -> bool:
        return all(outcome.ledger.clean for outcome in (*self.outcomes, *self.limits))

    def reports(self) -> list[Report]:
        return [outcome.ledger for outcome in (*self.outcomes, *self.limits)]

    def summary(self) -> dict[str, Any]:
        """The JSON document; rates per second, latencies in ms, medians of the runs."""
        measured = [self.bench.read(outcome) for outcome in self.outcomes]
        per_s = median([one.per_s for one in measured])
        limit_per_s = median([self.bench.read(outcome).per_s for outcome in self.limits]) if self.limits else None
        return {
            "name": self.bench.name,
            "per_s": round(per_s, 1),
            "p50_ms": round(median([one.p50_ms for one in measured]), 2),
            "p99_ms": round(median([one.p99_ms for one in measured]), 2),
            "cpu_us": self._cpu_us(),
            "limit_per_s": None if limit_per_s is None else round(limit_per_s, 1),
            "ratio": None if not limit_per_s else round(per_s / limit_per_s, 3),
            "runs": list(self._runs()),
            "ledger": together(self.reports()),
            "machine": machine(),
        }

    def _cpu_us(self) -> dict[str, float]:
        kinds = dict.fromkeys((*KINDS, *(kind for outcome in self.outcomes for kind in outcome.cpu_us)))
        return {kind: round(median([one.cpu_us.get(kind, 0.0) for one in self.outcomes]), 1) for kind in kinds}

    def _runs(self) -> Iterator[dict[str, Any]]:
        for index, outcome in enumerate(self.outcomes):
            limit = self.limits[index] if index < len(self.limits) else None
            yield {
                **msgspec.structs.asdict(self.bench.read(outcome)),
                "accepted": outcome.accepted,
                "cpu_us": {kind: round(us, 1) for kind, us in outcome.cpu_us.items()},
                "other_cores": round(outcome.other_cores, 2),
                "limit_per_s": None if limit is None else self.bench.read(limit).per_s,
                "ledger": outcome.ledger.summary(),
            }


def together(reports: Sequence[Report]) -> dict[str, Any]:
    """The ledger checks of several runs as one."""
    return {
        "clean": all(report.clean for report in reports),
        "lost": sum(report.lost for report in reports),
        "repeated": sum(report.repeated for report in reports),
    }


def run(bench: Bench, subject: Subject, bare: Subject | None, repeat: int, say: Say) -> Result:
    """The subject and the bare loop in turn, ``repeat`` times each, after a second of warming up."""
    subjects = [subject] if bare is None else [subject, bare]
    for one in subjects:
        put_through(one, WARM_UP, _labelled(say, f"{one.name}: warm up"))
    outcomes: dict[str, list[Outcome]] = {one.name: [] for one in subjects}
    for number in range(1, repeat + 1):
        for one in subjects:
            outcomes[one.name].append(put_through(one, bench.wish, _labelled(say, f"{one.name} {number}/{repeat}")))
    return Result(bench, outcomes[subject.name], outcomes[bare.name] if bare else ())


def _labelled(say: Say, label: str) -> Say:
    return lambda step: say(f"{label}: {step}")


def steps_of(repeat: int, subjects: int) -> int:
    """How often ``run`` will say something."""
    return STEPS * (repeat + 1) * subjects


def standard(seconds: float) -> tuple[Bench, ...]:
    """The suite: accepting and delivering, one by one and in batches of 100, and the latency at an everyday rate."""
    return (
        Bench("accept", Wish(seconds=seconds, hold=True), accepting),
        Bench("accept, batches of 100", Wish(seconds=seconds, batch=100, hold=True), accepting),
        Bench("deliver", Wish(seconds=seconds), delivering),
        Bench("deliver, batches of 100", Wish(seconds=seconds, batch=100), delivering),
        Bench("latency", Wish(seconds=seconds, rate=EVERYDAY_RATE), delivering, against_limit=False),
    )


def limit_parts(seconds: float, batch: int) -> tuple[Bench, ...]:
    """What the ceiling is made of."""
    return (
        Bench("accept", Wish(seconds=seconds, hold=True), accepting),
        Bench(f"accept_{batch}", Wish(seconds=seconds, batch=batch, hold=True), accepting),
        Bench("both", Wish(seconds=seconds), delivering),
        Bench(f"both_{batch}", Wish(seconds=seconds, batch=batch), delivering),
    )


@contextmanager
def bare_beside(system: System) -> Iterator[BareLoop]:
    """The bare loop on the same server and the same stand-in, in a database of its own that is gone afterwards.

    Raises OSError and ``asyncpg.PostgresError``.
    """
    asyncio.run(_execute(system.dsns[0], _DROP, _CREATE))
    try:
        with bare_loop(database_beside(system.dsns[0], _DATABASE), system.provider, system.roots()["postgres"]) as bare:
            yield bare
    finally:
        asyncio.run(_execute(system.dsns[0], _DROP))


async def _execute(dsn: str, *statements: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


def limit_summary(figures: Mapping[str, Result]) -> dict[str, Any]:
    """The ceiling in its parts; the headline is both halves at once, one notification per request."""
    headline = figures["both"].summary()
    per_s = {name: result.summary()["per_s"] for name, result in figures.items()}
    per_s["deliver"] = round(median([one.sent_per_s for one in figures["accept"].outcomes]), 1)
    ledger = together([report for result in figures.values() for report in result.reports()])
    runs = [{"figure": name, **one} for name, result in figures.items() for one in result.summary()["runs"]]
    changed = {"name": "limit", "limit_per_s": headline["per_s"], "ratio": 1.0, "runs": runs, "ledger": ledger}
    return {**headline, **changed, "figures": per_s}

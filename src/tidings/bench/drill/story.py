"""What a drill is told by: the arrivals at the providers, the breakers as they moved, and the promises kept or not.

Pure: everything is read off what was noted while the drill ran. Times are unix milliseconds.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, Final

import msgspec

from tidings.bench import figures
from tidings.bench.ledger import Report

FIRST: Final = "sendgrid"
SECOND: Final = "mailgun"
TAKE_OVER_MS: Final = 1_000.0
_LATE_MS: Final = 1_000.0
_RATE_SLACK: Final = 1.25
"""A bucket starts full, and seconds do not begin when it does."""


class Arrival(msgspec.Struct, frozen=True, gc=False):
    """One message that a provider took."""

    provider: str
    promotional: bool
    asked_ms: float
    arrived_ms: float

    @property
    def took_ms(self) -> float:
        return self.arrived_ms - self.asked_ms


class Phase(msgspec.Struct, frozen=True):
    """A stretch of the drill. At its end ``waiting`` deliveries were left; ``spent`` is the most attempts that one of
    them had used up, and ``dead`` how many had been given up."""

    name: str
    began_ms: float
    ended_ms: float
    asked: int
    waiting: int
    spent: int
    dead: int


class Turn(msgspec.Struct, frozen=True):
    """A breaker as it was first seen in this state; ``at_ms`` is since when it says that it is."""

    provider: str
    breaker: str
    at_ms: float
    why: str | None


class Notes(msgspec.Struct, frozen=True):
    """All that was noted. ``drain_per_s`` is the bound on what all workers together give back to accounts that were
    away."""

    phases: Sequence[Phase]
    arrivals: Sequence[Arrival]
    turns: Sequence[Turn]
    drain_per_s: float
    ledger: Report

    def phase(self, name: str) -> Phase | None:
        return next((phase for phase in self.phases if phase.name == name), None)

    def within(self, phase: Phase) -> list[Arrival]:
        return [one for one in self.arrivals if phase.began_ms <= one.arrived_ms < phase.ended_ms]


def percentile(values: Sequence[float], share: float) -> float:
    return figures.percentile(sorted(values), share)


class Promise(msgspec.Struct, frozen=True):
    """What has to hold, whether it did, and the figure that says so."""

    what: str
    kept: bool
    figure: str


WELL: Final = "all is well"
FIRST_DOWN: Final = f"{FIRST} is down"
FIRST_BACK: Final = f"{FIRST} is back"
BOTH_DOWN: Final = "both are down"
BOTH_BACK: Final = "both are back"
ALONE_DOWN: Final = f"{FIRST} is down, and there is no other"
ALONE_BACK: Final = f"{FIRST} is back, and drains it"


def promises(notes: Notes) -> list[Promise]:
    """In the order in which they are put to the test."""
    found = [promise for look in _LOOKS for promise in look(notes)]
    report = notes.ledger
    figure = f"{report.lost} lost, {report.repeated} repeated"
    return [*found, Promise("the ledgers of client, database and providers agree", report.clean, figure)]


def _take_over(notes: Notes) -> Iterator[Promise]:
    down = notes.phase(FIRST_DOWN)
    if down is None:
        return
    opened = _first_turn(notes, FIRST, "open", down)
    yield Promise(
        f"the breaker of {FIRST} opens", opened is not None, _after(opened.at_ms if opened else None, down.began_ms)
    )
    if opened is not None:
        taken = [one.arrived_ms for one in notes.arrivals if one.provider == SECOND and one.arrived_ms >= opened.at_ms]
        gap_ms = min(taken, default=down.ended_ms) - opened.at_ms
        what = f"{SECOND} takes over within {TAKE_OVER_MS:.0f} ms of that"
        yield Promise(what, gap_ms <= TAKE_OVER_MS, f"{gap_ms:.0f} ms")
    silence_ms = _longest_silence_ms(notes.within(down), down)
    yield Promise("nobody waits for a schedule", silence_ms < 2 * TAKE_OVER_MS, f"longest silence {silence_ms:.0f} ms")


def _back(notes: Notes) -> Iterator[Promise]:
    back = notes.phase(FIRST_BACK)
    if back is None:
        return
    closed = _first_turn(notes, FIRST, "closed", back)
    figure = _after(closed.at_ms if closed else None, back.began_ms)
    yield Promise(f"{FIRST} is used again once a probe came through", closed is not None, figure)


def _nobody(notes: Notes) -> Iterator[Promise]:
    for name in (BOTH_DOWN, ALONE_DOWN):
        down = notes.phase(name)
        if down is not None:
            kept = down.spent <= 1 and down.waiting > 0 and not down.dead
            figure = f"{down.waiting:,} waiting, {down.dead} given up, at most {down.spent} attempt used up"
            yield Promise(f"{name}: all is kept, and waiting uses up nothing", kept, figure)


def _drain(notes: Notes) -> Iterator[Promise]:
    for down_name, back_name in ((BOTH_DOWN, BOTH_BACK), (ALONE_DOWN, ALONE_BACK)):
        down, back = notes.phase(down_name), notes.phase(back_name)
        if down is None or back is None:
            continue
        drained = sorted(
            (one for one in notes.within(back) if one.asked_ms < back.began_ms), key=lambda one: one.arrived_ms
        )
        if not drained:
            yield Promise(f"{back_name}: it drains", kept=False, figure="nothing arrived")
            continue
        yield from _pace(notes, back_name, drained)
        yield from _order(back_name, drained)


def _pace(notes: Notes, name: str, drained: Sequence[Arrival]) -> Iterator[Promise]:
    took_s = max((drained[-1].arrived_ms - drained[0].arrived_ms) / 1000, 1.0)
    per_s = len(drained) / took_s
    figure = f"{len(drained):,} in {took_s:.1f} s: {per_s:,.0f}/s of at most {notes.drain_per_s:,.0f}/s"
    yield Promise(f"{name}: it drains at a bounded rate", per_s <= notes.drain_per_s * _RATE_SLACK, figure)


def _order(name: str, drained: Sequence[Arrival]) -> Iterator[Promise]:
    """Within a class the older first, give or take what is on its way together; transactional before promotional."""
    late = [one.arrived_ms for one in drained if not one.promotional]
    early = [one.arrived_ms for one in drained if one.promotional]
    if late and early:
        figure = f"median {(percentile(early, 0.5) - percentile(late, 0.5)) / 1000:.1f} s earlier"
        kept = percentile(late, 0.5) <= percentile(early, 0.5)
        yield Promise(f"{name}: transactional goes before promotional", kept, figure)
    for promotional, class_ in ((False, "transactional"), (True, "promotional")):
        mine = [one for one in drained if one.promotional == promotional]
        if mine:
            worst_ms, took_ms = percentile(late_ms(mine), 0.99), mine[-1].arrived_ms - mine[0].arrived_ms
            kept = worst_ms <= max(_LATE_MS, took_ms / 10)
            figure = f"p99 {worst_ms / 1000:.2f} s later than in perfect order"
            yield Promise(f"{name}: {class_}, the older first", kept, figure)


_LOOKS: Final[tuple[Callable[[Notes], Iterator[Promise]], ...]] = (_take_over, _back, _nobody, _drain)


def late_ms(arrivals: Sequence[Arrival]) -> list[float]:
    """For each of those that arrived one after the other, by how much later than in the order of age; 0 in perfect
    order, and for whom others waited."""
    in_order = sorted(arrivals, key=lambda one: one.asked_ms)
    return [max(0.0, one.arrived_ms - due.arrived_ms) for one, due in zip(in_order, arrivals, strict=True)]


def rows(notes: Notes) -> Iterator[dict[str, Any]]:
    """A line for each phase: who took how much, and how long it took from the call to the provider."""
    for phase in notes.phases:
        arrived = notes.within(phase)
        took_ms = [one.took_ms for one in arrived]
        yield {
            "phase": phase.name,
            "seconds": round((phase.ended_ms - phase.began_ms) / 1000, 1),
            "asked": phase.asked,
            FIRST: sum(one.provider == FIRST for one in arrived),
            SECOND: sum(one.provider == SECOND for one in arrived),
            "p50_ms": round(percentile(took_ms, 0.5)) if took_ms else None,
            "p99_ms": round(percentile(took_ms, 0.99)) if took_ms else None,
            "waiting": phase.waiting,
        }


def _first_turn(notes: Notes, provider: str, breaker: str, phase: Phase) -> Turn | None:
    seen = (turn for turn in notes.turns if turn.provider == provider and turn.breaker == breaker)
    return next((turn for turn in seen if phase.began_ms - 1_000 <= turn.at_ms <= phase.ended_ms), None)


def _after(at_ms: float | None, began_ms: float) -> str:
    return "never" if at_ms is None else f"after {max(0.0, at_ms - began_ms) / 1000:.1f} s"


def _longest_silence_ms(arrivals: Sequence[Arrival], phase: Phase) -> float:
    times = [phase.began_ms, *sorted(one.arrived_ms for one in arrivals), phase.ended_ms]
    return max(later - earlier for earlier, later in pairwise(times))

"""Hours of the day in which nothing is sent, or in which alone something is. Pure.

Hours are told by the clock on the wall: an instant is inside them while that clock shows a time of theirs, whatever was
done to it during the night. They hold what comes too early or too late; nothing is dropped.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, time, timedelta, tzinfo
from typing import Final

import msgspec

from tidings.domain.timing import changes, readings

EVERY_DAY: Final = frozenset(range(7))
_LOOK_AHEAD: Final = timedelta(days=15)
"""A window of one hour a week may fall into the gap of one night: then it opens a week later."""
_DAY: Final = timedelta(days=1)


class Hours(msgspec.Struct, frozen=True):
    """From ``start`` until just before ``end``, overnight where it ends before it starts. ``days`` are those on which
    it starts, 0 for Monday."""

    start: time
    end: time
    days: frozenset[int] = EVERY_DAY

    def __post_init__(self) -> None:
        if self.start == self.end:
            raise ValueError("hours that end when they start are no hours")

    def cover(self, shown: datetime) -> bool:
        """Is a clock that shows this time (naive) inside?"""
        at, today = shown.time(), shown.weekday()
        if self.start < self.end:
            return today in self.days and self.start <= at < self.end
        return (today in self.days and at >= self.start) or ((today - 1) % 7 in self.days and at < self.end)


def hours(start: str, end: str, days: Iterable[int] = EVERY_DAY) -> Hours:
    """From ``"22:00"`` to ``"07:00"``. Raises ValueError."""
    return Hours(_time(start), _time(end), frozenset(days))


def _time(text: str) -> time:
    at = time.fromisoformat(text)
    if len(text) != len("22:00"):
        raise ValueError("a time of day is written as HH:MM")
    return at


def next_allowed(
    instant: datetime, zone: tzinfo, quiet: Sequence[Hours] = (), windows: Sequence[Hours] = ()
) -> datetime | None:
    """The first instant (UTC), this one or a later, outside all ``quiet`` hours and, where there are any, inside one
    of the ``windows``. None where there is none: what would hold for ever does not hold at all."""

    def allowed(at: datetime) -> bool:
        shown = at.astimezone(zone).replace(tzinfo=None)
        if any(one.cover(shown) for one in quiet):
            return False
        return not windows or any(one.cover(shown) for one in windows)

    instant = instant.astimezone(UTC)
    if allowed(instant):
        return instant
    edges = sorted(at for at in _edges(instant, zone, (*quiet, *windows)) if at > instant)
    return next(filter(allowed, edges), None)


def _edges(instant: datetime, zone: tzinfo, all_: Sequence[Hours]) -> Iterator[datetime]:
    """Where the answer can change: when clocks show a start or an end, and when clocks change."""
    today = instant.astimezone(zone).date()
    for n in range(_LOOK_AHEAD.days + 1):
        for one in all_:
            for at in (one.start, one.end):
                yield from readings(datetime.combine(today + n * _DAY, at), zone)
    yield from changes(zone, instant, instant + _LOOK_AHEAD)

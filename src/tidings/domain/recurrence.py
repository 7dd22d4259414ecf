"""What comes again and again: cron expressions, expanded in a zone. Pure.

A rule that names hours means times of the day: each comes once a day, and the policies say what becomes of one that
clocks skip or show twice. A rule for every hour means the hours as they pass: where clocks go forward it runs 23 times
that day, where they go back 25 times.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Final

import msgspec

from tidings.domain.timing import Gap, Overlap, instant_of, readings

_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_SHORT: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
}
_HOURS: Final = frozenset(range(24))
_DAYS: Final = frozenset(range(1, 32))
_WEEK: Final = frozenset(range(7))
_FAR_DAYS: Final = 366 * 8 + 1
"""29 February may be eight years away, around a year like 2100."""


class Cron(msgspec.Struct, frozen=True):
    """The five fields, each as the numbers that it allows; Sunday is 0. As everywhere with cron, where both the day of
    the month and that of the week are restricted one of them is enough."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]

    def on(self, day: date) -> bool:
        if day.month not in self.months:
            return False
        of_month, of_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        if self.days == _DAYS or self.weekdays == _WEEK:
            return of_month and of_week
        return of_month or of_week

    def times(self) -> Iterator[time]:
        """Of the day, in order."""
        return (time(hour, minute) for hour in sorted(self.hours) for minute in sorted(self.minutes))


def cron_of(text: str) -> Cron:
    """From ``"30 9 * * mon-fri"`` or ``"@daily"``. Raises ValueError that says what is wrong with it, also for one that
    never comes."""
    fields = _SHORT.get(text.strip().lower(), text).lower().split()
    if len(fields) != 5:
        raise ValueError("five fields: minute, hour, day of the month, month, day of the week")
    minute, hour, day, month, weekday = fields
    cron = Cron(
        minutes=_numbers(minute, 0, 59),
        hours=_numbers(hour, 0, 23),
        days=_numbers(day, 1, 31),
        months=_numbers(month, 1, 12, _MONTHS),
        weekdays=frozenset(n % 7 for n in _numbers(weekday, 0, 7, _WEEKDAYS)),
    )
    if next_after(cron, datetime(2000, 1, 1, tzinfo=UTC), UTC) is None:
        raise ValueError("there is no such day")
    return cron


def _numbers(field: str, least: int, most: int, names: Sequence[str] = ()) -> frozenset[int]:
    found = set[int]()
    for part in field.split(","):
        span, stepped, step = part.partition("/")
        low, ranged, high = span.partition("-")
        if span == "*":
            first, last = least, most if most != 7 else 6
        else:
            first = _number(low, least, names)
            last = _number(high, least, names) if ranged else most if stepped else first
        width = _number(step, 1, ()) if stepped else 1
        if not least <= first <= last <= most or width < 1:
            raise ValueError(f"{part!r} is not within {least} and {most}")
        found.update(range(first, last + 1, width))
    return frozenset(found)


def _number(text: str, least: int, names: Sequence[str]) -> int:
    if text in names:
        return names.index(text) + least
    if not (text.isascii() and text.isdigit() and len(text) <= 2):
        raise ValueError(f"{text!r} is no number")
    return int(text)


def next_after(
    cron: Cron, after: datetime, zone: tzinfo, gap: Gap = "next_valid", overlap: Overlap = "first"
) -> datetime | None:
    """The first run (UTC) after this instant, None for a rule that never comes."""
    today, found = after.astimezone(zone).date(), None
    for n in range(-1, _FAR_DAYS):
        day = today + timedelta(days=n)
        runs = [at for at in _runs(cron, day, zone, (gap, overlap)) if at > after] if cron.on(day) else []
        if found is not None:  # where clocks go back over midnight, the next day may come first
            return min([found, *runs])
        found = min(runs, default=None)
    return found


def _runs(cron: Cron, day: date, zone: tzinfo, policies: tuple[Gap, Overlap]) -> Iterator[datetime]:
    for at in cron.times():
        wall = datetime.combine(day, at)
        if cron.hours == _HOURS:
            yield from readings(wall, zone)
        elif (instant := instant_of(wall, zone, *policies)) is not None:
            yield instant

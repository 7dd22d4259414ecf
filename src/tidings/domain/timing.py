"""Wall times and instants. Pure: zones come in as values, and so does the present."""

from datetime import UTC, datetime, timedelta, tzinfo
from typing import Literal

Gap = Literal["next_valid", "skip"]
Overlap = Literal["first", "second"]


def instant_of(wall: datetime, zone: tzinfo, gap: Gap = "next_valid", overlap: Overlap = "first") -> datetime | None:
    """The instant (UTC) at which clocks in ``zone`` show ``wall``, which is naive.

    Clocks that go forward leave a gap: ``next_valid`` is the first instant after it, ``skip`` answers None. Clocks that
    go back show a time twice: ``overlap`` says which of the two is meant.
    """
    first, second = (wall.replace(tzinfo=zone, fold=fold) for fold in (0, 1))
    before, after = first.utcoffset(), second.utcoffset()
    if before is None or after is None or before == after:
        return first.astimezone(UTC)
    if before < after:
        return None if gap == "skip" else _change(second.astimezone(UTC), first.astimezone(UTC), zone)
    return (first if overlap == "first" else second).astimezone(UTC)


def _change(early: datetime, late: datetime, zone: tzinfo) -> datetime:
    """The second at which the offset changes: after ``early``, at the latest ``late``."""
    old = early.astimezone(zone).utcoffset()
    low, high = 0, int((late - early).total_seconds())
    while high - low > 1:
        middle = (low + high) // 2
        same = (early + timedelta(seconds=middle)).astimezone(zone).utcoffset() == old
        low, high = (middle, high) if same else (low, middle)
    return early + timedelta(seconds=high)

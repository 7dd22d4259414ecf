"""Wall times and instants. Pure: zones come in as values, and so does the present."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final, Literal

import msgspec

Gap = Literal["next_valid", "skip"]
Overlap = Literal["first", "second"]

AROUND_THE_WORLD: Final = timedelta(hours=26)
"""From the first clock on earth that shows a time to the last."""
_FIRST_TO_SHOW: Final = timedelta(hours=14)
_STEP: Final = timedelta(days=1)


class Meant(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A time as its caller meant it: what clocks show (``local``, naive), where, and what to do when clocks change.

    ``zone`` None is the user's, whichever that is when the time comes. ``offset_s`` is how far ahead of UTC that zone
    was believed to be when this was accepted, None where nobody knew the zone. ``expires_after_s`` counts from the
    instant that it comes to.
    """

    local: datetime
    zone: str | None = None
    gap: Gap = "next_valid"
    overlap: Overlap = "first"
    offset_s: int | None = None
    expires_after_s: float | None = None

    def instant(self, zone: tzinfo) -> datetime | None:
        """When clocks in ``zone`` show it; None for what they skip, if that is not to be sent."""
        return instant_of(self.local, zone, self.gap, self.overlap)

    def believing(self, zone: tzinfo) -> "Meant":
        """The same with the offset of today's belief."""
        instant = instant_of(self.local, zone, "next_valid", self.overlap)
        offset = instant.astimezone(zone).utcoffset() if instant else None
        return msgspec.structs.replace(self, offset_s=int(offset.total_seconds()) if offset is not None else None)


def earliest(local: datetime) -> datetime:
    """The first instant at which clocks anywhere may show this."""
    return local.replace(tzinfo=UTC) - _FIRST_TO_SHOW


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


def readings(wall: datetime, zone: tzinfo) -> tuple[datetime, ...]:
    """Every instant (UTC) at which clocks in ``zone`` show ``wall``: one, two, or none at all."""
    first = instant_of(wall, zone, "skip", "first")
    second = instant_of(wall, zone, "skip", "second")
    if first is None or second is None:
        return ()
    return (first,) if first == second else (first, second)


def changes(zone: tzinfo, since: datetime, until: datetime) -> Iterator[datetime]:
    """The instants (UTC) from ``since`` to ``until`` at which clocks in ``zone`` change, in order."""
    early = since.astimezone(UTC)
    while early < until:
        late = min(early + _STEP, until.astimezone(UTC))
        if early.astimezone(zone).utcoffset() != late.astimezone(zone).utcoffset():
            yield _change(early, late, zone)
        early = late


def _change(early: datetime, late: datetime, zone: tzinfo) -> datetime:
    """The second at which the offset changes: after ``early``, at the latest ``late``."""
    old = early.astimezone(zone).utcoffset()
    low, high = 0, int((late - early).total_seconds())
    while high - low > 1:
        middle = (low + high) // 2
        same = (early + timedelta(seconds=middle)).astimezone(zone).utcoffset() == old
        low, high = (middle, high) if same else (low, middle)
    return early + timedelta(seconds=high)

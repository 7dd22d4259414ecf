"""Who is there: what each process shows of itself, and how fast all of them work. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

import msgspec

API: Final = "api"
WORK: Final = "work"
RELAY: Final = "relay"
ROLES: Final = (API, WORK, RELAY)
"""The roles that show themselves, named like their commands."""


class Present(msgspec.Struct, frozen=True, gc=False):
    """A process that is alive, as it last showed itself. ``lanes`` are those that a worker serves. ``accepted`` and, by
    lane, ``claimed``, ``left`` (they wait there no longer: done, in doubt or dead) and ``sent`` were counted from
    ``started_at`` to ``at``."""

    role: str
    host: str
    pid: int
    started_at: datetime
    at: datetime
    lanes: tuple[str, ...] = ()
    accepted: int = 0
    claimed: Mapping[str, int] = {}
    left: Mapping[str, int] = {}
    sent: Mapping[str, int] = {}

    @property
    def name(self) -> str:
        """No other process has it while this one is alive."""
        return f"{self.host}-{self.pid}"


class Pace(msgspec.Struct, frozen=True):
    """What all processes did a second between two looks, ``left_per_s`` by lane."""

    accepted_per_s: float
    sent_per_s: float
    left_per_s: Mapping[str, float]


def pace(before: Sequence[Present], now: Sequence[Present]) -> Pace | None:
    """Of those that both looks found; None when there is nothing to compare."""
    known = {(one.name, one.started_at): one for one in before}
    pairs = [(first, one) for one in now if (first := known.get((one.name, one.started_at)))]
    if not pairs:
        return None
    accepted_per_s, sent_per_s, left_per_s = 0.0, 0.0, dict[str, float]()
    for first, one in pairs:
        for_s = (one.at - first.at).total_seconds()
        if for_s <= 0:
            continue
        accepted_per_s += (one.accepted - first.accepted) / for_s
        if one.role == WORK:
            sent_per_s += (sum(one.sent.values()) - sum(first.sent.values())) / for_s
            for lane, count in one.left.items():
                left_per_s[lane] = left_per_s.get(lane, 0.0) + (count - first.left.get(lane, 0)) / for_s
    return Pace(accepted_per_s, sent_per_s, left_per_s)


def serving(present: Sequence[Present]) -> Counter[str]:
    """How many workers serve each lane."""
    return Counter(lane for one in present if one.role == WORK for lane in one.lanes)

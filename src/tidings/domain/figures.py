"""How much waits in the lanes, for how long, and when it will be gone. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from math import inf

import msgspec

from tidings.domain.lanes import Channel, Lane, lane_name, sending_lanes
from tidings.domain.presence import Pace, Present, serving


class LaneCount(msgspec.Struct, frozen=True):
    """A lane of one shard: how many wait, how many of them are due, and for how long the oldest one has been."""

    lane: Lane
    waiting: int
    due: int
    oldest_due_s: float


class LaneFigures(msgspec.Struct, frozen=True):
    """A lane of all shards. ``per_s`` have left it lately; at that rate what is due is gone in ``drain_s``, infinity
    where nothing leaves. ``workers`` serve it. These are None where nobody knows. ``lag`` are the hints about it that
    no worker has taken yet, where hints travel by a queue."""

    lane: str
    waiting: int
    due: int
    oldest_due_s: float
    per_s: float | None = None
    drain_s: float | None = None
    workers: int | None = None
    lag: int | None = None


class Buried(msgspec.Struct, frozen=True):
    """Dead letters of one cause. ``account`` is 0 where no provider was asked."""

    reason: str
    channel: Channel
    account: int
    count: int


def lane_figures(
    counted: Iterable[LaneCount],
    present: Sequence[Present] | None,
    pace: Pace | None,
    lag: Mapping[Lane, int] | None = None,
) -> Sequence[LaneFigures]:
    """Every lane whose work ends at a provider, in the order in which they are served."""
    found = list(counted)
    workers = None if present is None else serving(present)
    figures = list[LaneFigures]()
    for lane in sending_lanes():
        here, name = [one for one in found if one.lane == lane], lane_name(lane)
        due, per_s = sum(one.due for one in here), pace.left_per_s.get(name, 0.0) if pace else None
        figures.append(
            LaneFigures(
                lane=name,
                waiting=sum(one.waiting for one in here),
                due=due,
                oldest_due_s=max((one.oldest_due_s for one in here), default=0.0),
                per_s=per_s,
                drain_s=_drain_s(due, per_s),
                workers=None if workers is None else workers[name],
                lag=lag.get(lane) if lag else None,
            )
        )
    return figures


def unserved(lanes: Sequence[LaneFigures]) -> Sequence[LaneFigures]:
    """Those that have due work and nobody to do it."""
    return [one for one in lanes if one.due and one.workers == 0]


def told_unserved(lane: LaneFigures) -> str:
    """That and what to do, in words."""
    start = f"start one with `tidings work --lanes {lane.lane}`"
    return f"no worker serves {lane.lane}: {lane.due:,} {'is' if lane.due == 1 else 'are'} due; {start}"


def _drain_s(due: int, per_s: float | None) -> float | None:
    if not due:
        return 0.0
    if per_s is None:
        return None
    return due / per_s if per_s > 0 else inf

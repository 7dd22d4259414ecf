"""Where the processor's time went, by kind of process."""

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
import psutil

RENDERER: Final = "renderer"
_RENDERER_WORDS: Final = ("tidings render", "renderer")


class Snapshot(msgspec.Struct, frozen=True):
    """Seconds used so far, by kind of process and by the whole machine, at an instant of the monotonic clock."""

    at_s: float
    by_kind: Mapping[str, float]
    machine_s: float


def snapshot(roots: Mapping[str, Sequence[int]]) -> Snapshot:
    """``roots`` has the pids of each kind; their children count with them, those that have ended too.

    A child that renders is of the kind ``renderer``, whichever process started it.
    """
    used: dict[str, float] = defaultdict(float)
    for kind, pids in roots.items():
        for pid in pids:
            _add_tree(used, kind, pid)
    times = psutil.cpu_times()
    return Snapshot(
        time.monotonic(), used, sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0)
    )


def _add_tree(used: dict[str, float], kind: str, pid: int) -> None:
    try:
        root = psutil.Process(pid)
        family = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for member in family:
        try:
            times, words = member.cpu_times(), " ".join(member.cmdline())
        except psutil.NoSuchProcess:
            continue
        renders = member is not root and any(word in words for word in _RENDERER_WORDS)
        used[RENDERER if renders else kind] += times.user + times.system
        used[RENDERER if kind == "worker" else kind] += times.children_user + times.children_system


def between(before: Snapshot, after: Snapshot) -> dict[str, float]:
    """Seconds that each kind used in between."""
    return {kind: max(0.0, after.by_kind[kind] - before.by_kind.get(kind, 0.0)) for kind in after.by_kind}


def others_s(before: Snapshot, after: Snapshot, ours_s: float) -> float:
    """Seconds that everybody else on this machine used in between: a run with much of it is no measurement."""
    return max(0.0, after.machine_s - before.machine_s - ours_s)

"""What ``tidings doctor`` says of the processes of a system: who is there, and whether somebody is missing."""

from collections import Counter
from collections.abc import Iterator, Sequence

from tidings.cli.finding import Finding
from tidings.domain.figures import unserved
from tidings.domain.overview import Overview
from tidings.domain.presence import RELAY, ROLES, Present
from tidings.settings import Settings
from tidings.wiring.overview import looking


async def processes(settings: Settings) -> Sequence[Finding]:
    """Nothing where nobody can tell who is there: that is Valkey's finding."""
    async with looking(settings) as eyes:
        seen = await eyes.look()
    return list(_told(seen, seen.processes)) if seen.processes is not None else ()


def _told(seen: Overview, there: Sequence[Present]) -> Iterator[Finding]:
    count = Counter(one.role for one in there)
    if not there:
        yield Finding("processes", "none", warning="start `tidings up`, or `tidings api`, `work` and `relay`")
        return
    yield Finding("processes", ", ".join(f"{role} {count[role]}" for role in ROLES))
    if not count[RELAY]:
        yield Finding("relay", "none is alive", "start one with `tidings relay`; until then doubts stay open")
    for lane in unserved(seen.lanes):
        found = f"{lane.due:,} due, no worker"
        yield Finding(lane.lane, found, f"start one with `tidings work --lanes {lane.lane}`")

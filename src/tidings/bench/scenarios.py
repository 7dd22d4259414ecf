"""What a subject is put through. Every run ends with the ledger check."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Final
from uuid import uuid4

import msgspec

from tidings.bench import client_ledger, cpu
from tidings.bench.client_ledger import Asked
from tidings.bench.figures import percentile
from tidings.bench.ledger import Database, Ledgers, Report, Taken, check
from tidings.bench.load import Plan, Summary
from tidings.bench.subject import USERS, Subject, still

SINGLE_CONNECTIONS: Final = 64
BATCH_CONNECTIONS: Final = 8
STEPS: Final = 3
_STALLED_S: Final = 60.0
_POLL_S: Final = 0.02

Say = Callable[[str], None]


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """How long, in batches of how many (0: one per request), and at which rate per second (None: as fast as it goes).
    ``hold`` keeps the workers still while the load runs, so that accepting is measured alone."""

    seconds: float
    batch: int = 0
    rate: float | None = None
    hold: bool = False


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """One run. ``answered`` is what the client saw; ``sent_per_s`` counts from the first request, or from the release
    of the workers, to the last arrival at the provider; latencies go from when a request was due to its arrival
    there. ``cpu_us`` is per notification; ``other_cores`` is what others used of the machine meanwhile."""

    accepted: int
    accepted_per_s: float
    answered_p50_ms: float
    answered_p99_ms: float
    sent_per_s: float
    sent_p50_ms: float
    sent_p99_ms: float
    cpu_us: dict[str, float]
    other_cores: float
    ledger: Report


def put_through(subject: Subject, wish: Wish, say: Say) -> Outcome:
    """Load, settle, compare: ``STEPS`` of them. Raises OSError when the subject cannot be reached."""
    subject.provider.forget()
    since_ms = time.time_ns() // 1_000_000
    with tempfile.TemporaryDirectory(prefix="tidings-bench-") as folder:
        ledger = Path(folder) / "client"
        before = cpu.snapshot(subject.roots())
        with still(subject.roots()["worker"]) if wish.hold else nullcontext():
            say("load")
            summary = _load(_plan(subject, wish, ledger))
            loaded = cpu.snapshot(subject.roots())
        released_ns = time.time_ns()
        say("settle")
        _settle(subject, summary.accepted, since_ms)
        measured = (before, loaded if wish.hold else cpu.snapshot(subject.roots()))
        say("compare ledgers")
        asked = list(client_ledger.read(ledger))
    began_ns = released_ns if wish.hold else summary.began_ns
    return _outcome(subject, summary, measured, _Ledgers(asked, subject, since_ms, began_ns))


def _plan(subject: Subject, wish: Wish, ledger: Path) -> Plan:
    return Plan(
        url=subject.url,
        api_key=subject.api_key,
        item=subject.item,
        users=USERS,
        key_prefix=f"bench-{uuid4().hex[:12]}",
        ledger=str(ledger),
        connections=BATCH_CONNECTIONS if wish.batch and not wish.rate else SINGLE_CONNECTIONS,
        seconds=wish.seconds,
        batch=wish.batch,
        rate=wish.rate / max(1, wish.batch) if wish.rate else None,
    )


def _load(plan: Plan) -> Summary:
    command = [sys.executable, "-m", "tidings.bench.load"]
    done = subprocess.run(command, input=msgspec.json.encode(plan), stdout=subprocess.PIPE, check=False)
    if done.returncode:
        raise OSError("the load could not be run")
    return msgspec.json.decode(done.stdout, type=Summary)


def _settle(subject: Subject, accepted: int, since_ms: int) -> None:
    """Until the provider has them all and nothing is left to do, or nothing moves any more."""
    _until_none(lambda: accepted - subject.provider.stats().deliveries)
    _until_none(lambda: subject.unfinished(since_ms))


def _until_none(left: Callable[[], int]) -> None:
    last, moved_at = left(), time.monotonic()
    while last > 0 and time.monotonic() - moved_at < _STALLED_S:
        time.sleep(_POLL_S)
        now = left()
        if now != last:
            last, moved_at = now, time.monotonic()


class _Ledgers:
    """What the four ledgers of a run say."""

    def __init__(self, asked: Sequence[Asked], subject: Subject, since_ms: int, began_ns: int) -> None:
        self.asked = asked
        self.began_ns = began_ns
        self.taken: list[Taken] = list(subject.provider.references())
        self.database: Database = subject.database(since_ms)

    def sent_per_s(self) -> float:
        last_ns = max((taken.arrived_ns for taken in self.taken), default=self.began_ns)
        return len(self.taken) / max(1e-9, (last_ns - self.began_ns) / 1e9)

    def latencies_ms(self) -> list[float]:
        due_ns = {asked.id: asked.due_ns for asked in self.asked if asked.id is not None}
        return sorted((arrived - due_ns[id_]) / 1e6 for id_, arrived in self._arrivals() if id_ in due_ns)

    def _arrivals(self) -> Iterator[tuple[bytes, int]]:
        deliveries = self.database.deliveries
        return (
            (deliveries[one.delivery].notification, one.arrived_ns) for one in self.taken if one.delivery in deliveries
        )


def _outcome(
    subject: Subject, summary: Summary, measured: tuple[cpu.Snapshot, cpu.Snapshot], ledgers: _Ledgers
) -> Outcome:
    compared = Ledgers(ledgers.database, client_ledger.as_calls(ledgers.asked), ledgers.taken)
    sent_ms = ledgers.latencies_ms()
    used_s = cpu.between(*measured) | {"load": summary.cpu_us_per_request * summary.requests / 1e6}
    others_s = cpu.others_s(*measured, sum(used_s.values()))
    return Outcome(
        accepted=summary.accepted,
        accepted_per_s=summary.accepted / max(1e-9, summary.seconds),
        answered_p50_ms=summary.p50_ms,
        answered_p99_ms=summary.p99_ms,
        sent_per_s=ledgers.sent_per_s(),
        sent_p50_ms=percentile(sent_ms, 0.50),
        sent_p99_ms=percentile(sent_ms, 0.99),
        cpu_us=_per_notification(used_s, summary.accepted),
        other_cores=others_s / max(1e-9, measured[1].at_s - measured[0].at_s),
        ledger=check(compared, subject.rules()),
    )


def _per_notification(used_s: Mapping[str, float], accepted: int) -> dict[str, float]:
    return {kind: seconds / max(1, accepted) * 1e6 for kind, seconds in used_s.items()}

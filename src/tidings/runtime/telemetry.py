"""Events become log lines and metrics here, and nowhere else.

Lines are JSON and hold the fields of typed events only; control characters are escaped, so that no value can forge
a line. A row of
``ROWS`` says at which level an event is logged and what it counts; every name of a metric stands in it.
"""

import logging
import sys
import traceback
from collections import defaultdict
from collections.abc import Callable, Mapping, MutableMapping
from datetime import UTC, datetime
from typing import Any, Final, TextIO

import msgspec
import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest
from prometheus_client.gc_collector import GCCollector
from prometheus_client.process_collector import ProcessCollector

from tidings.domain import events
from tidings.domain.events import Event

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_TEXT_MAX: Final = 2000
_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0)


class Adds(msgspec.Struct, frozen=True):
    """A counter. It grows by ``field``, by 1 without one; a field that is a mapping is a count for each ``label``, or
    for each combination of several."""

    metric: str
    text: str
    field: str | None = None
    label: str | tuple[str, ...] | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        return (self.label,) if isinstance(self.label, str) else self.label or ()


class Observes(msgspec.Struct, frozen=True):
    """A histogram of seconds; ``field`` is one figure or several."""

    metric: str
    text: str
    field: str


class Shows(msgspec.Struct, frozen=True):
    """A gauge: the figure of ``field`` as ``whose`` last knew it; with ``labels`` a mapping from their values. What it
    no longer names is no longer shown."""

    metric: str
    text: str
    field: str
    whose: str
    labels: tuple[str, ...] = ()


Meters = Adds | Observes | Shows


class Row(msgspec.Struct, frozen=True):
    level: str
    meters: tuple[Meters, ...] = ()


def _row(level: str, *meters: Meters) -> Row:
    return Row(level, meters)


ROWS: Final[Mapping[type[Event], Row]] = {
    events.Started: _row("info"),
    events.Stopping: _row("info"),
    events.LoopFailed: _row("error", Adds("tidings_loop_failures", "Bugs met by a loop", label="loop")),
    events.PartRestarted: _row("warning", Adds("tidings_restarts", "Parts started again", label="part")),
    events.NotificationsAccepted: _row(
        "debug",
        Adds("tidings_accepted", "Notifications accepted", "count"),
        Adds("tidings_replayed", "Requests whose idempotency key was seen before", "replayed"),
        Adds("tidings_deduplicated", "Requests whose deduplication key was seen before", "deduplicated"),
    ),
    events.FlushDone: _row(
        "debug",
        Adds("tidings_flushed_rows", "Rows carried by the acceptor's statements", "rows"),
        Observes("tidings_flush_seconds", "One statement of the acceptor, commit included", "took_s"),
    ),
    events.AcceptUncertain: _row(
        "error", Adds("tidings_accept_uncertain", "Requests told to repeat, their commit being uncertain", "count")
    ),
    events.BatchClaimed: _row(
        "debug",
        Adds("tidings_claimed", "Deliveries claimed", "count", "lane"),
        Observes("tidings_claim_seconds", "One claim", "took_s"),
    ),
    events.BatchSettled: _row(
        "debug",
        Adds("tidings_settled", "Holds ended, by what became of them", "outcomes", "outcome"),
        Adds("tidings_left", "Deliveries that left their lane: done, in doubt or dead", "left", "lane"),
        Adds("tidings_sent", "Deliveries sent", "sent", "lane"),
        Adds("tidings_settled_by_others", "Holds that somebody else had ended", "lost"),
        Observes("tidings_settle_seconds", "One settlement", "took_s"),
    ),
    events.CallsMade: _row(
        "debug",
        Adds("tidings_calls", "Calls to providers, by their answer", "outcomes", "outcome"),
        Observes("tidings_accept_to_settled_seconds", "From accept until the answer was stored", "latencies_s"),
    ),
    events.CostsIncurred: _row(
        "debug",
        Adds(
            "tidings_cost_micros",
            "Cost of calls that were taken, in millionths of the currency",
            "costs_micros",
            ("channel", "kind", "currency"),
        ),
    ),
    events.SettleFailed: _row("error", Adds("tidings_settle_failures", "Settlements tried again", "count", "why")),
    events.StorageAway: _row("warning", Adds("tidings_storage_away", "Loops that found no database", label="loop")),
    events.HintsTaken: _row("debug", Adds("tidings_hints_taken", "Hints that came through Kafka", "count")),
    events.HintsLost: _row("warning", Adds("tidings_hints_lost", "Hints that could not be published", "count")),
    events.HintsLagged: _row("debug", Shows("tidings_hints_lag", "Hints that no worker has taken", "lag", "lane")),
    events.HintsReachable: _row(
        "warning", Adds("tidings_hints_reachable", "Times that the brokers were found, or lost", label="state")
    ),
    events.AdapterFault: _row("error", Adds("tidings_adapter_faults", "Bugs met by adapters", label="error")),
    events.ClaimsGivenBack: _row("info", Adds("tidings_given_back", "Claims returned untouched", "count")),
    events.DoubtOpened: _row("warning", Adds("tidings_doubt_opened", "Sends that may have gone", "count", "reason")),
    events.DoubtResolved: _row("info", Adds("tidings_doubt_resolved", "Doubts resolved, by how", "count", "how")),
    events.DoubtsCounted: _row(
        "debug",
        Shows("tidings_in_doubt", "In doubt now", "counts", "shard", ("channel", "kind")),
        Shows(
            "tidings_in_doubt_oldest_seconds",
            "Since the oldest call in doubt",
            "oldest_s",
            "shard",
            ("channel", "kind"),
        ),
    ),
    events.LanesCounted: _row(
        "debug",
        Shows("tidings_lane_waiting", "Deliveries in a lane, estimated above 5,000", "waiting", "shard", ("lane",)),
        Shows("tidings_lane_due", "Those of them that are due", "due", "shard", ("lane",)),
        Shows("tidings_lane_oldest_due_seconds", "Since the oldest was due", "oldest_due_s", "shard", ("lane",)),
    ),
    events.LaneServed: _row(
        "debug",
        Shows("tidings_lane_workers", "Workers that serve a lane", "workers", "lane"),
        Shows("tidings_lane_drain_seconds", "Until what is due is gone, as it went lately", "drain_s", "lane"),
    ),
    events.ProviderPaused: _row("warning", Adds("tidings_provider_pauses", "Accounts put to rest", label="code")),
    events.BreakerChanged: _row(
        "warning", Adds("tidings_breaker_changes", "Breakers that changed, by their new state", label="state")
    ),
    events.LinedUp: _row("debug", Adds("tidings_lined_up", "Turns given to what waited for an account", "count")),
    events.FailedOver: _row("debug", Adds("tidings_failovers", "Calls passed on to the next account", label="code")),
    events.ProviderStateSet: _row("info", Adds("tidings_provider_states", "Orders of operators", label="state")),
    events.RendererKilled: _row("warning", Adds("tidings_renderer_kills", "Renderers ended", label="reason")),
    events.DeadLettered: _row("warning", Adds("tidings_dead_lettered", "To the dead letters", "count", "reason")),
    events.DeadLettersDecided: _row(
        "info", Adds("tidings_dead_letters_decided", "Dead letters on which a person decided, by how", "count", "how")
    ),
    events.ReceiptsFiled: _row(
        "debug",
        Adds("tidings_receipts", "Receipts filed", "new"),
        Adds("tidings_receipts_repeated", "Receipts known already", "repeated"),
        Adds("tidings_receipts_unknown", "Receipts that name no delivery of ours", "unknown"),
    ),
    events.AddressesGone: _row(
        "info", Adds("tidings_addresses_gone", "Addresses that take nothing any more", "reasons", "reason")
    ),
    events.ReceiptForged: _row("warning", Adds("tidings_receipts_forged", "Receipt calls with a wrong signature")),
    events.CallbacksPosted: _row(
        "debug", Adds("tidings_callbacks", "Calls to callers' systems, by what came of them", "outcomes", "outcome")
    ),
    events.CallbacksDropped: _row(
        "warning", Adds("tidings_callbacks_dropped", "Callbacks that nobody will be told", "count", "why")
    ),
    events.CallbacksCounted: _row(
        "debug",
        Shows("tidings_callbacks_waiting", "Callbacks still to be told, up to 100,000", "waiting", "shard"),
        Shows("tidings_callbacks_oldest_due_seconds", "Since the oldest callback was due", "oldest_due_s", "shard"),
    ),
    events.WebhookDisabled: _row(
        "warning", Adds("tidings_webhooks_disabled", "Webhooks that are no longer called", label="why")
    ),
    events.SweepDone: _row(
        "debug",
        Adds("tidings_swept_rows", "Rows changed by a periodic pass", "rows", "sweep"),
        Observes("tidings_sweep_seconds", "One periodic pass", "took_s"),
    ),
}

Meter = Callable[[Any], None]


class Telemetry:
    """The events of one process. ``emit`` never raises and never waits for anything but its stream."""

    def __init__(self, role: str, level: str = "info", stream: TextIO | None = None) -> None:
        self.role = role
        self._registry = CollectorRegistry()
        self._counters: dict[str, Counter] = {}
        ProcessCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        self._log = _logger(stream or sys.stderr, _LEVELS[level]).bind(process=role)
        self._least = _LEVELS[level]
        self._meters: dict[type, tuple[Meter, ...]] = {
            kind: tuple(map(self._meter, row.meters)) for kind, row in ROWS.items()
        }
        self._levels: dict[type, int] = {kind: _LEVELS[row.level] for kind, row in ROWS.items()}

    def emit(self, event: object) -> None:
        """Counts an event of ``domain.events`` and logs it when its level asks for it."""
        for meter in self._meters[type(event)]:
            meter(event)
        level = self._levels[type(event)]
        if level >= self._least:
            self._log.log(level, type(event).__name__, **_safe(event))

    def exposition(self) -> bytes:
        """All metrics in the text format of Prometheus; see CONTENT_TYPE."""
        return generate_latest(self._registry)

    def counted(self, metric: str) -> Mapping[str, int]:
        """What a counter has come to, by the values of its label; by "" where it has none."""
        found = (one for family in self._counters[metric].collect() for one in family.samples)
        return {"".join(one.labels.values()): int(one.value) for one in found if one.name.endswith("_total")}

    def capture_logging(self) -> None:
        """Libraries' own log lines, from warnings up, go the same way: their templates, never their values."""
        root = logging.getLogger()
        root.handlers[:] = [_Capture(self._log)]
        root.setLevel(logging.WARNING)

    def _meter(self, meter: Meters) -> Meter:
        match meter:
            case Shows():
                labels = (meter.whose, *meter.labels)
                return _showing(Gauge(meter.metric, meter.text, labels, registry=self._registry), meter)
            case Observes():
                return _observing(
                    Histogram(meter.metric, meter.text, registry=self._registry, buckets=_SECONDS), meter.field
                )
            case Adds():
                self._counters[meter.metric] = counter = Counter(
                    meter.metric, meter.text, meter.labels, registry=self._registry
                )
                return _adding_by(counter, meter) if meter.labels else _adding(counter, meter.field)


def failure(loop: str, error: BaseException) -> events.LoopFailed:
    """A bug as an event: its type and the frames that led to it, without the message, which could hold values."""
    return events.LoopFailed(loop, type(error).__qualname__, _frames(error))


def adapter_fault(account: int, error: BaseException) -> events.AdapterFault:
    """The same for a bug in a provider's adapter."""
    return events.AdapterFault(account, type(error).__qualname__, _frames(error))


def _frames(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)[-8:]
    return " < ".join(f"{frame.name}:{frame.filename.rpartition('/')[2]}:{frame.lineno}" for frame in reversed(frames))


def _adding(counter: Counter, field: str | None) -> Meter:
    if field is None:
        return lambda _: counter.inc()
    return lambda event: counter.inc(getattr(event, field))


def _adding_by(counter: Counter, meter: Adds) -> Meter:
    field, labels = meter.field, meter.labels

    def add(event: Any) -> None:
        amount = getattr(event, field) if field else 1
        whole = amount if isinstance(amount, Mapping) else {getattr(event, labels[0]): amount}
        for values, count in whole.items():
            counter.labels(*(values if isinstance(values, tuple) else (values,))).inc(count)

    return add


def _showing(gauge: Gauge, meter: Shows) -> Meter:
    shown = defaultdict[str, set[tuple[str, ...]]](set)

    def show(event: Any) -> None:
        whose, figure = str(getattr(event, meter.whose)), getattr(event, meter.field)
        figures = figure if meter.labels else {(): figure}
        for gone in shown[whose] - figures.keys():
            gauge.remove(whose, *gone)
        for key, one in figures.items():
            gauge.labels(whose, *key).set(one)
        shown[whose] = set(figures)

    return show


def _observing(histogram: Histogram, field: str) -> Meter:
    def observe(event: Any) -> None:
        value = getattr(event, field)
        for one in value if isinstance(value, tuple) else (value,):
            histogram.observe(one)

    return observe


def _logger(stream: TextIO, least: int) -> Any:
    return structlog.wrap_logger(
        structlog.WriteLogger(stream),
        processors=[structlog.processors.add_log_level, _stamped, structlog.processors.JSONRenderer(_json)],
        wrapper_class=structlog.make_filtering_bound_logger(least),
    )


def _stamped(_logger: Any, _method: str, line: MutableMapping[str, Any]) -> Mapping[str, Any]:
    return {"at": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"), **line}


def _json(line: Mapping[str, Any], **_: Any) -> str:
    return msgspec.json.encode(line).decode()


def _safe(event: Any) -> dict[str, Any]:
    return {name: _plain(value) for name, value in msgspec.structs.asdict(event).items()}


def _plain(value: Any) -> Any:
    match value:
        case str():
            return escaped(value)
        case Mapping():
            return {escaped(str(key)): _plain(one) for key, one in value.items()}
        case tuple():
            return len(value)
        case _:
            return value


def escaped(text: str) -> str:
    """One line without control characters, whatever came in, and not too long."""
    text = text[:_TEXT_MAX]
    return text if text.isprintable() else repr(text)[1:-1]


class _Capture(logging.Handler):
    """What libraries log: the template of the message and the type of the error, without any values."""

    def __init__(self, log: Any) -> None:
        super().__init__()
        self._lines = log

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info and record.exc_info[1]
        fault = failure(record.name, error) if error else None
        self._lines.log(
            record.levelno,
            "LibraryLogged",
            logger=escaped(record.name),
            template=escaped(record.msg) if isinstance(record.msg, str) else type(record.msg).__name__,
            error=fault and fault.error,
            where=fault and fault.where,
        )

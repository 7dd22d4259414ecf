"""Events become lines and figures, and nothing else does."""

import io
import json
import logging
from collections.abc import Mapping
from inspect import getmembers, isclass
from typing import get_type_hints

import pytest
from prometheus_client.parser import text_string_to_metric_families as families

from tidings.domain import events
from tidings.runtime.telemetry import ROWS, Adds, Observes, Shows, Telemetry, escaped, failure

KINDS = [kind for _, kind in getmembers(events, isclass) if issubclass(kind, events.Event) and kind is not events.Event]


def sample(kind: type[events.Event]) -> events.Event:
    values = {
        int: 3,
        float: 0.25,
        str: "reason",
        tuple[float, ...]: (0.1, 0.2),
        Mapping[str, int]: {"sent": 2, "again": 1},
        Mapping[tuple[str], int]: {("email.transactional",): 2},
        Mapping[tuple[str], float]: {("email.transactional",): 0.5},
        Mapping[tuple[str, str], int]: {("email", "sendgrid"): 2},
        Mapping[tuple[str, str, str], int]: {("sms", "twilio", "USD"): 16_600},
        Mapping[tuple[str, str], float]: {("email", "sendgrid"): 0.5},
    }
    return kind(**{name: values[type_] for name, type_ in get_type_hints(kind).items()})


def figures(telemetry: Telemetry) -> dict[tuple[str, ...], float]:
    text = telemetry.exposition().decode()
    found = [one for family in families(text) for one in family.samples]
    return {(one.name, *one.labels.values()): one.value for one in found if one.value}


def lines(stream: io.StringIO) -> list[dict]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.mark.parametrize("kind", KINDS)
def test_every_event_has_a_row_and_shows_its_fields(kind):
    stream = io.StringIO()
    telemetry = Telemetry("worker", "debug", stream)
    telemetry.emit(sample(kind))
    (line,) = lines(stream)
    assert line["event"] == kind.__name__
    assert line["process"] == "worker"
    assert set(get_type_hints(kind)) <= set(line)


@pytest.mark.parametrize("kind", KINDS)
def test_no_event_has_room_for_what_came_from_outside(kind):
    forbidden = {"address", "email", "phone", "user", "body", "content", "payload", "subject", "text", "message"}
    forbidden |= {"token", "key", "secret", "url", "detail"}
    assert not set(get_type_hints(kind)) & forbidden


@pytest.mark.parametrize("kind", [kind for kind in KINDS if ROWS[kind].meters])
def test_every_meter_of_an_event_moves(kind):
    telemetry = Telemetry("worker", "error", io.StringIO())
    before = figures(telemetry)
    telemetry.emit(sample(kind))
    moved = {key[0] for key, value in figures(telemetry).items() if before.get(key) != value}
    endings = {Adds: "_total", Observes: "_count", Shows: ""}
    assert {meter.metric + endings[type(meter)] for meter in ROWS[kind].meters} <= moved


def test_counts_by_outcome_are_kept_apart():
    telemetry = Telemetry("worker", "error", io.StringIO())
    for _ in range(2):
        lane = "email.transactional"
        telemetry.emit(events.BatchSettled({"sent": 5, "again": 1}, {lane: 5}, {lane: 4}, lost=2, took_s=0.01))
    found = figures(telemetry)
    assert found["tidings_settled_total", "sent"] == 10
    assert found["tidings_settled_total", "again"] == 2
    assert found["tidings_settled_by_others_total",] == 4
    assert (found["tidings_left_total", lane], found["tidings_sent_total", lane]) == (10, 8)


def test_costs_are_added_up_by_channel_kind_and_currency():
    telemetry = Telemetry("worker", "error", io.StringIO())
    dollars, euros = ("sms", "twilio", "USD"), ("sms", "twilio", "EUR")
    for costs_micros in ({dollars: 8_300, euros: 1}, {dollars: 73_200}):
        telemetry.emit(events.CostsIncurred(costs_micros))
    found = figures(telemetry)
    named = {key[1:]: value for key, value in found.items() if key[0] == "tidings_cost_micros_total"}
    assert {frozenset(key): value for key, value in named.items()} == {frozenset(dollars): 81_500, frozenset(euros): 1}


def test_a_gauge_shows_what_each_shard_knew_last_and_forgets_what_is_gone():
    telemetry, oldest = Telemetry("relay", "error", io.StringIO()), {}
    by_mail, by_text = ("email", "sendgrid"), ("sms", "twilio")
    for shard, counts in ((0, {by_mail: 5, by_text: 1}), (1, {by_mail: 2}), (0, {by_mail: 3})):
        telemetry.emit(events.DoubtsCounted(shard, counts, oldest))
    found = {key[1:]: value for key, value in figures(telemetry).items() if key[0] == "tidings_in_doubt"}
    assert found == {(*by_mail, "0"): 3, (*by_mail, "1"): 2}


def test_what_was_counted_can_be_read_back_by_its_label():
    telemetry = Telemetry("work", "error", io.StringIO())
    assert telemetry.counted("tidings_claimed") == {}
    assert telemetry.counted("tidings_accepted") == {"": 0}
    for lane, count in (("email.transactional", 3), ("sms.promotional", 1), ("email.transactional", 4)):
        telemetry.emit(events.BatchClaimed(lane, count, 0.01))
    telemetry.emit(events.NotificationsAccepted(3, 1, 0))
    assert telemetry.counted("tidings_claimed") == {"email.transactional": 7, "sms.promotional": 1}
    assert telemetry.counted("tidings_accepted") == {"": 3}


def test_a_gauge_without_labels_has_one_figure_for_each_shard():
    telemetry = Telemetry("relay", "error", io.StringIO())
    for shard, waiting in ((0, 5), (1, 2), (0, 3)):
        telemetry.emit(events.CallbacksCounted(shard, waiting, oldest_due_s=0.0))
    found = {key[1:]: value for key, value in figures(telemetry).items() if key[0] == "tidings_callbacks_waiting"}
    assert found == {("0",): 3, ("1",): 2}


def test_below_its_level_an_event_is_counted_but_not_logged():
    stream = io.StringIO()
    telemetry = Telemetry("api", "info", stream)
    telemetry.emit(events.NotificationsAccepted(3, 1, 0))
    assert stream.getvalue() == ""
    assert figures(telemetry)["tidings_accepted_total",] == 3


@pytest.mark.parametrize("attack", ['x\n{"event": "forged"}', "a\r\nb", "a\x1b[2Jb", "a\u2028b", "a\x85b"])
def test_no_value_can_forge_a_line(attack):
    stream = io.StringIO()
    Telemetry("api", "info", stream).emit(events.DeadLettered(1, attack))
    text = stream.getvalue()
    assert text.count("\n") == 1
    assert text.removesuffix("\n").isprintable()
    assert len(text.splitlines()) == 1


def test_long_text_is_cut():
    assert len(escaped("x" * 100_000)) < 3000


def test_a_bug_is_reported_by_type_and_place_without_its_message():
    try:
        raise ValueError("somebody@example.com")
    except ValueError as error:
        event = failure("deliver", error)
    assert event.error == "ValueError"
    assert "test_a_bug_is_reported_by_type_and_place" in event.where
    assert "somebody" not in repr(event)


def test_libraries_log_their_templates_but_no_values():
    stream = io.StringIO()
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        Telemetry("api", "info", stream).capture_logging()
        logging.getLogger("some.library").info("chatter")
        try:
            raise LookupError("somebody@example.com")
        except LookupError:
            logging.getLogger("some.library").exception("cannot reach %s", "somebody@example.com")
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    (line,) = lines(stream)
    assert (line["template"], line["error"], line["level"]) == ("cannot reach %s", "LookupError", "error")
    assert "somebody" not in stream.getvalue()

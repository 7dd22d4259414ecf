from datetime import UTC, datetime, timedelta
from itertools import product

import pytest

from tidings.domain.delivery import UNFINISHED, Mark, State, Status, overall, status_of

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
LATER = NOW + timedelta(seconds=1)
WHENS = (None, NOW - timedelta(days=1), NOW, LATER)


def test_every_combination_of_rows_has_a_status():
    for mark, state, send_at in product(Mark, (*State, None), WHENS):
        assert status_of(mark, state, send_at, NOW) in Status


@pytest.mark.parametrize("mark", [mark for mark in Mark if mark != Mark.pending])
def test_a_last_word_is_the_status_whatever_the_dispatch_says(mark):
    assert {status_of(mark, state, when, NOW) for state, when in product((*State, None), WHENS)} == {Status(mark.name)}


@pytest.mark.parametrize(
    "state, send_at, status",
    [
        (State.ready, None, Status.queued),
        (State.ready, NOW, Status.queued),
        (State.ready, LATER, Status.scheduled),
        (State.leased, LATER, Status.sending),
        (State.inflight, None, Status.sending),
        (State.in_doubt, None, Status.in_doubt),
        (State.dead, None, Status.dead),
    ],
)
def test_without_a_last_word_the_dispatch_tells_the_status(state, send_at, status):
    assert status_of(Mark.pending, state, send_at, NOW) == status


def test_the_status_is_unfinished_exactly_while_work_is_left():
    for state in (State.ready, State.leased, State.inflight, State.in_doubt):
        assert status_of(Mark.pending, state, None, NOW) in UNFINISHED
    finished = {Status(mark.name) for mark in Mark if mark != Mark.pending}
    assert not finished & UNFINISHED
    assert set(Status) == finished | UNFINISHED


def test_a_notification_of_one_delivery_has_its_status():
    assert [overall([status]) for status in Status] == list(Status)


def test_a_notification_is_unfinished_while_any_delivery_is():
    for one, other in product(Status, Status):
        result = overall([one, other])
        assert result in (one, other)
        assert result == overall([other, one])
        assert (result in UNFINISHED) == bool({one, other} & UNFINISHED)


@pytest.mark.parametrize(
    "statuses, best",
    [
        ([Status.failed, Status.delivered], Status.delivered),
        ([Status.sent, Status.undelivered], Status.sent),
        ([Status.unknown, Status.failed], Status.unknown),
        ([Status.suppressed, Status.dead, Status.expired], Status.dead),
        ([Status.queued, Status.delivered], Status.queued),
        ([Status.in_doubt, Status.sending], Status.in_doubt),
    ],
)
def test_a_finished_notification_is_as_good_as_its_best_delivery(statuses, best):
    assert overall(statuses) == best


def test_the_numbers_are_stored_and_so_never_change():
    assert {mark.name: mark.value for mark in Mark} == {
        "pending": 0,
        "unknown": 5,
        "sent": 10,
        "delivered": 20,
        "undelivered": 30,
        "failed": 40,
        "suppressed": 41,
        "cancelled": 42,
        "expired": 43,
        "dead": 44,
    }
    assert {state.name: state.value for state in State} == {
        "ready": 0,
        "leased": 1,
        "inflight": 2,
        "in_doubt": 3,
        "dead": 4,
    }

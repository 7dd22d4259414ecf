"""How an account is, from what the workers say of it."""

from datetime import UTC, datetime, timedelta

import pytest

from tidings.domain.breaker import BreakerState
from tidings.ports import Seen
from tidings.web.wellbeing import Wellbeing, wellbeing

NOW = datetime(2026, 5, 1, tzinfo=UTC)


def seen(state: str, why: str = "http_503", since_s: float = 0.0, account: int = 1) -> Seen:
    return Seen(account, BreakerState(state), why, since=NOW + timedelta(seconds=since_s))


@pytest.mark.parametrize(
    ("reports", "breaker", "workers_open"),
    [
        ([], "closed", 0),
        ([[], []], "closed", 0),
        ([[seen("open", account=2)]], "closed", 0),
        ([[seen("open")]], "open", 1),
        ([[seen("open")], []], "closed", 1),
        ([[seen("open")], [seen("open")], []], "open", 2),
        ([[seen("open")], [seen("half_open")], []], "open", 2),
        ([[seen("half_open")], [seen("half_open")], [seen("open")]], "half_open", 3),
        ([[seen("half_open")], []], "closed", 1),
    ],
)
def test_it_is_shown_as_most_workers_find_it(reports, breaker, workers_open):
    found = wellbeing(reports, 1)
    assert (found.breaker, found.workers_open) == (breaker, workers_open)


def test_why_is_what_most_say_and_since_is_the_first_of_them():
    found = wellbeing([[seen("open", "reset", 5)], [seen("open", "http_503", 3)], [seen("open", "http_503", 4)]], 1)
    assert found == Wellbeing(BreakerState.open, 3, "http_503", NOW + timedelta(seconds=3))


def test_an_account_that_rests_is_not_broken():
    rests = [Seen(1, BreakerState.closed, "http_429", rests_until=NOW + timedelta(seconds=s)) for s in (4, 9)]
    found = wellbeing([[one] for one in rests], 1)
    assert (found.breaker, found.workers_open, found.why) == ("closed", 0, "http_429")
    assert found.rests_until == NOW + timedelta(seconds=9)
    assert found.since is None

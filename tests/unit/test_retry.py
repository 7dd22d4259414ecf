import pytest

from tidings.domain.delivery import Mark
from tidings.domain.dispatch import Again, Bury, Doubt, Finish
from tidings.domain.outcome import Fenced, Refused, Sent, TryLater, TryNext, Unsure
from tidings.domain.retry import Tried, next_step

SCHEDULE_S = (60.0, 300.0, 900.0)
MIDDLE = 0.5
FRESH = Tried(spent=0, tried=(), provider=1, route=(1, 2))


@pytest.mark.parametrize(
    "said, to",
    [
        (Sent("m"), Finish(Mark.sent)),
        (Refused("http_400"), Finish(Mark.failed, "provider_refused")),
        (Unsure("timeout"), Doubt("timeout")),
        (Fenced(), Again(0.0, "fenced")),
        (TryNext("connect_refused"), Again(0.0, "connect_refused", tried=(1,))),
        (TryLater("busy"), Again(60.0, "busy", spent=1)),
        (TryLater("busy", after_s=75.0), Again(75.0, "busy", spent=1)),
        (TryLater("busy", after_s=5.0), Again(60.0, "busy", spent=1)),
        (TryLater("http_429", after_s=20.0, account=True), Again(0.0, "http_429")),
        (TryLater("http_401", account=True), Again(0.0, "http_401")),
    ],
)
def test_what_a_first_answer_leads_to(said, to):
    assert next_step(said, FRESH, SCHEDULE_S, MIDDLE) == to


def test_the_last_provider_of_a_round_leads_to_the_next_round_with_nothing_tried():
    last = Tried(spent=1, tried=(1,), provider=2, route=(1, 2))
    assert next_step(TryNext("http_503"), last, SCHEDULE_S, MIDDLE) == Again(300.0, "http_503", spent=1, tried=())


def test_an_account_that_must_wait_is_waited_for_where_no_other_takes_calls():
    said = TryLater("http_429", after_s=20.0, account=True)
    alone, last = Tried(0, (), provider=1, route=(1,)), Tried(0, (1,), provider=2, route=(1, 2))
    assert next_step(said, alone, SCHEDULE_S, MIDDLE) == Again(20.0, "http_429", waits=True)
    assert next_step(said, last, SCHEDULE_S, MIDDLE) == Again(20.0, "http_429", tried=(1,), waits=True)


@pytest.mark.parametrize("takers", [(), (1,)])
def test_a_round_ends_where_no_other_account_takes_calls(takers):
    tried = Tried(0, (), provider=1, route=takers)
    assert next_step(TryNext("http_503"), tried, SCHEDULE_S, MIDDLE) == Again(60.0, "http_503", spent=1)


@pytest.mark.parametrize("said", [TryLater("busy"), TryNext("http_503")])
def test_a_used_up_schedule_leads_to_the_dead_letters(said):
    last = Tried(spent=3, tried=(1,), provider=2, route=(1, 2))
    assert next_step(said, last, SCHEDULE_S, MIDDLE) == Bury("attempts_used")


def test_an_answer_that_settles_counts_also_when_the_schedule_is_used_up():
    last = Tried(spent=3, tried=(1,), provider=2, route=(1, 2))
    assert next_step(Sent("m"), last, SCHEDULE_S, MIDDLE) == Finish(Mark.sent)
    assert next_step(Unsure("reset"), last, SCHEDULE_S, MIDDLE) == Doubt("reset")
    waits = next_step(TryLater("http_429", account=True), last, SCHEDULE_S, MIDDLE)
    assert waits == Again(0.0, "http_429", tried=(1,), waits=True)


@pytest.mark.parametrize("luck, wait_s", [(0.0, 48.0), (0.25, 54.0), (0.5, 60.0), (0.75, 66.0)])
def test_luck_spreads_a_wait_over_a_fifth_to_either_side(luck, wait_s):
    assert next_step(TryLater("busy"), FRESH, SCHEDULE_S, luck).after_s == pytest.approx(wait_s)


def test_a_provider_that_left_the_route_still_ends_its_round():
    gone = Tried(spent=0, tried=(1, 2), provider=9, route=(1, 2))
    assert next_step(TryNext("http_503"), gone, SCHEDULE_S, MIDDLE) == Again(60.0, "http_503", spent=1)

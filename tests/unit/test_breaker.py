"""When an account is left alone, and when it is tried again."""

from itertools import pairwise

import pytest
from msgspec.structs import replace

from tidings.domain.breaker import Breaker, BreakerRules, BreakerState

RULES = BreakerRules(5, 1.0, 0.5, 20, 30.0, 60.0, 600.0, 20.0)


def hear(breaker: Breaker, answers: str, at_s: float, apart_s: float = 0.0) -> float:
    """Calls one after the other, ``x`` fails and ``.`` is answered; returns when the last one ended."""
    for n, answer in enumerate(answers):
        now_s = at_s + n * apart_s
        breaker.heard("http_503" if answer == "x" else None, now_s, now_s)
    return at_s + (len(answers) - 1) * apart_s


def opened(at_s: float = 100.0, rules: BreakerRules = RULES) -> tuple[Breaker, float]:
    breaker = Breaker(rules)
    return breaker, hear(breaker, "xxxxx", at_s, 0.25)


def probed(breaker: Breaker, answer: str) -> float:
    """The probe goes as soon as it may, and is answered at once."""
    now_s = breaker.since_s + breaker.wait_s(breaker.since_s)
    assert breaker.passed(now_s)
    hear(breaker, answer, now_s)
    return now_s


@pytest.mark.parametrize(
    ("answers", "apart_s", "state"),
    [
        ("xxxxx", 0.25, "open"),
        ("xxxx", 5.0, "closed"),
        ("xxxxx", 0.24, "closed"),
        ("xxxxxxxxxx", 0.01, "closed"),
        ("xxxx.xxxx", 1.0, "closed"),
        ("xxxx.xxxxx", 1.0, "open"),
        ("x" * 20, 0.0, "open"),
        ("x." * 10, 0.0, "closed"),
        ("x." * 10 + "x", 0.0, "open"),
        ("x." * 5 + "x" * 4, 0.0, "closed"),
        ("." * 1000 + "x" * 20, 0.0, "closed"),
    ],
)
def test_it_opens_at_five_failures_in_a_row_or_when_most_of_twenty_have_failed(answers, apart_s, state):
    breaker = Breaker(RULES)
    hear(breaker, answers, 100.0, apart_s)
    assert breaker.state == state


def test_failures_that_lie_further_back_than_the_window_do_not_count():
    breaker = Breaker(RULES)
    hear(breaker, "x." * 9 + "x", 100.0)
    hear(breaker, ".xx", 134.0)
    assert breaker.state is BreakerState.closed
    hear(breaker, "x." * 9 + "x", 134.0)
    assert breaker.state is BreakerState.open


def test_an_open_one_lets_nobody_through_before_its_time_and_then_one():
    breaker, now_s = opened()
    assert breaker.why == "http_503"
    assert breaker.wait_s(now_s) == 60.0
    assert breaker.wait_s(now_s + 59.0) == 1.0
    assert breaker.wait_s(now_s + 60.0) == 0.0
    assert breaker.passed(now_s + 60.0)
    assert breaker.state is BreakerState.half_open
    assert breaker.wait_s(now_s + 60.0) == 20.0, "the others wait for what becomes of the probe"


def test_a_probe_that_is_answered_closes_it():
    breaker, _ = opened()
    now_s = probed(breaker, ".")
    assert breaker.state is BreakerState.closed
    assert breaker.wait_s(now_s) == 0.0


def test_it_counts_from_nothing_once_it_is_closed_again():
    breaker, _ = opened()
    now_s = probed(breaker, ".")
    hear(breaker, "xxxx", now_s + 1, 1.0)
    assert breaker.state is BreakerState.closed


def test_the_time_doubles_while_probes_fail_up_to_the_most():
    breaker, _ = opened()
    waits_s = []
    for _ in range(6):
        waits_s.append(breaker.wait_s(breaker.since_s))
        probed(breaker, "x")
    assert waits_s == [60, 120, 240, 480, 600, 600]


def test_one_that_breaks_again_soon_is_left_alone_for_longer_and_one_that_held_is_forgiven():
    breaker, _ = opened()
    now_s = probed(breaker, ".")
    hear(breaker, "xxxxx", now_s + 57, 0.5)
    assert breaker.wait_s(breaker.since_s) == 120.0, "closed for less than the minute that it had been open"
    now_s = probed(breaker, ".")
    hear(breaker, "xxxxx", now_s + 120, 0.5)
    assert breaker.wait_s(breaker.since_s) == 60.0


def test_a_probe_that_nobody_hears_of_makes_way_for_another():
    breaker, now_s = opened()
    breaker.passed(now_s + 60)
    assert breaker.wait_s(now_s + 79) == 1.0
    assert breaker.wait_s(now_s + 80) == 0.0
    assert not breaker.passed(now_s + 80), "the state is what it was"
    assert breaker.wait_s(now_s + 81) == 19.0
    hear(breaker, ".", now_s + 82)
    assert breaker.state is BreakerState.closed


@pytest.mark.parametrize("answer", ["x", "."])
def test_an_answer_to_a_call_from_before_says_nothing_about_the_probe(answer):
    breaker, now_s = opened()
    failed = "timeout" if answer == "x" else None
    assert not breaker.heard(failed, now_s - 1, now_s + 1)
    breaker.passed(now_s + 60)
    assert not breaker.heard(failed, now_s - 1, now_s + 61)
    assert breaker.state is BreakerState.half_open


def test_a_provider_that_comes_and_goes_is_switched_ever_more_rarely():
    rules = replace(RULES, open_s=6.0, open_most_s=60.0)
    breaker, changes_s = Breaker(rules), list[float]()
    for step in range(6_000):
        now_s, down = step / 10, step // 100 % 2
        if breaker.wait_s(now_s) > 0:
            continue
        changed = breaker.passed(now_s)
        changed |= breaker.heard("http_503" if down else None, now_s, now_s)
        if changed and breaker.state is BreakerState.open:
            changes_s.append(now_s)
    assert len(changes_s) <= 20, "ten minutes, in which it goes and comes thirty times"
    assert max(later - earlier for earlier, later in pairwise(changes_s)) >= 40

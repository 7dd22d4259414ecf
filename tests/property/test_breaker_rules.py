"""Any history of calls: the breaker does what its rules say, against the plainest count of the same history."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tidings.domain.breaker import Breaker, BreakerRules, BreakerState
from tidings.domain.pace import Pace, Waiting

rules = st.builds(
    BreakerRules,
    failures=st.integers(1, 6),
    failures_s=st.sampled_from([0.0, 1.0]),
    share=st.sampled_from([0.25, 0.5]),
    share_of=st.integers(1, 12),
    window_s=st.just(30.0),
    open_s=st.sampled_from([1.0, 5.0]),
    open_most_s=st.sampled_from([5.0, 40.0]),
    probe_s=st.just(4.0),
)
calls = st.lists(st.tuples(st.booleans(), st.floats(0.0, 3.0), st.floats(0.0, 2.0)), max_size=60)


@given(rules, calls)
def test_a_closed_one_opens_exactly_when_the_plain_count_says_so(rules, calls):
    breaker, past, now_s = Breaker(rules), list[tuple[float, bool]](), 0.0
    for failed, apart_s, _ in calls:
        now_s += apart_s
        past.append((now_s, failed))
        breaker.heard("x" if failed else None, now_s, now_s)
        surely, perhaps = too_many(rules, past, now_s, rules.window_s * 0.9), too_many(rules, past, now_s, 30.0)
        if breaker.state is BreakerState.open:
            assert failed and (surely or perhaps)
            return
        assert not (failed and surely and perhaps), "the oldest slice of the window goes as a whole"


def too_many(rules, past, now_s, window_s):
    row = []
    for at_s, failed in reversed(past):
        if not failed:
            break
        row.append(at_s)
    in_a_row = len(row) >= rules.failures and now_s - row[-1] >= rules.failures_s
    slice_s = rules.window_s / 10
    recent = [failed for at_s, failed in past if int(at_s / slice_s) > int(now_s / slice_s) - window_s / slice_s]
    return in_a_row or (len(recent) >= rules.share_of and sum(recent) > rules.share * len(recent))


@given(rules, calls)
def test_while_it_is_not_closed_calls_that_begin_are_apart_by_its_waits(rules, calls):
    """Each call asks first, and takes its time: between two probes lies the patience for the first."""
    breaker, now_s, passed_s = Breaker(rules), 0.0, None
    for failed, apart_s, takes_s in calls:
        now_s += apart_s
        if breaker.wait_s(now_s) > 0:
            continue
        if breaker.state is BreakerState.half_open:
            assert now_s - passed_s >= rules.probe_s
        breaker.passed(now_s)
        passed_s = began_s = now_s
        now_s += takes_s
        before = breaker.state
        breaker.heard("x" if failed else None, began_s, now_s)
        if before is BreakerState.half_open:
            assert breaker.state is (BreakerState.open if failed else BreakerState.closed)


@given(rules, calls)
def test_it_is_never_open_for_longer_than_the_most(rules, calls):
    breaker, now_s = Breaker(rules), 0.0
    for failed, apart_s, _ in calls:
        now_s += apart_s
        breaker.passed(now_s) if breaker.wait_s(now_s) == 0 else None
        breaker.heard("x" if failed else None, now_s, now_s)
        assert breaker.wait_s(now_s) <= max(rules.open_most_s, rules.probe_s) + 1e-9


waiting = st.builds(Waiting, st.booleans(), st.integers(0, 5))


@given(st.floats(0.5, 500), st.lists(st.tuples(st.floats(0, 0.1), waiting), max_size=200))
def test_no_second_sees_more_than_the_rate_and_what_one_second_gave(per_s, asks):
    """Within the first minute, before the rate may double."""
    pace, now_s, passed_s = Pace(per_s, 0.0), 0.0, list[float]()
    for apart_s, who in asks:
        now_s += apart_s
        if pace.wait_s(now_s, who) == 0:
            pace.passed(now_s)
            passed_s.append(now_s)
        else:
            pace.queued(now_s, who)
    for began_s in passed_s:
        within = [at_s for at_s in passed_s if began_s <= at_s <= began_s + 1]
        assert len(within) <= per_s + max(per_s, 2) + 1e-6


@given(st.floats(0.5, 500), st.lists(waiting, max_size=100), st.lists(waiting, max_size=100))
def test_among_those_who_waited_before_turns_are_in_the_order_of_class_and_age(per_s, before, again):
    first = Pace(per_s, 10.0)
    for who in before:
        assert first.wait_s(0.0, who) >= 10.0
        first.queued(0.0, who)
    second = Pace(per_s, 20.0, first)
    turns_s = [(who.promotional, who.accepted_s, second.wait_s(10.0, who)) for who in sorted(again, key=order)]
    for earlier, later in pairwise(turns_s):
        assert earlier[2] <= later[2] + 1e-9


def order(who: Waiting) -> tuple[bool, int]:
    return who.promotional, who.accepted_s

"""Any history of calls: the breaker does what its rules say, against the plainest count of the same history."""

from hypothesis import given
from hypothesis import strategies as st

from tidings.domain.breaker import Breaker, BreakerRules, BreakerState

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

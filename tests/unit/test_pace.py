"""Work that comes back to an account that was away."""

from heapq import heapify, heappop, heappush

import pytest

from tidings.domain.pace import Pace


def served(pace: Pace, from_s: float, for_s: float, *, promotional: bool = False) -> int:
    """How many pass, when somebody asks all the time."""
    count, step_s = 0, 0.001
    for n in range(int(for_s / step_s)):
        now_s = from_s + n * step_s
        while pace.wait_s(now_s, promotional=promotional) == 0:
            pace.passed(now_s)
            count += 1
    return count


def test_nobody_passes_before_the_account_is_back_and_then_one_by_one():
    pace = Pace(10.0, 100.0)
    assert pace.wait_s(40.0) == 60.0
    assert pace.wait_s(100.0) == 0.0
    pace.passed(100.0)
    assert pace.wait_s(100.0) == pytest.approx(0.1)
    assert pace.wait_s(100.1) == 0.0


def test_those_who_wait_are_told_turns_one_behind_the_other():
    pace = Pace(10.0, 100.0)
    waits_s = []
    for _ in range(4):
        waits_s.append(pace.wait_s(40.0))
        pace.queued(40.0)
    assert waits_s == pytest.approx([60.0, 60.1, 60.2, 60.3])


def arrive(pace: Pace, per_s: float, for_s: float, backlog: int = 0) -> list[float]:
    """A backlog and so many more in a second ask, come back at the turns that they are told, and pass; gives when."""
    asking = [0.0] * backlog + [n / per_s for n in range(int(for_s * per_s))]
    heapify(asking)
    passed_s = []
    while asking and (now_s := heappop(asking)) < for_s:
        wait_s = pace.wait_s(now_s)
        if wait_s > 0:
            pace.queued(now_s)
            heappush(asking, now_s + wait_s)
        else:
            pace.passed(now_s)
            passed_s.append(now_s)
    return passed_s


def test_the_rate_holds_for_as_long_as_a_backlog_takes():
    passed_s = arrive(Pace(10.0, 0.0), per_s=5.0, for_s=300.0, backlog=1000)
    assert len([at_s for at_s in passed_s if at_s < 100]) == pytest.approx(1000, abs=15)
    assert len(passed_s) == pytest.approx(2500, abs=15), "all of them"


def test_where_more_comes_in_than_goes_out_the_rate_grows_until_it_suffices():
    passed_s = arrive(Pace(10.0, 0.0), per_s=50.0, for_s=600.0)
    assert len([at_s for at_s in passed_s if at_s < 30]) == pytest.approx(300, abs=15)
    assert len(passed_s) == pytest.approx(30_000, abs=60), "all of them"


def test_promotional_calls_leave_the_last_tokens_to_the_others():
    pace = Pace(10.0, 0.0)
    assert served(pace, 5.0, 0.001, promotional=True) == 7
    assert served(pace, 5.001, 0.001) == 3
    assert served(Pace(0.5, 0.0), 10.0, 3.0, promotional=True) >= 1, "and are not shut out by the slowest rate"


def test_it_is_over_once_nobody_has_waited_for_a_while():
    pace = Pace(10.0, 0.0)
    pace.queued(5.0)
    assert not pace.is_over(14.0)
    assert pace.is_over(16.0)
    pace.queued(16.0)
    assert not pace.is_over(20.0)

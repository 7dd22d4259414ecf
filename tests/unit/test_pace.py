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


def arrive(pace: Pace, asking: list[tuple[float, int, bool]], for_s: float) -> list[tuple[float, int, bool]]:
    """Each asks at an instant, comes back at the turns that it is told, and passes. Who passed, with when: instant,
    number, and whether it is promotional."""
    asking, passed = list(asking), []
    heapify(asking)
    while asking and asking[0][0] < for_s:
        now_s, number, promotional = heappop(asking)
        wait_s = pace.wait_s(now_s, promotional=promotional)
        if wait_s > 0:
            pace.queued(now_s, promotional=promotional)
            heappush(asking, (now_s + wait_s, number, promotional))
        else:
            pace.passed(now_s)
            passed.append((now_s, number, promotional))
    return passed


def steady(per_s: float, for_s: float) -> list[tuple[float, int, bool]]:
    return [(n / per_s, n, False) for n in range(int(for_s * per_s))]


def test_a_backlog_of_both_classes_comes_back_in_order_and_transactional_first():
    backlog = [(0.0, n, n < 300) for n in range(600)]
    passed = arrive(Pace(10.0, 60.0), backlog, 200.0)
    promotional = [number for _, number, promo in passed if promo]
    transactional = [number for _, number, promo in passed if not promo]
    assert len(passed) == 600
    assert transactional == sorted(transactional)
    assert promotional == sorted(promotional)
    assert [promo for *_, promo in passed].index(True) >= 290
    assert passed[-1][0] == pytest.approx(120, abs=5)


def test_the_rate_holds_for_as_long_as_a_backlog_takes():
    passed = arrive(Pace(10.0, 0.0), [(0.0, -1, False)] * 1000 + steady(5.0, 300.0), 300.0)
    assert len([one for one in passed if one[0] < 100]) == pytest.approx(1000, abs=15)
    assert len(passed) == pytest.approx(2500, abs=15), "all of them"


def test_where_more_comes_in_than_goes_out_the_rate_grows_until_it_suffices():
    passed = arrive(Pace(10.0, 0.0), steady(50.0, 600.0), 600.0)
    assert len([one for one in passed if one[0] < 30]) == pytest.approx(300, abs=15)
    assert len(passed) == pytest.approx(30_000, abs=60), "all of them"


def test_while_others_wait_promotional_calls_get_what_they_leave_over():
    pace = Pace(10.0, 0.0)
    pace.queued(0.0)
    assert pace.wait_s(0.05, promotional=True) > 0
    assert pace.wait_s(0.25, promotional=True) == 0.0, "nobody waits any more"
    for _ in range(1000):
        pace.queued(1.0)
    assert served(pace, 5.0, 0.001, promotional=True) == 2, "a full bucket is more than they need"
    assert served(pace, 5.001, 0.001) == 8


def test_those_who_were_told_turns_before_it_fell_away_again_still_go_first():
    pace = Pace(10.0, 200.0, others_until_s=300.0)
    assert pace.wait_s(210.0, promotional=True) == 0.0, "a full bucket is more than they need"
    pace.passed(210.0)
    pace.passed(210.0)
    assert pace.wait_s(210.0, promotional=True) == 100.0
    assert not pace.is_over(305.0)


def test_it_is_over_once_nobody_has_waited_for_a_while():
    pace = Pace(10.0, 0.0)
    pace.queued(5.0)
    assert not pace.is_over(14.0)
    assert pace.is_over(16.0)
    pace.queued(16.0)
    assert not pace.is_over(20.0)

"""Work that comes back to an account that was away."""

from heapq import heapify, heappop, heappush

import pytest

from tidings.domain.pace import Crowd, Pace, Waiting

OLD, YOUNG, NEWS = Waiting(False, 10), Waiting(False, 50), Waiting(True, 5)
Asking = tuple[float, int, Waiting]


def served(pace: Pace, from_s: float, for_s: float, who: Waiting = OLD) -> int:
    """How many pass, when somebody asks all the time."""
    count, step_s = 0, 0.001
    for n in range(int(for_s / step_s)):
        now_s = from_s + n * step_s
        while pace.wait_s(now_s, who) == 0:
            pace.passed(now_s)
            count += 1
    return count


def told(pace: Pace, now_s: float, *who: Waiting) -> list[float]:
    """How long each has to wait, one after the other."""
    waits_s = []
    for one in who:
        waits_s.append(pace.wait_s(now_s, one))
        pace.queued(now_s, one)
    return waits_s


def arrive(pace: Pace, asking: list[Asking], for_s: float) -> list[Asking]:
    """Each asks at an instant, comes back at the turns that it is told, and passes. Who passed, and when."""
    asking, passed = list(asking), []
    heapify(asking)
    while asking and asking[0][0] < for_s:
        now_s, number, who = heappop(asking)
        wait_s = pace.wait_s(now_s, who)
        if wait_s > 0:
            pace.queued(now_s, who)
            heappush(asking, (now_s + wait_s, number, who))
        else:
            pace.passed(now_s)
            passed.append((now_s, number, who))
    return passed


def steady(per_s: float, for_s: float) -> list[Asking]:
    return [(n / per_s, n, Waiting(False, int(n / per_s))) for n in range(int(for_s * per_s))]


def test_nobody_passes_before_the_account_is_back_and_then_one_by_one():
    pace = Pace(10.0, 100.0)
    assert pace.wait_s(40.0, OLD) == 60.0
    assert pace.wait_s(100.0, OLD) == 0.0
    pace.passed(100.0)
    assert pace.wait_s(100.0, OLD) == pytest.approx(0.1)
    assert pace.wait_s(100.1, OLD) == 0.0


def test_those_who_wait_are_told_turns_one_behind_the_other():
    assert told(Pace(10.0, 100.0), 40.0, OLD, OLD, YOUNG, YOUNG) == pytest.approx([60.0, 60.1, 60.2, 60.3])


def test_promotional_ones_go_behind_all_others():
    assert told(Pace(10.0, 100.0), 40.0, OLD, YOUNG, NEWS, NEWS) == pytest.approx([60.0, 60.1, 60.2, 60.3])


def test_when_it_fell_away_again_the_older_ones_go_first_however_late_they_come_back():
    first = Pace(10.0, 100.0)
    told(first, 40.0, *[OLD] * 20, *[YOUNG] * 20, *[NEWS] * 20)
    second = Pace(10.0, 200.0, first)
    assert told(second, 150.0, NEWS, YOUNG, OLD, OLD, YOUNG) == pytest.approx([54.0, 52.0, 50.0, 50.1, 52.1])
    third = Pace(10.0, 300.0, second)
    assert told(third, 250.0, YOUNG) == pytest.approx([50.2]), "of the old ones two came again and were counted"


def test_before_its_turn_a_call_gets_only_what_is_left_over():
    pace = Pace(10.0, 0.0)
    told(pace, -1.0, *[OLD] * 100)
    assert pace.wait_s(0.5, NEWS) == pytest.approx(9.5)
    assert served(pace, 5.0, 0.001, NEWS) == 2, "a full bucket is more than the others need"
    assert pace.wait_s(10.001, NEWS) == 0.0


def test_a_backlog_of_both_classes_comes_back_in_order_and_transactional_first():
    backlog = [(0.0, n, Waiting(n < 300, n // 10)) for n in range(600)]
    passed = arrive(Pace(10.0, 60.0), backlog, 200.0)
    assert len(passed) == 600
    seconds = [who.accepted_s for *_, who in passed]
    assert seconds == [*sorted(seconds[:300]), *sorted(seconds[300:])]
    assert {who.promotional for *_, who in passed[:300]} == {False}
    assert passed[-1][0] == pytest.approx(120, abs=1)


def test_the_rate_holds_for_as_long_as_a_backlog_takes():
    passed = arrive(Pace(10.0, 0.0), [(0.0, -1, OLD)] * 1000 + steady(5.0, 300.0), 300.0)
    assert len([one for one in passed if one[0] < 100]) == pytest.approx(1000, abs=15)
    assert len(passed) == pytest.approx(2500, abs=15), "all of them"


def test_where_more_comes_in_than_goes_out_the_rate_grows_until_it_suffices():
    passed = arrive(Pace(10.0, 0.0), steady(50.0, 600.0), 600.0)
    assert len([one for one in passed if one[0] < 30]) == pytest.approx(300, abs=15)
    assert len(passed) == pytest.approx(30_000, abs=60), "all of them"


def test_it_is_over_once_nobody_has_waited_for_a_while():
    pace = Pace(10.0, 0.0)
    told(pace, -1.0, *[OLD] * 50)
    assert not pace.is_on(-1.0)
    assert pace.is_on(0.0)
    assert not pace.is_over(14.0)
    assert pace.is_over(15.5)
    assert not pace.is_on(15.5)


def test_a_crowd_counts_who_goes_before():
    crowd = Crowd({10: 3, 20: 2})
    assert [crowd.before(second) for second in (5, 10, 15, 20, 30)] == [0, 0, 3, 3, 5]
    for second in (10, 20, 30, 31):
        crowd.add(second)
    assert [crowd.before(second) for second in (10, 20, 40)] == [1, 4, 7]
    assert crowd.size == 7
    assert crowd.all() == {10: 1, 20: 1, 30: 1, 31: 1}

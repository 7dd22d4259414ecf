"""The line in which deliveries come back to an account that was away."""

import pytest

from tidings.domain.lanes import Class
from tidings.domain.line import HEAD_S, Line, Places

MAIL, NEWS = Class.transactional, Class.promotional


def formed(ends_s: dict[Class, float] | None = None, per_s: float = 10.0) -> Line:
    """Of an account that came back at 100, formed at 100.2."""
    line = Line(100.0, 100.0 + HEAD_S, per_s)
    line.formed(100.2, {MAIL: 120.0, NEWS: 140.0} if ends_s is None else ends_s)
    return line


def wait_s(
    line: Line, now_s: float, class_: Class = MAIL, *, turn: bool = False, since_s: float | None = None
) -> float:
    return line.wait_s(now_s, class_, has_turn=turn, since_s=since_s)


def given(turns_s: list[float | None], head_s: float = 2.0) -> list[tuple[int, float]]:
    return list(Places(100.0 + head_s, 10.0).misplaced(turns_s, 100.0))


def test_turns_are_a_beat_apart_from_the_head_on():
    assert given([900.0, None, 800.0]) == [(n, pytest.approx(2.0 + n / 10)) for n in range(3)]


def test_who_has_his_turn_or_nearly_so_is_left_alone():
    assert given([2.0, 2.18, 2.21, 5.0]) == [(3, pytest.approx(2.3))]
    assert given([1009.0, 1011.5], 1000.0) == [(1, pytest.approx(1009.0))]


def test_nobody_is_left_before_one_in_front_of_him():
    assert given([2.05, 2.02, 2.2]) == [(1, pytest.approx(2.1))]
    assert given([2.1, 2.05, 2.2]) == [(1, pytest.approx(2.1))]


def test_a_turn_that_is_over_is_now():
    assert given([50.0], -9.0) == [(0, 0.0)]


def test_until_all_have_their_turns_only_those_who_have_one_pass():
    line = Line(100.0, 101.5, 10.0)
    assert wait_s(line, 100.1) == pytest.approx(1.4)
    assert wait_s(line, 100.1, since_s=5.0) == pytest.approx(1.4), "its turn is being found"
    assert wait_s(line, 101.4) == pytest.approx(1.4), "for as long as it has taken until now"
    assert wait_s(line, 130.0) == 30.0
    assert wait_s(line, 130.0, turn=True) == 0.0
    assert line.is_due(100.0)
    assert not line.is_over()


def test_who_waited_before_passes_and_who_comes_later_waits_behind_his_class():
    line = formed()
    assert wait_s(line, 110.0, since_s=100.1) == 0.0
    assert wait_s(line, 110.0, since_s=100.3) == pytest.approx(12.0)
    assert wait_s(line, 110.0) == pytest.approx(12.0)
    assert wait_s(line, 110.0, NEWS) == pytest.approx(32.0)
    assert not line.is_due(119.4)


def test_at_the_end_of_a_class_it_is_formed_again_until_nobody_waits():
    line = formed()
    assert line.is_due(119.5), "so that nobody of the next class goes before those who came meanwhile"
    assert wait_s(line, 120.5) == 2.0, "those who came before are not in line yet"
    line.formed(120.6, {NEWS: 145.0})
    assert wait_s(line, 121.0) == 0.0
    assert wait_s(line, 121.0, NEWS) == pytest.approx(26.0)
    assert not line.is_due(121.0)
    line.formed(145.0, {})
    assert line.is_over()
    assert wait_s(line, 145.0, NEWS) == 0.0


def test_where_more_come_than_leave_it_is_formed_again_at_twice_the_rate():
    line = formed({MAIL: 1000.0})
    for _ in range(20):
        line.left()
        line.came()
    line.came()
    assert not line.is_due(131.4)
    assert line.is_due(131.5)
    assert line.per_s == 20.0
    assert not line.is_due(131.6)
    line.left()
    assert not line.is_due(165.0)
    assert line.per_s == 20.0

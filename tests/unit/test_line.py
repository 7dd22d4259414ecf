"""The line in which deliveries come back to accounts that were away."""

from math import inf

import pytest

from tidings.domain.ids import DeliveryId, Slot, compose
from tidings.domain.lanes import Class
from tidings.domain.line import END, FRONT, HEAD_S, NOBODY, Line, Place

MAIL, NEWS = Class.transactional, Class.promotional
HEAD = 100.0 + HEAD_S


def at(class_: Class, n: int) -> Place:
    return class_, DeliveryId(compose(Slot(1), 1_700_000_000_000, n))


def some(count: int, class_: Class = MAIL, first: int = 1) -> list[Place]:
    return [at(class_, first + n) for n in range(count)]


def line(place: Place = FRONT, per_s: float = 10.0) -> Line:
    """Of an account that came back at 100."""
    return Line(100.0, per_s, place)


def test_nobody_s_turn_comes_before_every_worker_knows():
    assert line().turns(100.0) == 0.0
    assert line().turns(HEAD) == 0.0
    assert line().turns(HEAD + 0.5) == pytest.approx(5.0)


def test_turns_are_given_once_at_the_rate_and_what_nobody_took_in_time_is_lost():
    one = line()
    one.moved(some(3), HEAD + 0.5, all_left=False)
    assert one.turns(HEAD + 0.5) == pytest.approx(2.0)
    assert one.turns(HEAD + 0.7) == pytest.approx(4.0)
    assert one.turns(HEAD + 60) == pytest.approx(10.0), "those of a second"
    one.moved(some(10), HEAD + 60, all_left=False)
    assert one.turns(HEAD + 60) == pytest.approx(0.0)


def test_without_a_rate_all_may_leave_once_it_has_begun():
    one = line(per_s=inf)
    assert one.turns(HEAD) == 0.0
    assert one.turns(HEAD + 0.1) == inf
    one.moved(some(1000), HEAD + 0.1, all_left=False)
    assert one.turns(HEAD + 0.2) == inf


def test_where_an_account_was_away_everybody_waits_and_else_nobody_unless_the_line_is_long():
    assert line().place == FRONT < at(MAIL, 1)
    one = line(END)
    assert at(NEWS, 1 << 60) < one.place
    one.moved(some(5), HEAD + 0.5, all_left=False)
    assert one.place == at(MAIL, 5)


def test_its_place_is_that_of_the_last_who_had_his_turn_and_each_class_goes_on_where_it_was():
    one = line()
    one.moved([*some(2), *some(3, NEWS)], HEAD + 0.5, all_left=False)
    assert one.place == at(NEWS, 3)
    assert (one.behind(MAIL), one.behind(NEWS)) == (at(MAIL, 2)[1], at(NEWS, 3)[1])
    one.moved(some(5, first=10), HEAD + 1, all_left=False)
    assert one.place == at(MAIL, 14), "transactional ones have come, and leave first"
    assert one.behind(NEWS) == at(NEWS, 3)[1]
    assert line().behind(MAIL) == NOBODY


def test_once_all_have_left_nobody_waits_and_it_is_over_a_moment_later():
    one = line()
    one.moved(some(3), HEAD + 0.5, all_left=True)
    assert one.place == END
    assert not one.is_over(HEAD + 2.4), "somebody may have been told to wait right before"
    one.moved(some(1, first=9), HEAD + 2.4, all_left=True)
    assert one.is_over(HEAD + 2.5)
    assert not line().is_over(1000.0)


def test_if_it_becomes_long_again_right_before_its_end_it_goes_on():
    one = line()
    one.moved([], HEAD + 0.5, all_left=True)
    one.moved(some(10), HEAD + 1.5, all_left=False)
    assert one.place == at(MAIL, 10)
    assert not one.is_over(HEAD + 3)


def test_a_second_look_in_which_nobody_could_leave_changes_nothing():
    one = line()
    one.moved([], HEAD + 0.5, all_left=False)
    assert one.place == FRONT
    assert not one.is_over(1000.0)


def test_where_more_come_than_leave_for_half_a_minute_it_moves_at_twice_the_rate():
    one = line()
    for _ in range(20):
        one.left()
        one.came()
    one.came()
    one.moved(some(1), HEAD + 29.9, all_left=False)
    assert one.per_s == 10.0
    one.moved(some(1), HEAD + 30, all_left=False)
    assert one.per_s == 20.0
    one.left()
    one.moved(some(1), HEAD + 65, all_left=False)
    assert one.per_s == 20.0

"""Any backlog, due at any time: whoever lines it up finds the same turns, in order and a beat apart."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tidings.domain.lanes import Class
from tidings.domain.line import Line, misplaced

had_s = st.lists(st.none() | st.floats(-100, 10_000), max_size=200)
rates = st.floats(0.5, 5_000)
heads_s = st.floats(-5, 5)


def lined_up(had_s, first, head_s, per_s):
    turns = dict(misplaced(had_s, first, head_s, per_s))
    return [turns.get(n, one) for n, one in enumerate(had_s)]


@given(had_s, st.integers(0, 1000), heads_s, rates)
def test_everybody_is_due_at_the_turn_of_his_place_give_or_take_a_little(had_s, first, head_s, per_s):
    for n, one in enumerate(lined_up(had_s, first, head_s, per_s)):
        turn_s = max(head_s + (first + n) / per_s, 0.0)
        assert abs(one - turn_s) <= 0.1 + 0.011 * turn_s


@given(had_s, st.integers(0, 1000), heads_s, rates)
def test_to_line_up_again_moves_nobody(had_s, first, head_s, per_s):
    once = lined_up(had_s, first, head_s, per_s)
    assert list(misplaced(once, first, head_s, per_s)) == []


@given(had_s, rates, st.integers(1, 50))
def test_a_line_that_is_read_piece_by_piece_is_the_same_line(had_s, per_s, piece):
    whole = lined_up(had_s, 0, 1.0, per_s)
    pieces = [lined_up(had_s[n : n + piece], n, 1.0, per_s) for n in range(0, len(had_s), piece)]
    assert whole == [one for some in pieces for one in some]


@given(st.integers(2, 200), rates, st.floats(0, 30))
def test_those_who_had_no_turn_get_one_in_order_whatever_time_it_is(count, per_s, late_s):
    turns = lined_up([None] * count, 0, 1.5 - late_s, per_s)
    assert all(0 <= one <= later for one, later in pairwise(turns))


@given(st.floats(0, 100), st.dictionaries(st.sampled_from(Class), st.floats(0, 1000)), st.sampled_from(Class))
def test_nobody_who_comes_later_goes_before_the_end_of_his_class(now_s, ends_s, class_):
    line = Line(0.0, 1.5, 10.0)
    line.formed(0.5, ends_s)
    wait_s = line.wait_s(now_s, class_, has_turn=False, since_s=None)
    assert now_s + wait_s >= ends_s.get(class_, 0.0)
    assert (wait_s == 0) == (class_ not in ends_s)

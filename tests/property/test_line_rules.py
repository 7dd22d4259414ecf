"""Any backlog, due at any time: whoever lines it up finds the same turns, in order and a beat apart."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tidings.domain.lanes import Class
from tidings.domain.line import Line, Places

had_s = st.lists(st.none() | st.floats(-100, 10_000), max_size=200)
rates = st.floats(0.5, 5_000)
heads_s = st.floats(-5, 5)


def lined_up(had_s, head_s, per_s, piece=1000):
    """Everybody's turn afterwards, read so many at a time, at the instant 0."""
    places, found = Places(head_s, per_s), []
    for at in range(0, len(had_s), piece):
        some = had_s[at : at + piece]
        turns = dict(places.misplaced(some, 0.0))
        found += [turns.get(n, one) for n, one in enumerate(some)]
    return found


@given(had_s, heads_s, rates)
def test_everybody_has_the_turn_of_his_place_give_or_take_a_little(had_s, head_s, per_s):
    for n, one in enumerate(lined_up(had_s, head_s, per_s)):
        turn_s = max(head_s + n / per_s, 0.0)
        assert abs(one - turn_s) <= 0.1 + 0.01 * turn_s + 1e-6


@given(had_s, heads_s, rates)
def test_nobody_s_turn_is_before_that_of_one_in_front_of_him(had_s, head_s, per_s):
    turns = lined_up(had_s, head_s, per_s)
    assert all(one <= later for one, later in pairwise(turns))


@given(had_s, heads_s, rates)
def test_to_line_up_again_moves_nobody(had_s, head_s, per_s):
    once = lined_up(had_s, head_s, per_s)
    assert list(Places(head_s, per_s).misplaced(once, 0.0)) == []


@given(had_s, rates, st.integers(1, 50))
def test_a_line_that_is_read_piece_by_piece_is_the_same_line(had_s, per_s, piece):
    assert lined_up(had_s, 1.0, per_s, piece) == lined_up(had_s, 1.0, per_s)


@given(st.floats(0, 100), st.dictionaries(st.sampled_from(Class), st.floats(0, 1000)), st.sampled_from(Class))
def test_nobody_who_comes_later_goes_before_the_end_of_his_class(now_s, ends_s, class_):
    line = Line(0.0, 1.5, 10.0)
    line.formed(0.5, ends_s)
    wait_s = line.wait_s(now_s, class_, has_turn=False, since_s=None)
    assert now_s + wait_s >= ends_s.get(class_, 0.0)
    assert (wait_s == 0) == (class_ not in ends_s)

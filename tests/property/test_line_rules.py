"""Any backlog, whoever comes meanwhile, looked at whenever: it leaves in order, at the rate, and to the last."""

from hypothesis import given
from hypothesis import strategies as st

from tidings.domain.ids import DeliveryId, Slot, compose
from tidings.domain.lanes import Class
from tidings.domain.line import FRONT, HEAD_S, Line, Place

places = st.lists(st.tuples(st.sampled_from(Class), st.integers(0, 1 << 40)), unique=True, max_size=60)
ticks_s = st.lists(st.floats(0.01, 3.0), min_size=1, max_size=80)
rates = st.floats(0.5, 200)
comes = st.lists(st.tuples(st.integers(0, 80), st.sampled_from(Class)), max_size=40)


def at(class_: Class, n: int) -> Place:
    return class_, DeliveryId(compose(Slot(n % 7), 1_700_000_000_000 + n, n))


class Drain:
    """One that is moved on as the pipeline does it. ``left`` are the instants at which each had his turn."""

    def __init__(self, waiting: list[Place], per_s: float) -> None:
        self.line = Line(0.0, per_s)
        self.waiting = sorted(waiting)
        self.left: list[tuple[float, Place]] = []

    def move(self, now_s: float) -> None:
        turns = int(self.line.turns(now_s))
        if not turns:
            return
        leave = list[Place]()
        for class_ in Class:
            mine = [one for one in self.waiting if one[0] == class_ and one[1] > self.line.behind(class_)]
            leave += mine[: turns - len(leave)]
        self.waiting = [one for one in self.waiting if one not in leave]
        self.left += [(now_s, one) for one in leave]
        self.line.moved(leave, now_s, all_left=len(leave) < turns)


def drained(had, per_s, waits_s) -> Drain:
    drain, now_s = Drain([at(*one) for one in had], per_s), 0.0
    for wait_s in waits_s:
        now_s += wait_s
        drain.move(now_s)
    return drain


@given(places, rates, ticks_s)
def test_they_leave_in_order_and_none_of_those_who_stay_stands_before_one_who_left(had, per_s, waits_s):
    drain = drained(had, per_s, waits_s)
    left = [one for _, one in drain.left]
    assert [*left, *drain.waiting] == sorted(at(*one) for one in had)
    assert all(one > drain.line.place for one in drain.waiting)
    assert all(one <= drain.line.place for one in left)


@given(places, rates, ticks_s)
def test_no_stretch_of_time_sees_more_than_its_rate_and_that_of_a_second(had, per_s, waits_s):
    left_s = [now_s for now_s, _ in drained(had, per_s, waits_s).left]
    for n, first_s in enumerate(left_s):
        for m, last_s in enumerate(left_s[n:], start=1):
            assert m <= (last_s - first_s + max(1.0, 1 / per_s)) * per_s + 1e-6
    assert all(one_s > HEAD_S for one_s in left_s)


@given(places, rates)
def test_all_leave_within_the_time_that_the_rate_needs(had, per_s):
    for_s = HEAD_S + (len(had) + 2) / per_s + 2
    drain = drained(had, per_s, [0.25] * int(for_s / 0.25 + 1))
    assert drain.waiting == []
    assert drain.line.is_over(for_s + 3)


@given(places, comes)
def test_who_comes_meanwhile_either_passes_at_once_or_leaves_behind_his_class(had, newcomers):
    """Those who may pass stand where everybody before them has had his turn."""
    drain, now_s, youngest = Drain([at(*one) for one in had], 20.0), 0.0, 1 << 41
    assert drain.line.place == FRONT
    for look in range(120):
        now_s += 0.25
        drain.move(now_s)
        for when, class_ in newcomers:
            if when == look:
                youngest += 1
                one = at(class_, youngest)
                if one > drain.line.place:
                    drain.waiting = sorted([*drain.waiting, one])
                else:
                    assert not [each for each in drain.waiting if each <= one]
    assert drain.waiting == [], "and nobody is forgotten"

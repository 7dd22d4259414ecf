"""From what a provider said to what happens next: bounds that hold for every answer and every schedule."""

from collections import Counter
from random import Random

from hypothesis import assume, given
from hypothesis import strategies as st

from tidings.domain.delivery import Mark
from tidings.domain.dispatch import Again, Bury, Doubt, Finish
from tidings.domain.outcome import Fenced, Refused, Sent, TryLater, TryNext, Unsure
from tidings.domain.retry import JITTER, Tried, later, next_step

waits_s = st.lists(st.floats(0.001, 86_400), max_size=6)
luck = st.floats(0, 1, exclude_max=True)
routes = st.lists(st.integers(1, 30), min_size=1, max_size=5, unique=True)
asked_s = st.none() | st.floats(0, 86_400)
outcomes = st.one_of(
    st.builds(Sent, st.just("m")),
    st.builds(Refused, st.just("r")),
    st.builds(Unsure, st.just("u")),
    st.builds(TryNext, st.just("n")),
    st.builds(Fenced),
    st.builds(TryLater, st.just("l"), after_s=asked_s, account=st.booleans()),
)


def play(said, route, schedule_s, lucky=0.5, at_most=1000):
    """Every settlement and the provider that led to it, with answers from ``said(provider)``, to the end."""
    spent, tried = 0, ()
    for _ in range(at_most):
        provider = next(p for p in route if p not in tried)
        to = next_step(said(provider), Tried(spent, tried, provider, route), schedule_s, lucky)
        yield provider, to
        if not isinstance(to, Again):
            return
        spent, tried = spent + to.spent, to.tried


@given(outcomes, routes, waits_s, luck, st.data())
def test_nothing_is_ever_due_in_the_past(said, route, schedule_s, lucky, data):
    spent = data.draw(st.integers(0, len(schedule_s)))
    tried = tuple(data.draw(st.lists(st.sampled_from(route), unique=True)))
    to = next_step(said, Tried(spent, tried, data.draw(st.sampled_from(route)), route), schedule_s, lucky)
    if isinstance(to, Again | Doubt):
        assert to.after_s >= 0


@given(waits_s, luck, st.data())
def test_a_wait_is_within_a_fifth_of_the_schedules(schedule_s, lucky, data):
    assume(schedule_s)
    spent = data.draw(st.integers(0, len(schedule_s) - 1))
    to = later("c", spent, schedule_s, lucky)
    assert schedule_s[spent] * (1 - JITTER) <= to.after_s <= schedule_s[spent] * (1 + JITTER)


@given(waits_s, luck, st.floats(0, 86_400), st.data())
def test_a_wait_is_never_shorter_than_the_provider_asked(schedule_s, lucky, after_s, data):
    assume(schedule_s)
    spent = data.draw(st.integers(0, len(schedule_s) - 1))
    assert later("c", spent, schedule_s, lucky, at_least_s=after_s).after_s >= after_s


@given(routes, waits_s, luck)
def test_the_schedule_is_used_wait_by_wait_and_then_the_dead_letters(route, schedule_s, lucky):
    *waits, end = [to for _, to in play(lambda _: TryLater("l"), route, schedule_s, lucky)]
    assert isinstance(end, Bury)
    assert [wait.after_s for wait in waits] == [s * (1 - JITTER + 2 * JITTER * lucky) for s in schedule_s]


@given(routes, waits_s)
def test_each_round_goes_through_every_provider_of_the_route_once(route, schedule_s):
    calls = [provider for provider, _ in play(lambda _: TryNext("n"), route, schedule_s)]
    rounds = [calls[at : at + len(route)] for at in range(0, len(calls), len(route))]
    assert rounds == [route] * (len(schedule_s) + 1)


@given(routes, waits_s, st.randoms(use_true_random=False))
def test_a_round_remembers_whom_it_tried_through_every_answer_until_it_ends(route, schedule_s, rng):
    answers = (TryNext("next"), TryNext("next"), TryLater("later"), TryLater("wait", account=True), Fenced())
    tried = ()
    for provider, to in play(lambda _: rng.choice(answers), route, schedule_s, at_most=200):
        if isinstance(to, Again):
            so_far = (*tried, provider) if to.reason == "next" else tried
            assert to.tried == (() if to.spent else so_far)
            tried = to.tried


@given(routes, waits_s, asked_s, st.integers(0, 6))
def test_waiting_for_an_account_spends_nothing_and_keeps_the_round(route, schedule_s, after_s, spent):
    tried = tuple(route[:-1])
    said = TryLater("http_429", after_s=after_s, account=True)
    to = next_step(said, Tried(spent, tried, route[-1], route), schedule_s, 0.5)
    assert to == Again(after_s or 0.0, "http_429", spent=0, tried=tried, waits=True)


@given(routes, waits_s, st.integers(0, 6), luck)
def test_being_fenced_costs_nothing_and_unsure_is_never_repeated_or_failed_over(route, schedule_s, spent, lucky):
    tried = Tried(spent, tuple(route[:-1]), route[-1], route)
    assert next_step(Fenced(), tried, schedule_s, lucky) == Again(0.0, "fenced", tried=tried.tried)
    assert next_step(Unsure("timeout"), tried, schedule_s, lucky) == Doubt("timeout")


@given(outcomes, routes, waits_s, luck)
def test_only_sent_and_refused_finish(said, route, schedule_s, lucky):
    to = next_step(said, Tried(0, (), route[0], route), schedule_s, lucky)
    expected = {Sent: Mark.sent, Refused: Mark.failed}.get(type(said))
    assert (to.mark if isinstance(to, Finish) else None) == expected


def test_a_hundred_thousand_that_failed_at_one_instant_come_back_evenly_spread():
    """Whoever the provider was: nothing of it goes into the wait."""
    rng, many = Random(63), 100_000
    for wait_s in (60.0, 300.0, 900.0):
        due_s = [later("http_503", 0, [wait_s], rng.random()).after_s for _ in range(many)]
        spread_s = 2 * JITTER * wait_s
        tenths = Counter(int((one - (1 - JITTER) * wait_s) * 10 / spread_s) for one in due_s)
        assert sorted(tenths) == list(range(10))
        assert max(tenths.values()) <= 1.1 * many / 10

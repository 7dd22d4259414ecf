"""What a worker makes of the answers of accounts: which take calls, which are left alone, and who waits how long."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.unit.test_decide import held
from tidings.domain.breaker import BreakerRules
from tidings.domain.catalog import Account, Catalog, Ordered
from tidings.domain.dispatch import Again
from tidings.domain.events import BreakerChanged, ProviderPaused
from tidings.domain.ids import TenantId
from tidings.domain.lanes import Channel, Class, lane_of
from tidings.domain.outcome import Fenced, Outcome, Refused, Sent, TryLater, TryNext, Unsure
from tidings.domain.routing import AccountState, Through
from tidings.pipeline.health import Health
from tidings.ports import Seen

DOWN = TryNext("connect_refused")
PROMOTIONAL = lane_of(Channel.email, Class.promotional)
RULES = BreakerRules(3, 0.0, 0.5, 1000, 30.0, 60.0, 600.0, 20.0)
EPOCH = datetime(2026, 5, 1, tzinfo=UTC)


class Rig:
    """Health of two accounts, with a clock that is set by hand. What was emitted is in ``events``."""

    def __init__(self, drain_per_s: float = 10.0) -> None:
        self.now_s = 1000.0
        self.events: list[object] = []
        self.ordered: dict[int, Ordered] = {}
        self.health = Health(self.catalog, self, self.events.append, RULES, 30.0, drain_per_s)

    def boottime_s(self) -> float:
        return self.now_s

    def now(self) -> datetime:
        return EPOCH + timedelta(seconds=self.now_s)

    def catalog(self) -> Catalog:
        accounts = {n: Account(n, TenantId(1), f"account {n}", "sendgrid", Channel.email, {}, str(n)) for n in (1, 2)}
        return Catalog(1, {}, {}, {}, {}, {}, {}, accounts, self.ordered, {}, {}, ())

    def order(self, account: int, state: AccountState) -> None:
        self.ordered = {account: Ordered(state, EPOCH)}

    def route(self, *accounts: int, **more: object) -> Through | Again:
        return self.health.route(accounts or (1, 2), held(**more))

    def said(self, account: int, *answers: Outcome) -> Outcome:
        """Each to a call that has just begun; gives the last, as it is stored."""
        for answer in answers:
            self.now_s += 0.001
            told = self.health.heard(account, answer, self.now_s)
        return told

    def breakers(self) -> list[tuple[int, str]]:
        return [(one.provider, one.state) for one in self.events if isinstance(one, BreakerChanged)]


@pytest.mark.parametrize(
    ("answer", "opens"),
    [
        (DOWN, True),
        (Unsure("timeout"), True),
        (Sent("m"), False),
        (Refused("http_400"), False),
        (TryLater("greylisted"), False),
        (TryLater("http_429", account=True, after_s=0.0), False),
        (Fenced(), False),
    ],
)
def test_only_what_says_that_the_provider_is_in_trouble_counts(answer, opens):
    rig = Rig()
    rig.said(1, answer, answer, answer)
    assert rig.breakers() == ([(1, "open")] if opens else [])
    assert rig.route() == Through(2 if opens else 1)
    assert rig.health.is_shut(1) == opens


def test_an_answer_that_is_none_does_not_interrupt_a_row_of_failures():
    rig = Rig()
    rig.said(1, DOWN, DOWN, Fenced(), TryLater("greylisted"), DOWN)
    assert rig.breakers() == [(1, "open")]


def test_while_the_breakers_of_all_are_open_deliveries_wait_in_turn_for_the_first_probe():
    rig = Rig()
    rig.said(2, DOWN, DOWN, DOWN)
    rig.now_s += 10
    rig.said(1, DOWN, DOWN, DOWN)
    waits = [rig.route(tried=(7,)) for _ in range(3)]
    assert {(wait.reason, wait.spent, wait.tried) for wait in waits} == {("provider_open", 0, (7,))}
    assert [wait.after_s for wait in waits] == pytest.approx([49.997, 50.097, 50.197]), "two's breaker was first"


def test_what_fails_in_an_outage_costs_the_delivery_nothing_and_lets_others_go_first():
    rig = Rig()
    assert rig.health.outage((1, 2), held()) is None
    rig.said(1, DOWN, DOWN, DOWN)
    assert rig.health.outage((1, 2), held()) is None, "there is another account"
    again = rig.health.outage((1,), held(tried=(7,)))
    assert again == Again(pytest.approx(61.0), "provider_open")
    assert rig.route(1).after_s == pytest.approx(60.0)


def test_one_goes_ahead_as_the_probe_and_the_others_wait_for_its_answer():
    rig = Rig()
    rig.said(1, DOWN, DOWN, DOWN)
    rig.now_s += 60
    assert rig.route(1) == Through(1)
    waiting = rig.route(1)
    assert (waiting.reason, waiting.after_s) == ("provider_open", 0.5)
    assert not rig.health.is_shut(1), "the probe itself must not be turned away right before its call"
    assert rig.route(1, 2) == Through(2), "with another account nobody waits"
    rig.said(1, Sent("m"))
    assert rig.breakers() == [(1, "open"), (1, "half_open"), (1, "closed")]


def test_what_waited_comes_back_at_a_bounded_rate_and_transactional_first():
    rig = Rig(drain_per_s=10.0)
    rig.said(1, DOWN, DOWN, DOWN)
    waiting = [rig.route(1) for _ in range(20)]
    assert waiting[-1].after_s == pytest.approx(61.9)
    rig.now_s += 60
    rig.route(1)
    rig.said(1, Sent("m"))
    rig.now_s += 0.5
    promotional = rig.route(1, home=PROMOTIONAL)
    assert (promotional.reason, promotional.after_s) == ("provider_paced", pytest.approx(1.5, abs=0.1))
    assert [isinstance(rig.route(1), Through) for _ in range(6)] == [True] * 5 + [False]


def test_a_worker_looks_often_while_turns_come_one_after_the_other():
    rig = Rig(drain_per_s=10.0)
    assert rig.health.patience_s(1.0) == 1.0
    rig.said(1, DOWN, DOWN, DOWN)
    rig.route(1)
    assert rig.health.patience_s(1.0) == 1.0, "nobody's turn is before the probe"
    rig.now_s += 60
    assert rig.health.patience_s(1.0) == 0.25
    rig.now_s += 20
    assert rig.health.patience_s(1.0) == 1.0


def test_once_nobody_waits_any_more_the_account_is_as_good_as_any():
    rig = Rig(drain_per_s=10.0)
    rig.said(1, DOWN, DOWN, DOWN)
    rig.now_s += 60
    rig.route(1)
    rig.said(1, Sent("m"))
    rig.now_s += 11
    assert [rig.route(1) for _ in range(1000)] == [Through(1)] * 1000


def test_an_account_that_must_wait_rests_for_as_long_as_it_asked_or_as_is_usual():
    rig = Rig()
    assert rig.said(1, TryLater("http_429", account=True, after_s=7.0)).after_s == 7.0
    assert rig.said(2, TryLater("http_401", account=True)).after_s == 30.0
    assert [one.for_s for one in rig.events if isinstance(one, ProviderPaused)] == [7.0, 30.0]
    wait = rig.route()
    assert (wait.reason, wait.after_s) == ("provider_paused", pytest.approx(6.999))
    rig.now_s += 7
    assert rig.route() == Through(1)


def test_an_account_that_an_operator_paused_gets_no_calls_until_it_is_resumed():
    rig = Rig()
    rig.order(1, AccountState.paused)
    assert rig.route(1, 2) == Through(2)
    assert rig.health.is_shut(1)
    waits_s = []
    for _ in range(3):
        wait = rig.route(1)
        assert wait.reason == "provider_paused"
        waits_s.append(wait.after_s)
        rig.now_s += 20
    assert waits_s == [0.5, 20.0, 40.0], "looked at again after as long as it has lasted"
    rig.ordered = {}
    assert rig.route(1) == Through(1)


def test_the_breaker_of_a_forced_account_is_ignored_but_not_its_rest():
    rig = Rig()
    rig.said(1, DOWN, DOWN, DOWN)
    rig.order(1, AccountState.forced)
    assert [rig.route(1) for _ in range(5)] == [Through(1)] * 5
    assert not rig.health.is_shut(1)
    rig.said(1, TryLater("http_429", account=True, after_s=7.0))
    assert isinstance(rig.route(1), Again)
    rig.now_s += 8
    rig.ordered = {}
    assert rig.route(1).reason == "provider_open", "left to its breaker again"


def test_others_are_shown_what_is_not_well_by_the_clock_of_the_wall():
    rig = Rig()
    rig.said(1, DOWN, DOWN, DOWN)
    rig.said(2, TryLater("http_429", account=True, after_s=7.0))
    broken, resting = rig.health.seen()
    assert (broken.account, broken.breaker, broken.why, broken.rests_until) == (1, "open", "connect_refused", None)
    assert abs(broken.since - rig.now()) < timedelta(seconds=1)
    assert (resting.breaker, resting.why, resting.since) == ("closed", "http_429", None)
    assert resting.rests_until == rig.now() + timedelta(seconds=7)
    rig.now_s += 8
    assert [one.account for one in rig.health.seen()] == [1]


def test_a_rest_that_another_worker_was_told_holds_here_too_and_shortens_none():
    there, here = Rig(), Rig()
    there.said(1, TryLater("http_429", account=True, after_s=7.0))
    here.now_s = there.now_s
    here.health.learn([there.health.seen(), []])
    assert here.route(1).after_s == pytest.approx(7.0)
    assert here.events == [], "it is news to nobody"
    here.health.learn([[Seen(1, "closed", "http_429", rests_until=here.now() + timedelta(seconds=1))]])
    assert here.route(1).after_s >= 7.0


def test_another_worker_s_breaker_is_its_own_affair():
    there, here = Rig(), Rig()
    there.said(1, DOWN, DOWN, DOWN)
    here.health.learn([there.health.seen()])
    assert here.route(1) == Through(1)


def test_an_account_that_is_gone_is_no_longer_shown():
    rig = Rig()
    rig.said(9, DOWN, DOWN, DOWN)
    assert rig.health.seen() == []

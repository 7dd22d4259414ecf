"""What a worker makes of the answers of accounts: which take calls, which are left alone, and who waits how long."""

from datetime import UTC, datetime, timedelta
from math import inf

import pytest

from tests.unit.test_decide import held
from tidings.domain.breaker import BreakerRules
from tidings.domain.catalog import Account, Catalog, Ordered
from tidings.domain.dispatch import Again
from tidings.domain.events import BreakerChanged, ProviderPaused
from tidings.domain.ids import DeliveryId, Slot, TenantId, compose
from tidings.domain.lanes import Channel, Class, lane_of
from tidings.domain.line import Line
from tidings.domain.outcome import Fenced, Outcome, Refused, Sent, TryLater, TryNext, Unsure
from tidings.domain.routing import AccountState, Hop, Route, Through
from tidings.pipeline.health import NOBODY, Health
from tidings.ports import Seen

DOWN = TryNext("connect_refused")
MAIL = lane_of(Channel.email, Class.transactional)
PROMOTIONAL = lane_of(Channel.email, Class.promotional)
QUEUE = (TenantId(1), Channel.email)
TURN = {"reason": "provider_paced"}
RULES = BreakerRules(3, 0.0, 0.5, 1000, 30.0, 60.0, 600.0, 20.0)
EPOCH = datetime(2026, 5, 1, tzinfo=UTC)


def numbered(n: int) -> DeliveryId:
    return DeliveryId(compose(Slot(1), 1_700_000_000_000, n))


class Rig:
    """Health of two accounts, with a clock that is set by hand. What was emitted is in ``events``."""

    def __init__(self, drain_per_s: float = 10.0) -> None:
        self.now_s = 1000.0
        self.events: list[object] = []
        self.ordered: dict[int, Ordered] = {}
        self.routes: dict[tuple[TenantId, Channel], Route] = {}
        self.health = Health(self.catalog, self, self.events.append, RULES, 30.0, drain_per_s)

    def boottime_s(self) -> float:
        return self.now_s

    def now(self) -> datetime:
        return EPOCH + timedelta(seconds=self.now_s)

    def catalog(self) -> Catalog:
        accounts = {n: Account(n, TenantId(1), f"account {n}", "sendgrid", Channel.email, {}, str(n)) for n in (1, 2)}
        return Catalog(1, {}, {}, {}, {}, {}, {}, accounts, self.ordered, self.routes, {}, ())

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


def test_while_the_breakers_of_all_are_open_deliveries_wait_and_are_looked_at_rarely():
    rig = Rig()
    rig.said(2, DOWN, DOWN, DOWN)
    rig.said(1, DOWN, DOWN, DOWN)
    waits = [rig.route(id=numbered(n), tried=(7,)) for n in range(100)]
    assert {(wait.reason, wait.spent, wait.tried, wait.waits) for wait in waits} == {("provider_open", 0, (7,), True)}
    assert all(600 <= wait.after_s < 1800 for wait in waits)
    assert len({wait.after_s for wait in waits}) == 100, "not all at the same time"
    assert rig.route() == rig.route(), "always the same for one delivery"


def test_what_fails_in_an_outage_costs_the_delivery_nothing():
    rig = Rig()
    assert rig.health.outage((1, 2), held()) is None
    rig.said(1, DOWN, DOWN, DOWN)
    assert rig.health.outage((1, 2), held()) is None, "there is another account"
    again = rig.health.outage((1,), held(tried=(7,)))
    assert (again.reason, again.spent, again.waits) == ("provider_open", 0, True)
    rig.said(2, TryLater("http_429", account=True, after_s=3.0))
    assert rig.health.outage((1, 2), held()).after_s == pytest.approx(3.0, abs=0.01), "the other one is soon back"


def test_the_probe_is_whoever_is_called_forward_and_the_others_wait_for_its_answer():
    rig = Rig()
    rig.said(1, DOWN, DOWN, DOWN)
    rig.route(1)
    assert rig.health.to_probe() == {}, "not before its time"
    rig.now_s += 60
    assert rig.health.to_probe() == {1: (QUEUE, NOBODY)}
    assert rig.route(1).after_s >= 600, "who comes by chance does not go before those who wait"
    assert rig.route(1, **TURN) == Through(1)
    assert rig.health.to_probe() == {}
    waiting = rig.route(1, **TURN)
    assert (waiting.reason, waiting.after_s) == ("provider_open", 0.2)
    assert not rig.health.is_shut(1), "the probe itself must not be turned away right before its call"
    assert rig.route(1, 2) == Through(2), "with another account nobody waits"
    rig.said(1, Sent("m"))
    assert rig.breakers() == [(1, "open"), (1, "half_open"), (1, "closed")]


def test_a_failed_probe_makes_way_for_the_next_in_line_and_after_the_last_the_first_is_called_again():
    rig = Rig()
    rig.said(1, DOWN, DOWN, DOWN)
    rig.route(1)
    for n, open_s in ((1, 60), (2, 120)):
        rig.now_s += open_s
        assert rig.route(1, id=numbered(n), **TURN) == Through(1)
        rig.said(1, DOWN)
    rig.now_s += 240
    assert rig.health.to_probe() == {1: (QUEUE, numbered(2))}
    rig.health.called(1, found=False)
    assert rig.health.to_probe() == {1: (QUEUE, NOBODY)}
    rig.health.called(1, found=False)
    assert rig.health.to_probe() == {}, "nobody waits"
    assert rig.route(1) == Through(1), "so whoever comes first tries"


def test_where_nobody_waits_whoever_comes_first_is_the_probe():
    rig = Rig()
    rig.said(1, DOWN, DOWN, DOWN)
    assert rig.route(1, 2) == Through(2)
    rig.now_s += 60
    assert rig.health.to_probe() == {}
    assert rig.route(1, 2) == Through(1)


def back(drain_per_s: float = 10.0) -> tuple[Rig, Line]:
    """An account that was away for a minute, and the line of those who waited."""
    rig = Rig(drain_per_s)
    rig.said(1, DOWN, DOWN, DOWN)
    rig.route(1)
    rig.now_s += 60
    rig.route(1, **TURN)
    rig.said(1, Sent("m"))
    ((line,),) = rig.health.to_form().values()
    return rig, line


def test_once_an_account_is_back_those_with_a_turn_pass_and_those_who_come_wait_behind_the_line():
    rig, line = back()
    assert line.head_s == pytest.approx(rig.now_s + 1.5)
    assert rig.route(1).reason == "provider_backlog"
    assert rig.route(1, **TURN) == Through(1)
    line.formed(rig.now_s, {Class.transactional: rig.now_s + 20, Class.promotional: rig.now_s + 50})
    assert rig.health.to_form() == {}
    assert rig.route(1, reason="provider_open") == Through(1), "it was in line, and is due"
    for home, wait_s in ((MAIL, 22), (PROMOTIONAL, 52)):
        told = rig.route(1, home=home)
        assert (told.reason, told.after_s, told.waits) == ("provider_backlog", pytest.approx(wait_s), True)
    assert rig.route(1, 2) == Through(2), "another account takes it at once"
    assert not rig.health.is_shut(1)
    rig.now_s += 20
    assert rig.health.to_form() == {QUEUE: [line]}


def test_once_nobody_waits_any_more_the_account_is_as_good_as_any():
    rig, line = back()
    line.formed(rig.now_s, {})
    assert [rig.route(1) for _ in range(1000)] == [Through(1)] * 1000
    assert rig.health.seen() == []


def test_an_account_that_falls_away_again_has_no_line_until_it_is_back():
    rig, line = back()
    line.formed(rig.now_s, {Class.transactional: rig.now_s + 20})
    rig.said(1, DOWN, DOWN, DOWN)
    assert rig.health.to_form() == {}
    assert rig.route(1, **TURN).reason == "provider_open"
    rig.now_s += 120
    assert rig.health.to_probe() == {1: (QUEUE, NOBODY)}


def test_without_a_rate_all_turns_are_now():
    _, line = back(drain_per_s=0.0)
    assert line.per_s == inf


def test_a_worker_looks_often_while_turns_come_one_after_the_other_or_somebody_is_called():
    rig = Rig()
    assert rig.health.patience_s(1.0) == 1.0
    rig.said(1, DOWN, DOWN, DOWN)
    rig.route(1)
    assert rig.health.patience_s(1.0) == 1.0
    rig.now_s += 60
    assert rig.health.patience_s(1.0) == 0.1
    rig, line = back()
    assert rig.health.patience_s(1.0) == 0.1
    line.formed(rig.now_s, {})
    rig.route(1)
    assert rig.health.patience_s(1.0) == 1.0


def test_what_waits_may_go_by_another_account_as_soon_as_the_route_has_one():
    rig = Rig()
    rig.said(1, DOWN, DOWN, DOWN)
    rig.route(1)
    rig.health.look()
    assert rig.health.to_form() == {}
    rig.routes = {QUEUE: Route.of([Hop(1), Hop(2)])}
    rig.health.look()
    ((line,),) = rig.health.to_form().values()
    assert rig.route(1, 2, **TURN) == Through(2)
    rig.health.look()
    assert rig.health.to_form() == {QUEUE: [line]}, "once"


def test_who_is_found_waiting_at_the_start_is_lined_up_for_all_that_take_calls():
    rig = Rig()
    rig.order(2, AccountState.paused)
    rig.health.look()
    rig.health.let_in([QUEUE])
    assert [len(lines) for lines in rig.health.to_form().values()] == [1]
    assert rig.route(1).reason == "provider_backlog"
    assert rig.route(2).reason == "provider_paused"


def test_what_is_found_waiting_later_is_lined_up_unless_there_is_a_reason_to_wait():
    rig = Rig()
    rig.said(2, DOWN, DOWN, DOWN)
    rig.health.let_in([QUEUE], anew=False)
    ((line,),) = rig.health.to_form().values()
    line.formed(rig.now_s, {Class.transactional: rig.now_s + 20})
    rig.health.let_in([QUEUE], anew=False)
    assert rig.health.to_form() == {}, "it stands already"
    line.formed(rig.now_s, {})
    rig.route(2)
    rig.health.look()
    rig.health.let_in([QUEUE], anew=False)
    assert rig.health.to_form() == {}, "it waits for the other one, which is away"


def test_an_account_that_must_wait_rests_for_as_long_as_it_asked_or_as_is_usual():
    rig = Rig()
    assert rig.said(1, TryLater("http_429", account=True, after_s=7.0)).after_s == 7.0
    assert rig.said(2, TryLater("http_401", account=True)).after_s == 30.0
    assert [one.for_s for one in rig.events if isinstance(one, ProviderPaused)] == [7.0, 30.0]
    assert rig.route().reason == "provider_paused"
    assert rig.health.to_form() == {}
    rig.now_s += 7
    rig.health.look()
    assert list(rig.health.to_form()) == [QUEUE], "what waited is lined up"
    assert rig.route(**TURN) == Through(1)


def test_a_rest_of_a_moment_is_waited_for_and_nobody_is_lined_up():
    rig = Rig()
    rig.said(1, TryLater("http_429", account=True, after_s=3.0))
    wait = rig.route(1)
    assert (wait.reason, wait.after_s, wait.waits) == ("provider_paused", pytest.approx(3.0, abs=0.01), True)
    rig.now_s += 3.1
    rig.health.look()
    assert rig.health.to_form() == {}
    assert rig.route(1) == Through(1)


def test_an_account_that_an_operator_paused_gets_no_calls_until_it_is_resumed():
    rig = Rig()
    rig.order(1, AccountState.paused)
    assert rig.health.is_shut(1)
    assert rig.route(1, 2) == Through(2)
    assert rig.route(1).reason == "provider_paused"
    assert rig.health.to_form() == {}
    rig.ordered = {}
    assert not rig.health.is_shut(1)
    rig.health.look()
    assert list(rig.health.to_form()) == [QUEUE], "what waited is lined up"
    assert rig.route(1, **TURN) == Through(1)


def test_the_breaker_of_a_forced_account_is_ignored_but_not_its_rest():
    rig = Rig()
    rig.said(1, DOWN, DOWN, DOWN)
    rig.order(1, AccountState.forced)
    assert [rig.route(1, **TURN) for _ in range(5)] == [Through(1)] * 5
    ((line,),) = rig.health.to_form().values()
    line.formed(rig.now_s, {})
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
    rig.health.look()
    _, back = rig.health.seen()
    assert (back.account, back.breaker, back.rests_until, back.back_at) == (2, "closed", None, rig.now())


def test_a_rest_that_another_worker_was_told_holds_here_too_and_shortens_none():
    there, here = Rig(), Rig()
    there.said(1, TryLater("http_429", account=True, after_s=7.0))
    here.now_s = there.now_s
    here.health.learn([there.health.seen(), []])
    assert here.route(1).reason == "provider_paused"
    assert here.events == [], "it is news to nobody"
    here.health.learn([[Seen(1, "closed", "http_429", rests_until=here.now() + timedelta(seconds=1))]])
    here.now_s += 6.9
    assert here.route(1).reason == "provider_paused"


def test_another_worker_s_breaker_is_its_own_affair():
    there, here = Rig(), Rig()
    there.said(1, DOWN, DOWN, DOWN)
    here.health.learn([there.health.seen()])
    assert here.route(1) == Through(1)


def test_what_is_back_for_one_worker_may_be_tried_at_once_by_the_others():
    (there, _), here = back(), Rig()
    here.now_s = there.now_s - 1
    here.said(1, DOWN, DOWN, DOWN)
    here.route(1)
    here.now_s = there.now_s
    here.health.learn([there.health.seen()])
    assert here.route(1, **TURN) == Through(1)
    here.said(1, Sent("m"))
    ((line,),) = here.health.to_form().values()
    assert line.head_s == pytest.approx(there.now_s + 1.5, abs=0.01), "the same line"
    assert here.health.seen()[0].back_at == there.health.seen()[0].back_at


def test_a_worker_that_finds_out_by_itself_that_it_is_not_back_is_told_once():
    (there, _), here = back(), Rig()
    here.now_s = there.now_s
    here.said(1, DOWN, DOWN, DOWN)
    here.health.learn([there.health.seen()])
    assert here.route(1, **TURN) == Through(1)
    here.said(1, DOWN)
    here.health.learn([there.health.seen()])
    assert here.route(1, **TURN).reason == "provider_open"


def test_a_worker_for_whom_an_account_was_never_away_takes_part_in_the_line_once():
    (there, theirs), here = back(), Rig()
    here.now_s = there.now_s
    here.health.learn([there.health.seen(), here.health.seen()])
    ((line,),) = here.health.to_form().values()
    assert here.route(1).reason == "provider_backlog"
    line.formed(here.now_s, {})
    assert here.route(1) == Through(1)
    here.health.learn([there.health.seen(), here.health.seen()])
    assert here.health.to_form() == {}
    theirs.formed(there.now_s, {Class.transactional: there.now_s + 9})
    there.health.learn([there.health.seen(), here.health.seen()])
    assert there.health.to_form() == {}


def test_an_account_that_is_gone_is_no_longer_shown():
    rig = Rig()
    rig.said(9, DOWN, DOWN, DOWN)
    assert rig.health.seen() == []

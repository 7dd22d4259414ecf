"""What a worker makes of the answers of accounts: which take calls, which are left alone, and who waits how long."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.unit.test_decide import held
from tidings.domain.breaker import BreakerRules
from tidings.domain.catalog import Account, Catalog, Ordered
from tidings.domain.dispatch import Again
from tidings.domain.events import BreakerChanged, ProviderPaused
from tidings.domain.ids import DeliveryId, Slot, TenantId, compose
from tidings.domain.lanes import Channel, Class, lane_of
from tidings.domain.line import END, FRONT, Line, Place
from tidings.domain.outcome import Fenced, Outcome, Refused, Sent, TryLater, TryNext, Unsure
from tidings.domain.routing import AccountState, Hop, Route, Through
from tidings.pipeline.backlog import Backlog, Queue
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

    def __init__(self, rank: int = 1) -> None:
        self.now_s = 1000.0
        self.events: list[object] = []
        self.ordered: dict[int, Ordered] = {}
        self.routes: dict[tuple[TenantId, Channel], Route] = {}
        backlog = Backlog(self.catalog, self, rank, 10.0)
        self.health = Health(self.catalog, self, self.events.append, RULES, 30.0, backlog)

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

    def lines(self) -> dict[Queue, Line]:
        """Those that are moved on here, after a look at the accounts."""
        self.health.look()
        return dict(self.health.backlog.to_move())

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


def place(class_: Class, n: int) -> Place:
    return class_, numbered(n)


def back(rank: int = 1) -> tuple[Rig, Line]:
    """An account that was away for a minute, and the line of those who waited."""
    rig = Rig(rank)
    rig.said(1, DOWN, DOWN, DOWN)
    rig.route(1)
    rig.now_s += 60
    rig.route(1, **TURN)
    rig.said(1, Sent("m"))
    return rig, rig.lines()[QUEUE]


def move(rig: Rig, line: Line, *leave: Place, all_left: bool = False) -> None:
    """These have their turns now."""
    rig.now_s += 2
    line.moved(leave, rig.now_s, all_left=all_left)


def test_once_an_account_is_back_those_with_a_turn_pass_and_those_who_come_wait_behind_the_line():
    rig, line = back()
    told = rig.route(1)
    assert (told.reason, told.waits) == ("provider_backlog", True)
    assert told.after_s >= 600, "he is called when his turn comes"
    assert rig.route(1, **TURN) == Through(1)
    assert rig.route(1, 2) == Through(2), "another account takes it at once"
    assert not rig.health.is_shut(1)
    move(rig, line, place(Class.transactional, 5))
    assert rig.route(1, id=numbered(5), reason="http_429") == Through(1), "his turn has been"
    assert rig.route(1, id=numbered(6)).reason == "provider_backlog"
    move(rig, line, place(Class.promotional, 3))
    assert rig.route(1, id=numbered(6)) == Through(1), "nothing transactional waits behind what is promotional"
    assert rig.route(1, id=numbered(4), home=PROMOTIONAL).reason == "provider_backlog"


def test_once_nobody_waits_any_more_the_account_is_as_good_as_any():
    rig, line = back()
    move(rig, line, all_left=True)
    assert [rig.route(1) for _ in range(1000)] == [Through(1)] * 1000
    rig.now_s += 3
    assert rig.lines() == {}
    assert rig.health.seen() == []


def test_an_account_that_falls_away_again_has_no_line_until_it_is_back():
    rig, line = back()
    move(rig, line, place(Class.transactional, 5))
    rig.said(1, DOWN, DOWN, DOWN)
    assert rig.lines() == {}
    assert rig.route(1, **TURN).reason == "provider_open"
    rig.now_s += 120
    assert rig.health.to_probe() == {1: (QUEUE, NOBODY)}, "somebody may wait for it"


def test_two_accounts_that_are_back_have_one_line_and_it_goes_on_while_one_of_them_takes_calls():
    rig, _ = back()
    rig.said(2, DOWN, DOWN, DOWN)
    rig.now_s += 60
    rig.route(2)
    rig.said(2, Sent("m"))
    ((_, line),) = rig.lines().items()
    assert line.place == FRONT, "some may have waited for the second alone"
    assert [rig.route(n).reason for n in (1, 2)] == ["provider_backlog"] * 2
    rig.said(1, DOWN, DOWN, DOWN)
    assert rig.lines() == {QUEUE: line}
    assert rig.route(2).reason == "provider_backlog"


def test_what_waits_may_go_by_another_account_as_soon_as_the_route_has_one():
    rig = Rig()
    rig.said(1, DOWN, DOWN, DOWN)
    rig.route(1)
    assert rig.lines() == {}
    rig.routes = {QUEUE: Route.of([Hop(1), Hop(2)])}
    line = rig.lines()[QUEUE]
    assert rig.route(1, 2) == Through(2), "nobody need wait for those who do, unless they are many"
    move(rig, line, all_left=True)
    rig.now_s += 3
    assert rig.lines() == {}, "once"


def test_who_is_found_waiting_leaves_by_the_accounts_that_take_calls():
    rig = Rig()
    rig.order(2, AccountState.paused)
    rig.health.look()
    rig.health.found_waiting([QUEUE])
    line = rig.lines()[QUEUE]
    assert line.place == END
    assert rig.route(1) == Through(1)
    move(rig, line, place(Class.transactional, 5))
    assert rig.route(1, id=numbered(6)).reason == "provider_backlog", "they are many"
    assert rig.route(2).reason == "provider_paused"
    rig.health.found_waiting([QUEUE])
    assert rig.lines() == {QUEUE: line}, "it goes on where it was"


def test_who_has_a_reason_to_wait_is_left_alone():
    rig = Rig()
    rig.said(2, DOWN, DOWN, DOWN)
    rig.route(2)
    rig.health.found_waiting([QUEUE])
    assert rig.lines() == {}, "he waits for the other one, which is away"


def test_where_all_are_away_who_is_found_waiting_will_be_called_to_try_them():
    rig = Rig()
    for n in (1, 2):
        rig.said(n, DOWN, DOWN, DOWN)
    rig.now_s += 60
    assert rig.health.to_probe() == {}
    rig.health.found_waiting([QUEUE])
    assert rig.lines() == {}
    assert set(rig.health.to_probe()) == {1, 2}


def test_who_waits_at_another_worker_is_called_here_only_where_the_account_is_known_to_answer():
    there, here = Rig(rank=2), Rig()
    there.said(1, DOWN, DOWN, DOWN)
    there.route(1)
    here.now_s = there.now_s
    here.health.learn([there.health.seen(), here.health.seen()])
    here.health.found_waiting([QUEUE])
    assert here.lines() == {}, "this worker may serve other lanes, or have just begun"
    here.said(1, Sent("m"))
    here.health.found_waiting([QUEUE])
    assert set(here.lines()) == {QUEUE}
    here, there.now_s = Rig(), there.now_s + 1
    here.health.learn([])
    here.health.found_waiting([QUEUE])
    assert set(here.lines()) == {QUEUE}, "nobody is left who knows of an outage"


def test_an_account_that_must_wait_rests_for_as_long_as_it_asked_or_as_is_usual():
    rig = Rig()
    assert rig.said(1, TryLater("http_429", account=True, after_s=7.0)).after_s == 7.0
    assert rig.said(2, TryLater("http_401", account=True)).after_s == 30.0
    assert [one.for_s for one in rig.events if isinstance(one, ProviderPaused)] == [7.0, 30.0]
    assert rig.route().reason == "provider_paused"
    assert rig.lines() == {}
    rig.now_s += 7
    assert set(rig.lines()) == {QUEUE}, "what waited leaves in order"
    assert rig.route(**TURN) == Through(1)


def test_a_rest_of_a_moment_is_waited_for_and_nobody_is_lined_up():
    rig = Rig()
    rig.said(1, TryLater("http_429", account=True, after_s=3.0))
    wait = rig.route(1)
    assert (wait.reason, wait.after_s, wait.waits) == ("provider_paused", pytest.approx(3.0, abs=0.01), True)
    rig.now_s += 3.1
    assert rig.lines() == {}
    assert rig.route(1) == Through(1)


def test_an_account_that_an_operator_paused_gets_no_calls_until_it_is_resumed():
    rig = Rig()
    rig.order(1, AccountState.paused)
    assert rig.health.is_shut(1)
    assert rig.route(1, 2) == Through(2)
    assert rig.route(1).reason == "provider_paused"
    assert rig.lines() == {}
    rig.ordered = {}
    assert not rig.health.is_shut(1)
    assert set(rig.lines()) == {QUEUE}, "what waited leaves in order"
    assert rig.route(1, **TURN) == Through(1)


def test_the_breaker_of_a_forced_account_is_ignored_but_not_its_rest():
    rig = Rig()
    rig.said(1, DOWN, DOWN, DOWN)
    rig.order(1, AccountState.forced)
    assert [rig.route(1, **TURN) for _ in range(5)] == [Through(1)] * 5
    move(rig, rig.lines()[QUEUE], all_left=True)
    assert [rig.route(1) for _ in range(5)] == [Through(1)] * 5
    assert not rig.health.is_shut(1)
    rig.said(1, TryLater("http_429", account=True, after_s=7.0))
    assert isinstance(rig.route(1), Again)
    rig.now_s += 8
    rig.ordered = {}
    assert rig.route(1).reason == "provider_open", "left to its breaker again"
    rig.health.found_waiting([QUEUE])
    assert rig.lines() == {}, "who waits for it has a reason"


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
    assert (back.account, back.breaker, back.rests_until) == (2, "closed", None)
    assert (back.back_for_s, back.place, back.rank) == (0.0, FRONT, 1)


def test_a_rest_that_another_worker_was_told_holds_here_too_and_shortens_none():
    there, here = Rig(), Rig()
    there.said(1, TryLater("http_429", account=True, after_s=7.0))
    here.now_s = there.now_s
    here.health.learn([there.health.seen(), []])
    assert here.route(1).reason == "provider_paused"
    assert here.events == [], "it is news to nobody"
    assert here.health.seen()[0].rests_s == 0.0, "hearsay is not passed on: it would never end"
    here.health.learn([[Seen(1, "closed", "http_429", rests_s=1.0)]])
    here.now_s += 6.9
    assert here.route(1).reason == "provider_paused"


def test_another_worker_s_breaker_is_its_own_affair():
    there, here = Rig(), Rig()
    there.said(1, DOWN, DOWN, DOWN)
    here.health.learn([there.health.seen()])
    assert here.route(1) == Through(1)


def test_clocks_that_differ_by_hours_do_not_matter_to_workers():
    there, here = Rig(rank=2), Rig()
    there.now_s += 3600
    there.said(1, TryLater("http_429", account=True, after_s=7.0))
    here.health.learn([there.health.seen()])
    wait = here.route(1)
    assert (wait.reason, here.health.seen()[0].rests_until) == ("provider_paused", here.now() + timedelta(seconds=7))
    there.now_s += 8
    there.health.look()
    here.now_s += 9
    here.health.look()
    here.health.learn([there.health.seen()])
    assert here.lines()[QUEUE].turns(here.now_s + 1.6) == pytest.approx(1.0)


def test_what_is_back_for_one_worker_may_be_tried_at_once_by_the_others():
    (there, _), here = back(), Rig()
    here.now_s = there.now_s - 1
    here.said(1, DOWN, DOWN, DOWN)
    here.route(1)
    here.now_s = there.now_s
    here.health.learn([there.health.seen()])
    assert here.route(1, **TURN) == Through(1)
    here.said(1, Sent("m"))
    assert here.route(1).reason == "provider_backlog"


def test_a_worker_that_finds_out_by_itself_that_it_is_not_back_is_told_once():
    (there, _), here = back(), Rig()
    here.now_s = there.now_s - 1
    here.said(1, DOWN, DOWN, DOWN)
    here.now_s = there.now_s
    here.health.learn([there.health.seen()])
    assert here.route(1, **TURN) == Through(1)
    here.said(1, DOWN)
    there.now_s = here.now_s = here.now_s + 0.5
    here.health.learn([there.health.seen()])
    assert here.route(1, **TURN).reason == "provider_open"


def test_a_line_is_moved_on_by_the_worker_of_the_lowest_rank_and_the_others_let_nobody_overtake_it():
    (first, line), (second, _), third = back(rank=1), back(rank=2), Rig(rank=3)
    for rig in (first, second, third):
        rig.health.learn([rig.health.seen() for rig in (first, second, third)])
    assert [set(rig.lines()) for rig in (first, second, third)] == [{QUEUE}, set(), set()]
    move(first, line, place(Class.transactional, 5))
    second.now_s = third.now_s = first.now_s
    for rig in (second, third):
        rig.health.learn([first.health.seen()])
        assert rig.route(1, id=numbered(5)) == Through(1)
        assert rig.route(1, id=numbered(6)).reason == "provider_backlog"
        rig.health.found_waiting([QUEUE])
        assert rig.lines() == {}, "it is in good hands"
    move(first, line, all_left=True)
    third.health.learn([first.health.seen()])
    assert third.route(1) == Through(1)


def test_when_the_worker_is_gone_that_moved_a_line_on_another_finds_who_waits():
    (first, _), second = back(rank=1), Rig(rank=2)
    second.health.learn([first.health.seen()])
    assert second.route(1).reason == "provider_backlog"
    second.health.learn([])
    assert second.route(1) == Through(1)
    second.health.found_waiting([QUEUE])
    assert set(second.lines()) == {QUEUE}


def test_who_has_his_turn_keeps_it_where_only_this_worker_finds_the_account_away():
    (there, _), here = back(rank=1), Rig(rank=2)
    here.now_s = there.now_s
    here.said(1, DOWN, DOWN, DOWN)
    assert here.route(1, **TURN).reason == "provider_open"
    here.health.learn([there.health.seen()])
    wait = here.route(1, **TURN)
    assert (wait.reason, wait.after_s, wait.waits) == ("provider_paced", 0.5, True), "somebody else may take him"
    assert here.route(1).reason == "provider_open"


def test_an_account_that_is_back_here_too_joins_the_line_of_another_worker():
    (there, line), here = back(rank=2), Rig(rank=1)
    move(there, line, place(Class.transactional, 5))
    here.now_s = there.now_s - 2
    here.said(1, DOWN, DOWN, DOWN)
    here.now_s = there.now_s + 60
    here.health.learn([there.health.seen()])
    here.route(1, **TURN)
    here.health.learn([there.health.seen()])
    here.said(1, Sent("m"))
    assert here.lines() == {}, "it does not begin anew"
    here.health.learn([there.health.seen()])
    assert here.route(1, id=numbered(5)) == Through(1)
    assert here.route(1, id=numbered(6)).reason == "provider_backlog"


def test_a_worker_whose_line_gives_way_lets_nobody_overtake_by_its_own_account_either():
    first, (second, _) = Rig(rank=1), back(rank=2)
    first.now_s = second.now_s - 61
    first.said(2, DOWN, DOWN, DOWN)
    first.now_s = second.now_s
    first.route(2)
    first.said(2, Sent("m"))
    assert set(first.lines()) == {QUEUE}
    second.health.learn([first.health.seen()])
    assert second.lines() == {}
    assert [second.route(n).reason for n in (1, 2)] == ["provider_backlog"] * 2
    second.health.learn([])
    assert second.route(1, 2) == Through(1)


def test_an_account_that_is_gone_is_no_longer_shown():
    rig = Rig()
    rig.said(9, DOWN, DOWN, DOWN)
    assert rig.health.seen() == []

"""Which account a delivery goes through."""

from collections import Counter

import pytest

from tidings.domain.ids import DeliveryId, Slot, compose
from tidings.domain.routing import Gate, Hop, Order, Route, Rule, Through, Wait, Why, open_to, route

IDS = [DeliveryId(compose(Slot(n % 4096), 1_800_000_000_000 + n, n * 7919)) for n in range(20_000)]
OPEN_9 = Gate(9.0, Why.provider_open)
RESTS_4 = Gate(4.0, Why.provider_paused)
LETS_ONE_PASS = Gate(0.0, Why.provider_paced)


def test_the_first_account_that_takes_calls_and_was_not_tried_is_taken():
    assert route([1, 2], [], {}, 60.0) == Through(1)
    assert route([1, 2], [1], {}, 60.0) == Through(2)
    assert route([1, 2], [], {1: OPEN_9}, 60.0) == Through(2)
    assert route([1, 2], [1, 2], {}, 60.0) == Through(1), "a new round begins"
    assert route([1, 2], [], {1: LETS_ONE_PASS}, 60.0) == Through(1)


def test_when_none_takes_calls_the_first_turn_is_waited_for():
    assert route([1, 2], [], {1: OPEN_9, 2: RESTS_4}, 60.0) == Wait(2, 4.0, Why.provider_paused)
    assert route([1, 2], [2], {1: OPEN_9, 2: RESTS_4}, 60.0) == Wait(1, 9.0, Why.provider_open)
    assert route([1, 2], [1, 2], {1: OPEN_9, 2: OPEN_9}, 60.0) == Wait(1, 9.0, Why.provider_open)


@pytest.mark.parametrize(("age_s", "wait_s"), [(0.0, 0.5), (5.0, 5.0), (3600.0, 60.0)])
def test_without_a_route_a_young_notification_looks_again_soon(age_s, wait_s):
    assert route([], [], {}, age_s) == Wait(0, wait_s, Why.no_route)


def test_what_may_have_gone_already_stays_with_who_may_have_taken_it():
    assert open_to((1, 2), 2, duplicate_possible=True) == (2,)
    assert open_to((1, 2), 2, duplicate_possible=False) == (1, 2)
    assert open_to((1, 2), 9, duplicate_possible=True) == (1, 2), "unless it left the route"


def test_accounts_without_weights_keep_their_order_for_everybody():
    order = Order.of([Hop(3), Hop(1), Hop(2)])
    assert {tuple(order.for_one(one)) for one in IDS[:100]} == {(3, 1, 2)}


def test_equal_ranks_are_drawn_by_weight_and_the_rest_keeps_its_place():
    order = Order.of([Hop(9), Hop(1, 70), Hop(2, 20), Hop(3, 10), Hop(8)])
    orders = [tuple(order.for_one(one)) for one in IDS]
    assert {(one[0], one[-1]) for one in orders} == {(9, 8)}
    first = Counter(one[1] for one in orders)
    assert {account: round(count / len(IDS), 1) for account, count in first.items()} == {1: 0.7, 2: 0.2, 3: 0.1}
    left = Counter(one[2] for one in orders if one[1] == 1)
    assert left[2] / left.total() == pytest.approx(2 / 3, abs=0.03), "those whose first is away go on by weight"


def test_a_delivery_always_draws_the_same():
    order = Order.of([Hop(1, 1), Hop(2, 1)])
    assert [order.for_one(one) for one in IDS[:200]] == [order.for_one(one) for one in IDS[:200]]
    assert tuple(order.for_one(IDS[0])) == (1, 2), "in every process and every version"


def test_an_account_that_leaves_moves_nobody_between_the_others():
    three, two = Order.of([Hop(1, 5), Hop(2, 3), Hop(3, 2)]), Order.of([Hop(1, 5), Hop(3, 2)])
    for one in IDS[:2000]:
        assert [account for account in three.for_one(one) if account != 2] == list(two.for_one(one))


def test_the_first_rule_that_fits_counts():
    usual, news, french = Order.of([Hop(1)]), Order.of([Hop(2)]), Order.of([Hop(3)])
    both = Order.of([Hop(4)])
    rules = [Rule(both, category=7, country="FR"), Rule(news, category=7), Rule(french, country="FR")]
    one = Route.of([Hop(1)], rules)
    assert one.by_country
    assert one.order_for(7, "FR") == both
    assert one.order_for(7, "DE") == news
    assert one.order_for(8, "FR") == french
    assert one.order_for(8, None) == usual
    assert not Route.of([Hop(1)], [Rule(news, category=7)]).by_country

"""Any order of claims, marks, answers, receipts and waiting keeps these rules, whoever plays which step when."""

from datetime import UTC, datetime
from random import Random

import pytest
from actions import Claim, Player, Wait, rounds
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shard_model import Rules, ShardModel

from tidings.domain.delivery import Mark, State
from tidings.domain.dispatch import Finish
from tidings.domain.ids import DeliveryId, Slot, compose
from tidings.domain.lanes import DEAD, IN_DOUBT, Channel, Class, lane_of

HOME = lane_of(Channel.email, Class.transactional)
IDS = [DeliveryId(compose(Slot(n), 1_800_000_000_000 + n, n)) for n in (1, 2, 3)]
NOW = datetime(2026, 1, 1, tzinfo=UTC)
LANE_OF_STATE = {
    State.ready: HOME,
    State.leased: HOME,
    State.inflight: HOME,
    State.in_doubt: IN_DOUBT,
    State.dead: DEAD,
}

sequences = st.builds(
    lambda seed, length: rounds(Random(seed), length, len(IDS), [HOME]), st.integers(0, 2**32), st.integers(1, 60)
)
many = settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])


def played(sequence, after_each=lambda order, before, model: None, rules=None):
    model, player = ShardModel(NOW, rules or Rules()), Player(IDS, NOW)
    for id_ in IDS:
        model.accept(id_, HOME)
    for round_ in sequence:
        order, before = player.order(round_), dict(model.rows)
        player.note(order, order.on(model))
        after_each(order, before, model)
    return model


@many
@given(sequences)
def test_a_row_stands_in_the_lane_of_its_state(sequence):
    def check(order, before, model):
        assert all(row.lane == LANE_OF_STATE[row.state] for row in model.rows.values())

    played(sequence, check)


@many
@given(sequences)
def test_tries_only_rise_and_only_by_a_mark(sequence):
    def check(order, before, model):
        for id_, row in model.rows.items():
            assert row.tries - before[id_].tries == (order.method == "mark" and row != before[id_])

    played(sequence, check)


@many
@given(sequences)
def test_only_the_holder_of_a_leased_row_marks_it_and_only_with_time_left(sequence):
    def check(order, before, model):
        for id_, token, _ in order.rows() if order.method == "mark" else ():
            row = before.get(id_)
            mine = row and row.token == token and row.state == State.leased
            may = mine and (row.due_at - model.now).total_seconds() > 20
            assert (model.rows.get(id_) != row) == bool(may)

    played(sequence, check)


@many
@given(sequences)
def test_a_claim_never_takes_an_in_flight_row_back_into_a_lease(sequence):
    def check(order, before, model):
        if order.method == "claim":
            for id_, row in before.items():
                if row.state in (State.inflight, State.in_doubt):
                    assert model.rows[id_].state in (row.state, State.in_doubt)

    played(sequence, check)


@many
@given(sequences)
def test_an_answer_changes_a_row_only_for_its_own_try_and_holder_or_doubt_or_because_it_was_sent(sequence):
    def check(order, before, model):
        for (settled,) in order.rows() if order.method == "settle" else ():
            row = before.get(settled.id)
            if row is None or model.rows.get(settled.id) == row:
                continue
            sent = isinstance(settled.to, Finish) and settled.to.mark == Mark.sent
            mine = row.token == settled.token or row.state == State.in_doubt
            assert sent or (row.tries == settled.n and mine)

    played(sequence, check)


@many
@given(sequences)
def test_the_status_of_a_delivery_only_rises(sequence):
    model = played(sequence)
    for delivery in model.deliveries.values():
        assert delivery.history == sorted(delivery.history)


@many
@given(sequences)
def test_a_row_goes_only_with_a_last_word_and_stays_after_one_only_for_a_call_under_way(sequence):
    model = played(sequence)
    for id_, delivery in model.deliveries.items():
        row = model.rows.get(id_)
        assert row is not None or delivery.mark != Mark.pending
        assert row is None or delivery.mark == Mark.pending or row.state in (State.inflight, State.in_doubt)


@given(st.integers(0, 2**32))
def test_the_same_dice_give_the_same_rounds(seed):
    assert rounds(Random(seed), 40, 3, [HOME]) == rounds(Random(seed), 40, 3, [HOME])


def test_random_rounds_reach_every_state_every_end_and_every_method():
    states, ends, methods = set(), set(), set()

    def watch(order, before, model):
        methods.add(order.method)
        states.update(row.state for row in model.rows.values())
        ends.update(delivery.mark for delivery in model.deliveries.values())

    for seed in range(100):
        played(rounds(Random(seed), 60, len(IDS), [HOME]), watch)
    assert states == set(State)
    assert ends == set(Mark)
    assert methods == {
        "claim",
        "mark",
        "settle",
        "file",
        "look_again",
        "give_back",
        "cancel",
        "replay",
        "discard",
        "wait",
    }


@pytest.mark.parametrize("wait_s, holder", [(61.0, 2), (5.0, 1)])
def test_a_hold_lasts_for_the_lease_and_then_belongs_to_the_next(wait_s, holder):
    model = played([[Claim((HOME,))], [Wait(number, wait_s) for number in range(len(IDS))], [Claim((HOME,))]])
    assert {(row.state, row.token) for row in model.rows.values()} == {(State.leased, holder)}

"""Receipts come late, repeated and in any order; the status that remains is the same."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st
from shard_model import ShardModel

from tidings.domain.delivery import Mark, last_word
from tidings.domain.dispatch import Again, Bury, Doubt, Finish
from tidings.domain.ids import DeliveryId, Slot, compose
from tidings.domain.lanes import Channel, Class, lane_of
from tidings.domain.outcome import Sent, Unsure
from tidings.ports import Settled

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HOME = lane_of(Channel.email, Class.transactional)
ID = DeliveryId(compose(Slot(1), 1_800_000_000_000, 1))
words = st.lists(st.sampled_from((Mark.sent, Mark.delivered, Mark.undelivered)), min_size=1, max_size=6)


def after(receipts, answered_at=None):
    """The delivery after one call whose answer is stored before receipt number ``answered_at``, None: never."""
    model = ShardModel(NOW)
    model.accept(ID, HOME)
    (hold,) = model.claim({HOME: 1}, 1)
    (marked,) = model.mark([ID], [hold.token], [1])
    for number, word in enumerate([*receipts, None]):
        if number == answered_at:
            model.settle([Settled(ID, hold.token, marked.n, Finish(Mark.sent), 1, Sent("m"))])
        if word is not None:
            model.receive(ID, marked.n, word)
    return model


@given(words, st.randoms(use_true_random=False))
def test_receipts_in_any_order_give_the_same_status(receipts, rng):
    shuffled = rng.sample(receipts, len(receipts))
    assert after(receipts).deliveries[ID].mark == after(shuffled).deliveries[ID].mark == max(receipts)


@given(words, st.data())
def test_repeated_receipts_change_nothing(receipts, data):
    repeated = receipts + data.draw(st.lists(st.sampled_from(receipts), max_size=46))
    assert after(receipts).deliveries[ID].mark == after(repeated).deliveries[ID].mark


@given(words, st.data())
def test_it_does_not_matter_when_the_answer_itself_is_stored(receipts, data):
    model = after(receipts, data.draw(st.integers(0, len(receipts))))
    assert model.deliveries[ID].mark == max(receipts)
    assert ID not in model.rows
    assert isinstance(model.attempts[ID, 1], Sent)


@given(words, st.sampled_from((Again(60.0, "http_503", spent=1), Doubt("timeout"), Bury("attempts_used"))))
def test_what_a_receipt_says_was_taken_is_never_sent_again_whatever_the_answer_was(receipts, to):
    model = after(receipts)
    model.settle([Settled(ID, 1, 1, to, 1, Unsure("timeout"))])
    assert ID not in model.rows
    assert model.deliveries[ID].mark == max(receipts)


@given(st.sampled_from(Mark), st.booleans())
def test_a_repeated_doubt_never_ends_in_a_word_that_a_receipt_could_not_raise(end, duplicate_possible):
    said = last_word(end, duplicate_possible)
    assert said == end or (duplicate_possible and said == Mark.unknown)
    if duplicate_possible:
        assert max(said, Mark.delivered) in (Mark.delivered, Mark.undelivered)

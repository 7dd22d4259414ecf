"""Ids lead to their slot and their time; references come back exactly or not at all."""

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from tidings.domain.ids import (
    MOST_TRIES,
    RANDOM_BITS,
    SLOTS,
    bounds,
    compose,
    first_at,
    parse_reference,
    reference,
    sibling,
    slot_in,
    slot_of,
    unix_ms_in,
)

slots = st.integers(0, SLOTS - 1)
instants_ms = st.integers(0, (1 << 48) - 1)
bits = st.integers(0, (1 << RANDOM_BITS) - 1)
ids = st.builds(compose, slots, instants_ms, bits)


@given(slots, instants_ms, bits)
def test_an_id_gives_back_the_slot_and_the_time_it_was_made_of(slot, unix_ms, random_bits):
    id_ = compose(slot, unix_ms, random_bits)
    assert (slot_in(id_), unix_ms_in(id_)) == (slot, unix_ms)
    assert (id_.version, id_.variant) == (7, "specified in RFC 4122")


@given(slots, instants_ms, st.integers(0, 1 << 100))
def test_too_many_random_bits_never_spill_into_slot_or_time(slot, unix_ms, random_bits):
    id_ = compose(slot, unix_ms, random_bits)
    assert (slot_in(id_), unix_ms_in(id_), id_.version) == (slot, unix_ms, 7)


@given(ids, st.integers(0, 1 << 100))
def test_a_sibling_shares_slot_and_time(id_, random_bits):
    other = sibling(id_, random_bits)
    assert (slot_in(other), unix_ms_in(other), other.version) == (slot_in(id_), unix_ms_in(id_), 7)
    assert other.variant == id_.variant


@given(ids, ids)
def test_ids_sort_by_time(one, other):
    if unix_ms_in(one) < unix_ms_in(other):
        assert one < other


@given(st.lists(ids, min_size=1, max_size=8), st.lists(bits, min_size=1, max_size=3))
def test_bounds_contain_every_id_and_its_siblings(some, random_bits):
    lowest, highest = bounds(some)
    for id_ in some:
        assert lowest <= id_ <= highest
        assert all(lowest <= sibling(id_, more) <= highest for more in random_bits)


@given(st.lists(st.builds(compose, slots, st.integers(1, (1 << 48) - 2), bits), min_size=1, max_size=8))
def test_bounds_reach_no_further_than_the_milliseconds_of_the_ids(some):
    times_ms = [unix_ms_in(id_) for id_ in some]
    lowest, highest = bounds(some)
    assert lowest == first_at(min(times_ms))
    assert highest.int + 1 == first_at(max(times_ms) + 1).int


@given(ids, st.integers(1, MOST_TRIES))
def test_a_reference_comes_back_as_its_delivery_and_try(id_, n):
    text = reference(id_, n)
    assert parse_reference(text) == (id_, n)
    assert text.isascii()
    assert len(text) <= 38


@given(st.one_of(st.text(max_size=50), st.binary(max_size=40), st.integers(), st.none(), st.lists(st.text())))
def test_anything_else_is_no_reference(thing):
    assert parse_reference(thing) is None


@given(ids, st.integers(1, MOST_TRIES), st.data())
def test_a_reference_with_any_change_is_another_one_or_none(id_, n, data):
    text = reference(id_, n)
    at = data.draw(st.integers(0, len(text)))
    changed = text[:at] + data.draw(st.text(max_size=3)) + text[at + data.draw(st.integers(0, 3)) :]
    parsed = parse_reference(changed)
    assert parsed is None or reference(*parsed) == changed


@given(st.from_regex(r"[0-9a-fA-F{}\-+_ ]{32}-[+\-_ 0-9]{1,6}", fullmatch=True))
def test_what_is_nearly_a_reference_is_accepted_only_in_the_form_that_we_make(text):
    parsed = parse_reference(text)
    if parsed is not None:
        assert reference(*parsed) == text
        assert parsed[0].version == 7
        assert 1 <= parsed[1] <= MOST_TRIES


@given(st.uuids().filter(lambda id_: id_.version != 7))
def test_an_id_that_is_not_ours_makes_no_reference(id_):
    assert parse_reference(f"{id_.hex}-1") is None


@given(st.integers(0, 2**31 - 1), st.text(st.characters(exclude_categories=["Cs"]), max_size=128))
def test_every_user_has_one_slot(tenant, user):
    assert 0 <= slot_of(tenant, user) < SLOTS
    assert slot_of(tenant, user) == slot_of(tenant, str(user))


@given(instants_ms)
def test_the_first_id_of_a_millisecond_is_below_all_of_it(unix_ms):
    assert first_at(unix_ms) <= compose(0, unix_ms, 0)
    assert unix_ms == 0 or compose(SLOTS - 1, unix_ms - 1, (1 << RANDOM_BITS) - 1) < first_at(unix_ms)
    assert isinstance(first_at(unix_ms), UUID)

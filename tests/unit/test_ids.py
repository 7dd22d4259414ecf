from collections import Counter
from uuid import UUID

import pytest

from tidings.domain.ids import SLOTS, compose, parse_reference, reference, slot_in, slot_of

ID = compose(0xABC, 0x0123456789AB, 0x1234)


def test_the_slot_can_be_read_in_the_text_of_an_id():
    assert str(ID) == "01234567-89ab-7abc-8000-000000001234"
    assert slot_in(ID) == 0xABC


def test_a_reference_is_the_id_in_hex_and_the_number_of_the_try():
    assert reference(ID, 3) == "0123456789ab7abc8000000000001234-3"


@pytest.mark.parametrize(
    "text",
    [
        "",
        ID.hex,
        f"{ID.hex}-",
        f"{ID.hex}-0",
        f"{ID.hex}--1",
        f"{ID.hex}-+1",
        f"{ID.hex}-01",
        f"{ID.hex}-1 ",
        f"{ID.hex}-1_0",
        f"{ID.hex}-٣",
        f"{ID.hex}-32768",
        f"{ID.hex}-99999",
        f"{ID.hex}_1",
        f"{ID.hex.upper()}-1",
        f"{ID}-1",
        f"{UUID(int=0).hex}-1",
        "{" + ID.hex[:30] + "}-1",
        None,
        7,
        b"0123456789ab7abc8000000000001234-3",
    ],
)
def test_what_we_did_not_make_is_no_reference(text):
    assert parse_reference(text) is None


def test_the_slot_of_a_user_never_changes_because_rows_are_stored_under_it():
    assert [slot_of(1, "user-123"), slot_of(2, "user-123"), slot_of(1, "é"), slot_of(1, "")] == [910, 2231, 676, 3280]


def test_tenant_and_user_are_not_run_together():
    assert slot_of(1, "1x") != slot_of(11, "x")


def test_users_spread_evenly_over_the_slots():
    counts = Counter(slot_of(1, f"user-{n}") for n in range(SLOTS * 16))
    assert len(counts) == SLOTS
    assert max(counts.values()) < 16 * 3

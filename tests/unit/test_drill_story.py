"""What a drill says of itself is read off what was noted."""

import pytest
from msgspec.structs import replace

from tidings.bench.drill import story
from tidings.bench.drill.story import FIRST, SECOND, Arrival, Notes, Phase, Turn, late_ms, promises, rows
from tidings.bench.ledger import Call, Database, Ledgers, check

CLEAN = check(Ledgers(Database({}, {}, {}, {}), [], []))
DOWN = Phase(story.FIRST_DOWN, 10_000, 20_000, asked=100, waiting=0, spent=0, dead=0)
BACK = Phase(story.FIRST_BACK, 20_000, 25_000, asked=50, waiting=0, spent=0, dead=0)
NOBODY = Phase(story.BOTH_DOWN, 25_000, 35_000, asked=100, waiting=100, spent=1, dead=0)
DRAIN = Phase(story.BOTH_BACK, 35_000, 40_000, asked=0, waiting=0, spent=0, dead=0)


def arrivals() -> list[Arrival]:
    """Ten a second: by the second while the first is down, from the backlog once both are back."""
    steady = [Arrival(SECOND, n % 4 == 0, 10_000 + 100 * n, 10_050 + 100 * n) for n in range(100)]
    waited = [Arrival(FIRST, False, 25_000 + 100 * n, 35_100 + 20 * n) for n in range(75)]
    promoted = [Arrival(FIRST, True, 25_000 + 400 * n, 36_700 + 20 * n) for n in range(25)]
    return [*steady, *waited, *promoted]


def notes() -> Notes:
    turns = [
        Turn(FIRST, "closed", 1_000, None),
        Turn(FIRST, "open", 11_200, "connect_refused"),
        Turn(FIRST, "closed", 22_000, None),
    ]
    return Notes([DOWN, BACK, NOBODY, DRAIN], arrivals(), turns, 200, CLEAN)


def broken(noted: Notes) -> set[str]:
    return {promise.what for promise in promises(noted) if not promise.kept}


def test_a_drill_that_went_well_keeps_every_promise() -> None:
    assert broken(notes()) == set()
    assert len(promises(notes())) == 10


def test_a_line_for_each_phase_says_who_took_how_much_and_how_fast() -> None:
    first, *_, last = rows(notes())
    assert (first[FIRST], first[SECOND], first["p50_ms"]) == (0, 100, 50)
    assert (last[FIRST], last[SECOND], last["seconds"]) == (100, 0, 5.0)


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda one: replace(one, turns=one.turns[:1]), "the breaker of sendgrid opens"),
        (lambda one: replace(one, turns=one.turns[:2]), "sendgrid is used again"),
        (lambda one: replace(one, arrivals=[a for a in one.arrivals if a.provider == FIRST]), "mailgun takes over"),
        (lambda one: replace(one, phases=[replace(NOBODY, spent=2)]), "waiting uses up nothing"),
        (lambda one: replace(one, phases=[replace(NOBODY, dead=1)]), "waiting uses up nothing"),
        (lambda one: replace(one, phases=[replace(NOBODY, waiting=0)]), "waiting uses up nothing"),
        (lambda one: replace(one, drain_per_s=10), "bounded rate"),
        (lambda one: replace(one, arrivals=[]), "it drains"),
        (
            lambda one: replace(one, arrivals=[replace(a, promotional=not a.promotional) for a in one.arrivals]),
            "transactional goes before",
        ),
        (
            lambda one: replace(one, arrivals=[replace(a, asked_ms=60_000 - a.asked_ms) for a in one.arrivals]),
            "transactional, the older first",
        ),
    ],
)
def test_a_promise_that_was_broken_is_named(spoil, named: str) -> None:
    assert any(named in what for what in broken(spoil(notes()))), broken(spoil(notes()))


def test_a_ledger_that_is_not_clean_breaks_the_last_promise() -> None:
    lost = check(Ledgers(Database({}, {}, {}, {}), [Call("user/key", 202, b"\x01" * 16)], []))
    assert not lost.clean
    assert any("ledgers" in what for what in broken(replace(notes(), ledger=lost)))


def test_who_was_overtaken_knows_how_much_later_he_arrived_than_in_perfect_order() -> None:
    order = [Arrival(FIRST, False, asked, 10.0 * n) for n, asked in enumerate((1, 2, 5, 3, 4, 6))]
    assert late_ms(order) == [0, 0, 10, 10, 0, 0]
    together = [Arrival(FIRST, False, 7, arrived) for arrived in (1.0, 2.0, 3.0)]
    assert late_ms(together) == [0, 0, 0], "those of one instant have no order"

"""What an account's settings say of its price, and that money stays exact."""

from collections.abc import Mapping
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidings.domain.errors import Invalid
from tidings.domain.price import Price, amount, check_change, known_price, price_of

USD = {"currency": "USD"}
AMOUNTS = st.decimals(min_value=0, max_value=9_999_999, places=6, allow_nan=False, allow_infinity=False)


def test_an_account_has_a_usual_price_and_others_by_country():
    price = price_of({"api_key": "x", "price": "0.0083", "price.NO": "0.0732", "price.FR": "1", **USD})
    assert price == Price("USD", 8_300, {"NO": 73_200, "FR": 1_000_000})
    assert [price.cost_micros(2, country) for country in ("US", None, "NO", "FR")] == [
        16_600,
        16_600,
        146_400,
        2 * 10**6,
    ]


def test_where_only_some_countries_have_a_price_the_others_cost_nobody_knows_what():
    price = price_of({"price.NO": "0.05", **USD})
    assert price is not None
    assert [price.cost_micros(3, country) for country in ("NO", "SE", None)] == [150_000, None, None]


def test_what_is_free_costs_nothing_which_is_not_the_same_as_unknown():
    price = price_of({"price": "0", "price.NO": "", **USD})
    assert price == Price("USD", 0)
    assert price.cost_micros(7, "NO") == 0


def test_without_a_currency_there_is_no_price():
    assert price_of({}) is price_of({"price": "", "currency": "", "price.NO": ""}) is None
    assert price_of(USD) == Price("USD")


@pytest.mark.parametrize(
    ("settings", "pointer", "code"),
    [
        *[({"price": text, **USD}, "/settings/price", "invalid") for text in (
            "-1", "+1", "1,5", "1.", ".5", " 1", "1 ", "1\n", "1e3", "nan", "Infinity", "0x1", "1_000",
            "0.1234567", "12345678", "٣", "１", "free", "9" * 8_000,
        )],
        ({"price.NO": "0,5", **USD}, "/settings/price.NO", "invalid"),
        *[({name: "1", **USD}, f"/settings/{name}", "invalid") for name in (
            "price.", "price.no", "price.NOR", "price.Norway", "price.N0", "price.NO.1", "price.NO\n",
        )],
        ({"price.": "", **USD}, "/settings/price.", "invalid"),
        ({"price.N/~": "1", **USD}, "/settings/price.N~1~0", "invalid"),
        *[({"currency": it}, "/settings/currency", "invalid") for it in ("usd", "$", "US", "USDT", "USD\n", " ", "€")],
        ({"price": "1"}, "/settings/currency", "missing_field"),
        ({"price.NO": "1", "currency": ""}, "/settings/currency", "missing_field"),
    ],
)  # fmt: skip
def test_what_cannot_be_a_price_is_refused_where_it_stands(settings: Mapping[str, str], pointer: str, code: str):
    with pytest.raises(Invalid) as refused:
        price_of(settings)
    assert (refused.value.pointer, refused.value.code) == (pointer, code)
    assert known_price(settings) is None, "what is stored must be read all the same"


def test_a_price_may_change_and_its_currency_may_not():
    old = {"price": "1", **USD}
    for new in (old, {"price": "2", **USD}, USD, {"price": "", "price.NO": "1", **USD}):
        check_change(old, new)
    for new in (
        {"price": "1", "currency": "EUR"},
        {"currency": ""},
        {"price": "x", **USD},
        {"price": "1", "currency": ""},
    ):
        with pytest.raises(Invalid):
            check_change(old, new)


def test_who_has_no_currency_may_have_any_and_settings_from_before_that_make_no_sense_may_be_mended():
    for old in ({}, {"currency": ""}, {"currency": "dollars"}, {"currency": "USD", "price": "cheap"}):
        check_change(old, {"price": "1", "currency": "EUR"})


@pytest.mark.parametrize(
    ("micros", "text"),
    [(0, "0"), (1, "0.000001"), (100, "0.0001"), (15_800, "0.0158"), (1_000_000, "1"), (10_000_000, "10"),
     (10_500_000, "10.5"), (123_456_789, "123.456789"), (10**19 + 1, "10000000000000.000001")],
)  # fmt: skip
def test_amounts_are_shown_in_full_and_without_idle_zeros(micros: int, text: str):
    assert amount(micros) == text


@given(AMOUNTS, st.integers(1, 99))
def test_a_cost_is_the_exact_product(each: Decimal, units: int):
    price = price_of({"price": f"{each:f}", **USD})
    assert price is not None
    cost_micros = price.cost_micros(units, None)
    assert cost_micros is not None
    assert Decimal(amount(cost_micros)) == each * units

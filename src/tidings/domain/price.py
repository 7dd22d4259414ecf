"""What providers take for what they send. Money is exact: counted in millionths of its currency, never in floats."""

import re
from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from tidings.domain.errors import Invalid

_ONE: Final = 1_000_000
_PLACES: Final = 6
_AMOUNT: Final = re.compile(r"[0-9]{1,7}(\.[0-9]{1,6})?")
_COUNTRY: Final = re.compile(r"[A-Z]{2}")
_CURRENCY: Final = re.compile(r"[A-Z]{3}")


class Price(msgspec.Struct, frozen=True):
    """Of one unit: a message, for SMS a segment. In millionths of ``currency`` (ISO 4217). ``usual_micros`` is None
    where nothing is known but the prices of some countries, by their two letters."""

    currency: str
    usual_micros: int | None = None
    by_country_micros: Mapping[str, int] = {}

    def cost_micros(self, units: int, country: str | None) -> int | None:
        """None where no price is known."""
        each_micros = self.by_country_micros.get(country or "", self.usual_micros)
        return None if each_micros is None else units * each_micros


class Charge(msgspec.Struct, frozen=True, gc=False):
    """What a call comes to if it is taken. ``cost_micros`` is in the account's currency, None where no price is
    known."""

    units: int
    cost_micros: int | None = None


def price_of(settings: Mapping[str, str]) -> Price | None:
    """From an account's settings: ``price``, ``price.NO`` for a country, ``currency``. An empty one counts as none.
    None for an account without a currency. Raises Invalid with a pointer to the setting."""
    prices, currency = dict(_prices(settings)), settings.get("currency")
    if not currency:
        if prices:
            raise Invalid("a price needs a currency", pointer="/settings/currency", code="missing_field")
        return None
    if not _CURRENCY.fullmatch(currency):
        detail = "a currency is three capital letters, such as USD (ISO 4217)"
        raise Invalid(detail, pointer="/settings/currency")
    return Price(currency, prices.pop("", None), prices)


def known_price(settings: Mapping[str, str]) -> Price | None:
    """The same of what is stored. None for what cannot be used: it was kept before these settings had a meaning."""
    try:
        return price_of(settings)
    except Invalid:
        return None


def check_change(old: Mapping[str, str], new: Mapping[str, str]) -> None:
    """Whether an account's settings may change so. Raises Invalid, also for another currency: costs are on record in
    the one that the account has."""
    before, after = known_price(old), price_of(new)
    if before is not None and (after is None or after.currency != before.currency):
        detail = f"the costs of this account are on record in {before.currency}; make another account"
        raise Invalid(detail, pointer="/settings/currency")


def amount(micros: int) -> str:
    """As decimal text, without zeros at its end."""
    whole, part = divmod(micros, _ONE)
    return f"{whole}.{part:0{_PLACES}}".rstrip("0").rstrip(".")


def _prices(settings: Mapping[str, str]) -> Iterator[tuple[str, int]]:
    """By country, the usual one by ``""``."""
    for name, text in settings.items():
        first, dot, country = name.partition(".")
        if first != "price":
            continue
        if dot and not _COUNTRY.fullmatch(country):
            raise Invalid("a country is two capital letters, such as NO", pointer=_pointer(name))
        if text:
            yield country, _micros(name, text)


def _micros(name: str, text: str) -> int:
    if not _AMOUNT.fullmatch(text):
        detail = "a price is a decimal number such as 0.0079, below ten million, with six places at most"
        raise Invalid(detail, pointer=_pointer(name))
    whole, _, part = text.partition(".")
    return int(whole) * _ONE + int(part.ljust(_PLACES, "0"))


def _pointer(setting: str) -> str:
    return "/settings/" + setting.replace("~", "~0").replace("/", "~1")

"""What a call comes to: whose count holds, and which price."""

from typing import Any

import pytest

from tests.unit.test_decide import held
from tidings.channels.registry import COUNTRIES, build_channels
from tidings.domain.catalog import Account, Catalog, Sender
from tidings.domain.ids import TenantId
from tidings.domain.lanes import Channel
from tidings.domain.notification import Content
from tidings.domain.outcome import Fenced, Outcome, Refused, Sent, TryLater, TryNext, Unsure
from tidings.domain.price import Charge, Price
from tidings.pipeline.charge import Charges
from tidings.pipeline.letter import Call, Ready, Routed

US, NORWAY = "+12025550143", "+4740612345"
CHEAP = Price("USD", 8_300)
BY_COUNTRY = Price("USD", 8_300, {"NO": 73_200})
LONG = Content(text="a" * 161)
SHOP = Sender(1, TenantId(1), "shop", Channel.sms, {"number": "Shop"})


def charged(
    said: Outcome, price: Price | None, channel: Channel = Channel.sms, through: int = 1, **more: Any
) -> Charge | None:
    """Of a call with a text of two segments; account 1 is the one there is."""
    account = Account(1, TenantId(1), "main", "twilio", channel, {}, "token", price)
    catalog = Catalog(1, {}, {}, {}, {}, {}, {}, {1: account}, {}, {}, {}, ())
    units = {number: plugin.units for number, plugin in build_channels().items()}
    to = held(**{"channel": channel, "address": US, **more})
    call = Call(Ready(Routed(to, through, (1,)), LONG, SHOP, None), 1, 0.0)
    return Charges(lambda: catalog, units, COUNTRIES).of(call, said)


def test_units_are_counted_with_and_without_a_price():
    assert charged(Sent("m"), None) == Charge(2)
    assert charged(Sent("m"), Price("USD")) == Charge(2)
    assert charged(Sent("m"), CHEAP) == Charge(2, 16_600)


def test_what_the_provider_counted_goes_before_our_own_count():
    assert charged(Sent("m", units=3), CHEAP) == Charge(3, 24_900)


@pytest.mark.parametrize("channel", [Channel.email, Channel.push, Channel.whatsapp])
def test_elsewhere_a_message_is_one_unit_however_long_it_is(channel: Channel):
    assert charged(Sent("m"), CHEAP, channel) == Charge(1, 8_300)


@pytest.mark.parametrize(
    ("channel", "address", "cost_micros"),
    [
        (Channel.sms, NORWAY, 146_400),
        (Channel.sms, US, 16_600),
        (Channel.whatsapp, NORWAY, 73_200),
        (Channel.email, "ola@example.no", 8_300),
        (Channel.sms, "+80012345678", 16_600),
    ],
)
def test_a_country_may_have_a_price_of_its_own(channel: Channel, address: str, cost_micros: int):
    charge = charged(Sent("m"), BY_COUNTRY, channel, address=address)
    assert charge is not None
    assert charge.cost_micros == cost_micros


def test_where_only_another_country_has_a_price_the_cost_is_unknown():
    assert charged(Sent("m"), Price("USD", None, {"NO": 73_200})) == Charge(2)


def test_what_may_have_gone_comes_to_as_much_should_it_turn_out_so():
    assert charged(Unsure("timeout"), CHEAP) == Charge(2, 16_600)


@pytest.mark.parametrize("said", [TryLater("429"), TryNext("503"), Refused("21614"), Fenced()])
def test_what_was_surely_not_taken_comes_to_nothing(said: Outcome):
    assert charged(said, CHEAP) is None


def test_an_account_that_has_just_gone_leaves_the_units():
    assert charged(Sent("m"), CHEAP, through=2) == Charge(2)

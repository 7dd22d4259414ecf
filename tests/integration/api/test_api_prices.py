"""Prices of accounts, and the costs that are shown with attempts."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
import pytest_asyncio

from tests.integration.api.rig import Api, Said
from tidings.domain.catalog import Account
from tidings.domain.delivery import Mark
from tidings.domain.dispatch import Doubt, Finish
from tidings.domain.errors import Invalid
from tidings.domain.ids import slot_in
from tidings.domain.lanes import Channel, Class, lane_of
from tidings.domain.outcome import Sent, Unsure
from tidings.domain.price import Charge
from tidings.ports import Settled
from tidings.storage.control import _bound
from tidings.storage.dispatches import DispatchStore

LANE = lane_of(Channel.email, Class.transactional)


async def put(api: Api, name: str, **settings: str) -> Said:
    body = {"kind": "sendgrid", "settings": {"api_key": "x", **settings}}
    return await api.call("PUT", f"/api/v1/providers/{name}", body)


@pytest_asyncio.fixture
async def name(api: Api) -> str:
    """An account without a price."""
    fresh = f"priced-{uuid4()}"
    said = await put(api, fresh)
    assert (said.status, said.body["price"]) == (200, None)
    return fresh


def account_of(api: Api, name: str) -> Account:
    return next(one for one in api.edge.catalogs().accounts.values() if one.name == name)


async def test_a_price_is_kept_shown_and_taken_away_again(api: Api, name: str):
    said = await put(api, name, **{"price": "0.00830", "price.SE": "1", "price.NO": "0.0732", "currency": "USD"})
    shown = {"currency": "USD", "usual": "0.0083", "countries": {"NO": "0.0732", "SE": "1"}}
    assert (said.status, said.body["price"]) == (200, shown)
    assert said.body["settings"] == ["api_key", "currency", "price", "price.NO", "price.SE"]
    listed = (await api.call("GET", "/api/v1/providers")).body["items"]
    assert [one["price"] for one in listed if one["name"] == name] == [shown]
    assert (await put(api, name, **{"price.SE": ""})).body["price"]["countries"] == {"NO": "0.0732"}
    assert (await put(api, name, price="")).body["price"]["usual"] is None


@pytest.mark.parametrize(
    ("settings", "code", "pointer"),
    [
        ({"price": "0,01", "currency": "USD"}, "invalid", "/settings/price"),
        ({"price": "0.0000001", "currency": "USD"}, "invalid", "/settings/price"),
        ({"price.Norway": "1", "currency": "USD"}, "invalid", "/settings/price.Norway"),
        ({"price": "1", "currency": "dollars"}, "invalid", "/settings/currency"),
        ({"price": "1"}, "missing_field", "/settings/currency"),
    ],
)
async def test_what_cannot_be_a_price_is_refused_and_changes_nothing(api: Api, name: str, settings, code, pointer):
    before = account_of(api, name).settings
    said = await put(api, name, **settings)
    assert (said.status, said.code, said.pointers) == (422, code, [pointer])
    await api.edge.reload()
    assert account_of(api, name).settings == before


async def test_an_account_keeps_its_currency(api: Api, name: str):
    assert (await put(api, name, price="1", currency="USD")).status == 200
    for settings in ({"currency": "EUR"}, {"currency": "", "price": ""}):
        said = await put(api, name, **settings)
        assert (said.status, said.pointers) == (422, ["/settings/currency"])
        assert "on record in USD" in said.body["detail"]
    assert (await put(api, name, price="2", currency="USD")).body["price"]["usual"] == "2"


async def test_of_two_currencies_at_once_one_stays_whoever_asked_whom(api: Api, name: str):
    control, known = api.system.control, account_of(api, name)

    async def wish(currency: str) -> bool:
        wanted = {"price": "1", "currency": currency}
        try:
            await control.put_account(known.tenant, name, known.kind, known.channel, wanted)
        except Invalid:
            return False
        return True

    assert sorted(await asyncio.gather(*map(wish, ("USD", "EUR")))) == [False, True]


async def test_settings_that_were_kept_before_prices_were_known_disturb_nobody(api: Api, name: str):
    control, known = api.system.control, account_of(api, name)
    odd = {**known.settings, "price": "cheap", "currency": "beads"}
    sealed = control._secrets.seal(msgspec.json.encode(odd), _bound(known.tenant, name))
    await control._fetch("change_account", known.id, known.kind, sealed)
    await api.edge.reload()
    assert account_of(api, name).settings["price"] == "cheap"
    assert (await api.call("GET", f"/api/v1/providers/{name}")).body["price"] is None
    assert (await put(api, name, price="1", currency="EUR")).body["price"]["currency"] == "EUR"


class Called:
    """A notification whose delivery is held here, and goes through an account of ours."""

    def __init__(self, api: Api, account: int) -> None:
        self.api, self.account = api, account

    async def begin(self, store: DispatchStore) -> None:
        to = {"user": f"user-{uuid4()}", "email": "a@example.com"}
        said = await self.api.send({"to": to, "content": {"subject": "Hi", "text": "Hello"}})
        assert said.status == 202, said.body
        self.id, self.store = said.body["id"], store
        self.shard = self.api.system.catalog.shard(slot_in(UUID(self.id)))
        held = await store.claim(self.shard, {LANE: 1_000}, 1)
        [self.held] = [one for one in held if str(one.notification) == self.id]
        others = [one for one in held if one is not self.held]
        await store.give_back(self.shard, [one.id for one in others], [1] * len(others))
        assert [one.n for one in await store.mark(self.shard, [self.held.id], [1], [self.account])] == [1]

    async def end(self, to: Any, said: Any, charge: Charge | None) -> None:
        row = Settled(self.held.id, 1, 1, to, self.account, said, charge=charge)
        assert await self.store.settle(self.shard, [row]) == [self.held.id]

    async def shown(self) -> dict[str, Any]:
        story = (await self.api.call("GET", f"/api/v1/notifications/{self.id}")).body
        [attempt] = story["deliveries"][0]["attempts"]
        return {field: attempt[field] for field in ("provider", "outcome", "units", "cost")}


@pytest_asyncio.fixture
async def called(api: Api, name: str):
    assert (await put(api, name, price="0.0079", currency="USD")).status == 200
    one = Called(api, account_of(api, name).id)
    async with api.system.open() as shards:
        await one.begin(DispatchStore(shards, shards, 60.0, 20.0))
        yield one


async def test_a_call_that_was_taken_is_shown_with_its_units_and_its_cost(called: Called, name: str):
    await called.end(Finish(Mark.sent), Sent("m"), Charge(2, 15_800))
    cost = {"amount": "0.0158", "currency": "USD"}
    assert await called.shown() == {"provider": name, "outcome": "sent", "units": 2, "cost": cost}


async def test_another_price_changes_nothing_that_is_on_record(api: Api, called: Called, name: str):
    await called.end(Finish(Mark.sent), Sent("m"), Charge(2, 15_800))
    assert (await put(api, name, price="5")).status == 200
    assert (await called.shown())["cost"] == {"amount": "0.0158", "currency": "USD"}


async def test_without_a_price_the_units_are_shown_alone(called: Called):
    await called.end(Finish(Mark.sent), Sent("m"), Charge(2))
    shown = await called.shown()
    assert (shown["units"], shown["cost"]) == (2, None)


async def test_what_may_have_gone_has_a_cost_once_somebody_says_that_it_was_taken(called: Called):
    await called.end(Doubt("timeout", 60.0), Unsure("timeout"), Charge(2, 15_800))
    shown = await called.shown()
    assert (shown["outcome"], shown["units"], shown["cost"]) == ("unsure", None, None)
    await called.end(Finish(Mark.sent), Sent("", "receipt"), None)
    shown = await called.shown()
    assert (shown["outcome"], shown["units"], shown["cost"]["amount"]) == ("sent", 2, "0.0158")

"""Routes with weights and rules, and what an operator wants of an account."""

from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
import pytest_asyncio

from tests.integration.api.rig import Api, listening
from tidings.domain.breaker import BreakerState
from tidings.domain.lanes import Channel
from tidings.domain.routing import AccountState, Hop
from tidings.limits.board import ValkeyBoard, Wall
from tidings.ports import Seen
from tidings.web.app import build_app

ROUTE = "/api/v1/routes/email"


@pytest_asyncio.fixture
async def names(api: Api):
    """Three accounts; the route is what it was afterwards."""
    before = (await api.call("GET", ROUTE)).body["providers"]
    made = [f"account-{uuid4()}" for _ in range(3)]
    for name in made:
        said = await api.call("PUT", f"/api/v1/providers/{name}", {"kind": "sendgrid", "settings": {"api_key": "x"}})
        assert said.status == 200
    yield made
    await api.call("PUT", ROUTE, {"providers": before})


async def test_weights_and_plain_names_are_kept_as_they_were_given(api: Api, names):
    one, two, three = names
    providers = [{"name": one, "weight": 70}, {"name": two, "weight": 30}, three]
    put = await api.call("PUT", ROUTE, {"providers": providers})
    assert put.status == 200, put.body
    assert put.body["providers"] == providers == (await api.call("GET", ROUTE)).body["providers"]
    order = api.edge.catalogs().routes[api.system.tenant, Channel.email].order
    assert order.drawn
    assert [hop.weight for hop in order.hops] == [70, 30, None]


async def test_rules_by_category_and_country_are_kept_in_their_order(api: Api, names):
    one, two, three = names
    rules = [
        {"category": "news", "country": "FR", "providers": [three]},
        {"country": "FR", "providers": [two, one]},
        {"category": "news", "providers": [{"name": two, "weight": 5}, {"name": three, "weight": 1}]},
    ]
    put = await api.call("PUT", ROUTE, {"providers": [one], "rules": rules})
    assert put.status == 200, put.body
    whole = [{"category": None, "country": None, **rule} for rule in rules]
    assert put.body["rules"] == whole == (await api.call("GET", ROUTE)).body["rules"]
    catalog = api.edge.catalogs()
    route = catalog.routes[api.system.tenant, Channel.email]
    news, general = (catalog.categories[api.system.tenant, name].id for name in ("news", "general"))
    accounts = {catalog.accounts[number].name: number for number in catalog.accounts}
    assert route.order_for(news, "FR").accounts == (accounts[three],)
    assert route.order_for(general, "FR").accounts == (accounts[two], accounts[one])
    assert route.order_for(news, "DE").hops == (Hop(accounts[two], 5), Hop(accounts[three], 1))
    assert route.order_for(general, None).accounts == (accounts[one],)


async def test_a_name_that_comes_twice_keeps_its_first_place(api: Api, names):
    one, two, _ = names
    put = await api.call("PUT", ROUTE, {"providers": [one, two, {"name": one, "weight": 3}]})
    assert put.body["providers"] == [one, two]


@pytest.mark.parametrize(
    ("body", "code", "pointer"),
    [
        ({"providers": ["absent"]}, "unknown_provider", "/providers/0"),
        ({"providers": [{"name": "absent", "weight": 1}]}, "unknown_provider", "/providers/0"),
        ({"providers": [], "rules": [{"providers": []}]}, "missing_field", "/rules/0"),
        (
            {"providers": [], "rules": [{"category": "absent", "providers": []}]},
            "unknown_category",
            "/rules/0/category",
        ),
        (
            {"providers": [], "rules": [{"country": "FR", "providers": ["absent"]}]},
            "unknown_provider",
            "/rules/0/providers/0",
        ),
        ({"providers": [], "rules": [{"country": "France", "providers": []}]}, "invalid", "/rules/0/country"),
    ],
)
async def test_what_a_route_cannot_mean_is_refused_where_it_stands(api: Api, names, body, code, pointer):
    before = (await api.call("GET", ROUTE)).body
    said = await api.call("PUT", ROUTE, body)
    assert (said.status, said.pointers) == (422, [pointer])
    assert said.code == code or said.body["errors"][0]["code"] == code
    assert (await api.call("GET", ROUTE)).body == before


@pytest.mark.parametrize("weight", [0, -1, 1_001, 1.5, "1"])
async def test_a_weight_is_a_number_from_1_to_1000(api: Api, names, weight):
    said = await api.call("PUT", ROUTE, {"providers": [names[1], {"name": names[0], "weight": weight}]})
    assert (said.status, said.pointers) == (422, ["/providers/1/weight"])


@pytest.mark.parametrize(("place", "pointer"), [(3, "/providers/0"), ({"weight": 3}, "/providers/0/name")])
async def test_a_place_is_a_name_or_has_one(api: Api, names, place, pointer):
    said = await api.call("PUT", ROUTE, {"providers": [place]})
    assert (said.status, said.pointers) == (422, [pointer])


async def test_what_an_operator_wants_is_kept_and_known_at_once(api: Api, names):
    path = f"/api/v1/providers/{names[0]}"
    shown = (await api.call("GET", path)).body
    fields = ("state", "breaker", "workers_open", "since", "why", "rests_until")
    assert [shown[field] for field in fields] == ["auto", "closed", 0, None, None, None]
    for state in ("paused", "forced"):
        said = await api.call("PUT", f"{path}/state", {"state": state})
        assert (said.status, said.body["state"]) == (200, state)
        since = datetime.fromisoformat(said.body["since"])
        assert abs(datetime.now(UTC) - since) < timedelta(minutes=1)
        number = next(one.id for one in api.edge.catalogs().accounts.values() if one.name == names[0])
        assert api.edge.catalogs().ordered[number].state is AccountState(state)
    said = await api.call("PUT", f"{path}/state", {"state": "auto"})
    assert (said.body["state"], said.body["since"]) == ("auto", None)
    assert number not in api.edge.catalogs().ordered


@pytest.mark.parametrize("body", [{"state": "off"}, {"state": None}, {}, {"state": "auto", "why": "x"}])
async def test_there_are_three_states(api: Api, names, body):
    assert (await api.call("PUT", f"/api/v1/providers/{names[0]}/state", body)).status == 422


async def test_only_ones_own_accounts_can_be_ordered_about(api: Api, names):
    path = f"/api/v1/providers/{names[0]}/state"
    assert (await api.call("PUT", path, {"state": "paused"}, api.other)).status == 404
    assert (await api.call("GET", path.removesuffix("/state"))).body["state"] == "auto"
    assert (await api.call("PUT", "/api/v1/providers/absent/state", {"state": "paused"})).status == 404


async def test_a_key_that_may_not_manage_may_look(api: Api, names):
    key = await api.system.control.create_key(api.system.tenant, "looks", ["read"])
    await api.edge.reload()
    path = f"/api/v1/providers/{names[0]}"
    assert (await api.call("GET", path, key=key)).status == 200
    assert (await api.call("PUT", f"{path}/state", {"state": "paused"}, key)).status == 403
    assert (await api.call("PUT", ROUTE, {"providers": []}, key)).status == 403


@asynccontextmanager
async def with_board(api: Api, url: str):
    wall = Wall(url)
    async with listening(build_app(replace(api.edge, board=ValkeyBoard(wall, "api")))) as root:
        yield replace(api, url=root)
    await wall.close()


async def test_an_account_is_shown_as_most_workers_find_it(api: Api, names, valkey_url):
    number = next(one.id for one in api.edge.catalogs().accounts.values() if one.name == names[0])
    since, until = datetime.now(UTC), datetime.now(UTC) + timedelta(seconds=30)
    wall = Wall(valkey_url)
    workers = [ValkeyBoard(wall, f"{uuid4()}") for _ in range(2)]
    await workers[0].show([Seen(number, BreakerState.open, "http_503", since=since)])
    await workers[1].show([Seen(number, BreakerState.open, "http_503", since=since, rests_until=until)])
    async with with_board(api, valkey_url) as seen:
        shown = (await seen.call("GET", f"/api/v1/providers/{names[0]}")).body
        assert (shown["breaker"], shown["workers_open"], shown["why"]) == ("open", 2, "http_503")
        assert abs(datetime.fromisoformat(shown["since"]) - since) < timedelta(milliseconds=2)
        assert abs(datetime.fromisoformat(shown["rests_until"]) - until) < timedelta(milliseconds=2)
        listed = {one["name"]: one for one in (await seen.call("GET", "/api/v1/providers")).body["items"]}
        assert listed[names[0]] == shown
        assert listed[names[1]]["breaker"] == "closed"
    await wall.close()


async def test_without_the_board_accounts_are_shown_all_the_same(api: Api, names):
    async with with_board(api, "redis://127.0.0.1:1") as seen:
        shown = (await seen.call("GET", f"/api/v1/providers/{names[0]}")).body
        assert (shown["breaker"], shown["workers_open"]) == ("closed", 0)

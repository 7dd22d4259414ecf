"""Routes: the order in which a channel tries its accounts at providers."""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BeforeValidator, Field

from tidings.domain.catalog import Account, Catalog
from tidings.domain.errors import Invalid, NotFound
from tidings.domain.ids import TenantId
from tidings.domain.lanes import Channel
from tidings.domain.routing import Hop, Order, Route, Rule
from tidings.web.asking import channel_named
from tidings.web.edge import Edge
from tidings.web.fields import Answer, Body, MayManage, MayRead, Name, NamePath, problems
from tidings.web.providers import accounts_of


class Place(Body):
    """A provider; its name alone will do. With a weight it shares its rank with its neighbours that have one too: each
    is the first for its share of the deliveries."""

    name: Name
    weight: Annotated[int, Field(ge=1, le=1_000)] | None = None


def _named(place: Any) -> Any:
    return {"name": place} if isinstance(place, str) else place


Places = Annotated[
    list[Annotated[Place, BeforeValidator(_named, json_schema_input_type=Name | Place)]], Field(max_length=16)
]


class RuleBody(Body):
    """Another order for a category, or for the country of a telephone number, or for both at once."""

    category: Name | None = None
    country: Annotated[str, Field(pattern="^[A-Z]{2}$", description="Two letters, such as FR.")] | None = None
    providers: Places


class RouteBody(Body):
    """Names of providers: the first is tried first, unless a rule fits; of the rules the first that fits counts."""

    providers: Places
    rules: Annotated[list[RuleBody], Field(max_length=100, default_factory=list)]


class WeighedAnswer(Answer):
    name: str
    weight: int


class RuleAnswer(Answer):
    category: str | None
    country: str | None
    providers: list[str | WeighedAnswer]


class RouteAnswer(Answer):
    channel: str
    providers: list[str | WeighedAnswer]
    rules: list[RuleAnswer]


class Routing:
    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    def routes(self) -> APIRouter:
        router = APIRouter(tags=["routing"])
        router.add_api_route("/routes/{channel}", self.route, methods=["GET"], responses=problems())
        router.add_api_route("/routes/{channel}", self.put_route, methods=["PUT"], responses=problems())
        return router

    async def route(self, caller: MayRead, channel: NamePath) -> RouteAnswer:
        catalog = self._edge.catalogs()
        route = catalog.routes.get((caller.tenant, self._channel(channel)), Route.of(()))
        rules = [
            RuleAnswer(
                category=_category_name(catalog, rule.category),
                country=rule.country,
                providers=_names(catalog, rule.order),
            )
            for rule in route.rules
        ]
        return RouteAnswer(channel=channel, providers=_names(catalog, route.order), rules=rules)

    async def put_route(self, caller: MayManage, channel: NamePath, body: RouteBody) -> RouteAnswer:
        number, catalog = self._channel(channel), self._edge.catalogs()
        known = {name: one for name, one in accounts_of(catalog, caller.tenant).items() if one.channel == number}
        hops = _hops(body.providers, known, "/providers")
        rules = [
            _rule(catalog, caller.tenant, rule, _hops(rule.providers, known, f"/rules/{n}/providers"), f"/rules/{n}")
            for n, rule in enumerate(body.rules)
        ]
        await self._edge.control.put_route(caller.tenant, number, hops, rules)
        await self._edge.reload()
        return await self.route(caller, channel)

    def _channel(self, name: str) -> Channel:
        try:
            return channel_named(name, self._edge.channels)
        except Invalid as fault:
            raise NotFound from fault


def _hops(places: Sequence[Place], known: dict[str, Account], at: str) -> Sequence[Hop]:
    """A provider that is named twice keeps its first place. Raises Invalid for one that is not on this channel."""
    found = dict[str, Hop]()
    for n, place in enumerate(places):
        if place.name not in known:
            detail = "there is no provider of that name on this channel"
            raise Invalid(detail, pointer=f"{at}/{n}", code="unknown_provider")
        found.setdefault(place.name, Hop(known[place.name].id, place.weight))
    return list(found.values())


def _rule(catalog: Catalog, tenant: TenantId, rule: RuleBody, hops: Sequence[Hop], at: str) -> Rule:
    if rule.category is None and rule.country is None:
        raise Invalid("a rule names a category or a country", pointer=at, code="missing_field")
    if rule.category is None:
        return Rule(Order.of(hops), None, rule.country)
    category = catalog.categories.get((tenant, rule.category))
    if category is None:
        raise Invalid("there is no category of that name", pointer=f"{at}/category", code="unknown_category")
    return Rule(Order.of(hops), category.id, rule.country)


def _names(catalog: Catalog, order: Order) -> list[str | WeighedAnswer]:
    """Names alone where there are no weights."""
    named = [(catalog.accounts[hop.account].name, hop.weight) for hop in order.hops]
    return [name if weight is None else WeighedAnswer(name=name, weight=weight) for name, weight in named]


def _category_name(catalog: Catalog, number: int | None) -> str | None:
    return None if number is None else catalog.categories_by_id[number].name

"""Accounts at providers: what they are made of, how they are, and what an operator wants of them."""

from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import Field

from tidings.domain.catalog import Account, Catalog, receipts_path
from tidings.domain.errors import Invalid, NotFound
from tidings.domain.events import ProviderStateSet
from tidings.domain.ids import TenantId
from tidings.domain.price import Price, amount
from tidings.domain.routing import AccountState
from tidings.web.edge import Edge
from tidings.web.fields import Answer, Body, MayManage, MayRead, Name, NamePath, Stamp, problems
from tidings.web.wellbeing import Wellbeing, wellbeing

Settings = Annotated[dict[Name, Annotated[str, Field(max_length=8_192)]], Field(max_length=300, default_factory=dict)]


class ProviderBody(Body):
    """``kind`` names the adapter. Settings that are not named keep their value; none is ever shown again, but for the
    price: ``price`` of one unit, such as 0.0079, ``price.NO`` for a country, and ``currency``."""

    kind: Name
    settings: Settings


class StateBody(Body):
    """``auto`` leaves the account to its breaker, ``paused`` gives it no calls, ``forced`` ignores its breaker."""

    state: Literal["auto", "paused", "forced"]


class PriceAnswer(Answer):
    """Of one unit, as decimal text. ``usual`` is null where only the prices of some countries are known."""

    currency: str
    usual: str | None
    countries: dict[str, str]


class ProviderAnswer(Answer):
    """``settings`` are the names of those that are set. The provider sends its webhooks to ``receipts_path``.
    ``price`` is null for an account without a currency.

    ``state`` is what an operator wants. ``breaker`` is how most workers find it, ``workers_open`` how many of them do
    not find it closed; ``why`` is the code that led there, ``since`` when. While it asked to be left alone, or refuses
    the key, ``rests_until`` is set.
    """

    name: str
    kind: str
    channel: str
    settings: list[str]
    price: PriceAnswer | None
    receipts_path: str
    state: str
    breaker: str
    since: Stamp | None
    why: str | None
    workers_open: int
    rests_until: Stamp | None


class ProviderList(Answer):
    items: list[ProviderAnswer]
    next: None = None


class ProviderChecked(Answer):
    """``detail`` says what is wrong and what to do about it, null when the account can send."""

    ok: bool
    detail: str | None


class Providers:
    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    def routes(self) -> APIRouter:
        router = APIRouter(tags=["routing"])
        router.add_api_route("/providers", self.providers, methods=["GET"], responses=problems())
        router.add_api_route("/providers/{name}", self.provider, methods=["GET"], responses=problems())
        router.add_api_route("/providers/{name}", self.put_provider, methods=["PUT"], responses=problems())
        router.add_api_route("/providers/{name}/state", self.put_state, methods=["PUT"], responses=problems())
        router.add_api_route("/providers/{name}/check", self.check, methods=["POST"], responses=problems())
        return router

    async def providers(self, caller: MayRead) -> ProviderList:
        """All accounts, and how they are."""
        catalog, reports = self._edge.catalogs(), await self._edge.board.read()
        mine = accounts_of(catalog, caller.tenant).values()
        return ProviderList(items=[_shown(catalog, one, wellbeing(reports, one.id)) for one in mine])

    async def provider(self, caller: MayRead, name: NamePath) -> ProviderAnswer:
        catalog = self._edge.catalogs()
        account = accounts_of(catalog, caller.tenant).get(name)
        if account is None:
            raise NotFound
        return _shown(catalog, account, wellbeing(await self._edge.board.read(), account.id))

    async def put_provider(self, caller: MayManage, name: NamePath, body: ProviderBody) -> ProviderAnswer:
        channel = self._edge.kinds.get(body.kind)
        if channel is None:
            known = ", ".join(sorted(self._edge.kinds))
            raise Invalid(f"there are adapters for {known}", pointer="/kind", code="unknown_provider")
        old = accounts_of(self._edge.catalogs(), caller.tenant).get(name)
        settings = {**(old.settings if old else {}), **body.settings}
        flaw = self._edge.check_account(Account(0, caller.tenant, name, body.kind, channel, settings, ""))
        if flaw is not None:
            raise Invalid(flaw, pointer="/settings")
        await self._edge.control.put_account(caller.tenant, name, body.kind, channel, body.settings)
        await self._edge.reload()
        return await self.provider(caller, name)

    async def put_state(self, caller: MayManage, name: NamePath, body: StateBody) -> ProviderAnswer:
        """Every worker obeys within a second."""
        account = accounts_of(self._edge.catalogs(), caller.tenant).get(name)
        state = AccountState(body.state)
        if account is None or not await self._edge.control.set_account_state(caller.tenant, name, state):
            raise NotFound
        self._edge.emit(ProviderStateSet(account.id, name, state))
        await self._edge.reload()
        return await self.provider(caller, name)

    async def check(self, caller: MayManage, name: NamePath) -> ProviderChecked:
        """Tries its credentials by a harmless call. Nothing is sent."""
        account = accounts_of(self._edge.catalogs(), caller.tenant).get(name)
        if account is None:
            raise NotFound
        trouble = await self._edge.try_account(account)
        return ProviderChecked(ok=trouble is None, detail=f"{trouble.found}; {trouble.advice}" if trouble else None)


def accounts_of(catalog: Catalog, tenant: TenantId) -> dict[str, Account]:
    """By name."""
    return {one.name: one for one in catalog.accounts.values() if one.tenant == tenant}


def _shown(catalog: Catalog, account: Account, found: Wellbeing) -> ProviderAnswer:
    ordered = catalog.ordered.get(account.id)
    return ProviderAnswer(
        name=account.name,
        kind=account.kind,
        channel=account.channel.name,
        settings=sorted(account.settings),
        price=_price(account.price) if account.price else None,
        receipts_path=receipts_path(account),
        state=ordered.state if ordered else AccountState.auto,
        breaker=found.breaker,
        since=found.since or (ordered.since if ordered else None),
        why=found.why,
        workers_open=found.workers_open,
        rests_until=found.rests_until,
    )


def _price(price: Price) -> PriceAnswer:
    return PriceAnswer(
        currency=price.currency,
        usual=None if price.usual_micros is None else amount(price.usual_micros),
        countries={country: amount(micros) for country, micros in sorted(price.by_country_micros.items())},
    )

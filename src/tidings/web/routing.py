"""Accounts at providers, and the order in which a channel tries them."""

from typing import Annotated

from fastapi import APIRouter
from pydantic import Field

from tidings.domain.catalog import Account, receipts_path
from tidings.domain.errors import Invalid, NotFound
from tidings.domain.ids import TenantId
from tidings.domain.lanes import Channel
from tidings.web.asking import channel_named
from tidings.web.edge import Edge
from tidings.web.fields import Answer, Body, MayManage, MayRead, Name, NamePath, problems


class ProviderBody(Body):
    """``kind`` names the adapter. Settings that are not named keep their value; none is ever shown again."""

    kind: Name
    settings: Annotated[dict[Name, Annotated[str, Field(max_length=8_192)]], Field(max_length=32, default_factory=dict)]


class ProviderAnswer(Answer):
    """``settings`` are the names of those that are set. The provider sends its webhooks to ``receipts_path``."""

    name: str
    kind: str
    channel: str
    settings: list[str]
    receipts_path: str


class Providers(Answer):
    items: list[ProviderAnswer]


class RouteBody(Body):
    """Names of providers: the first is tried first."""

    providers: Annotated[list[Name], Field(max_length=16)]


class RouteAnswer(Answer):
    channel: str
    providers: list[str]


class Routing:
    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    def routes(self) -> APIRouter:
        router = APIRouter(tags=["routing"])
        router.add_api_route("/providers", self.providers, methods=["GET"], responses=problems())
        router.add_api_route("/providers/{name}", self.provider, methods=["GET"], responses=problems())
        router.add_api_route("/providers/{name}", self.put_provider, methods=["PUT"], responses=problems())
        router.add_api_route("/routes/{channel}", self.route, methods=["GET"], responses=problems())
        router.add_api_route("/routes/{channel}", self.put_route, methods=["PUT"], responses=problems())
        return router

    async def providers(self, caller: MayRead) -> Providers:
        return Providers(items=[_shown(one) for one in self._accounts(caller.tenant).values()])

    async def provider(self, caller: MayRead, name: NamePath) -> ProviderAnswer:
        account = self._accounts(caller.tenant).get(name)
        if account is None:
            raise NotFound
        return _shown(account)

    async def put_provider(self, caller: MayManage, name: NamePath, body: ProviderBody) -> ProviderAnswer:
        channel = self._edge.kinds.get(body.kind)
        if channel is None:
            known = ", ".join(sorted(self._edge.kinds))
            raise Invalid(f"there are adapters for {known}", pointer="/kind", code="unknown_provider")
        old = self._accounts(caller.tenant).get(name)
        settings = {**(old.settings if old else {}), **body.settings}
        flaw = self._edge.check_account(Account(0, caller.tenant, name, body.kind, channel, settings, ""))
        if flaw is not None:
            raise Invalid(flaw, pointer="/settings")
        account = await self._edge.control.put_account(caller.tenant, name, body.kind, channel, body.settings)
        await self._edge.reload()
        return _shown(account)

    async def route(self, caller: MayRead, channel: NamePath) -> RouteAnswer:
        catalog = self._edge.catalogs()
        number = self._channel(channel)
        accounts = catalog.routes.get((caller.tenant, number), ())
        return RouteAnswer(channel=channel, providers=[catalog.accounts[one].name for one in accounts])

    async def put_route(self, caller: MayManage, channel: NamePath, body: RouteBody) -> RouteAnswer:
        number, known = self._channel(channel), self._accounts(caller.tenant)
        for n, name in enumerate(body.providers):
            if name not in known or known[name].channel != number:
                detail = "there is no provider of that name on this channel"
                raise Invalid(detail, pointer=f"/providers/{n}", code="unknown_provider")
        accounts = [known[name].id for name in dict.fromkeys(body.providers)]
        await self._edge.control.put_route(caller.tenant, number, accounts)
        await self._edge.reload()
        return await self.route(caller, channel)

    def _accounts(self, tenant: TenantId) -> dict[str, Account]:
        return {one.name: one for one in self._edge.catalogs().accounts.values() if one.tenant == tenant}

    def _channel(self, name: str) -> Channel:
        try:
            return channel_named(name, self._edge.channels)
        except Invalid as fault:
            raise NotFound from fault


def _shown(account: Account) -> ProviderAnswer:
    return ProviderAnswer(
        name=account.name,
        kind=account.kind,
        channel=account.channel.name,
        settings=sorted(account.settings),
        receipts_path=receipts_path(account),
    )

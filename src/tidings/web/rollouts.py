"""For how many users a channel is on."""

from typing import Annotated

from fastapi import APIRouter
from pydantic import Field

from tidings.domain.errors import Invalid, NotFound
from tidings.domain.ids import TenantId
from tidings.domain.lanes import Channel
from tidings.web.asking import channel_named
from tidings.web.edge import Edge
from tidings.web.fields import Answer, Body, MayManage, MayRead, NamePath, problems


class RolloutBody(Body):
    """The share of users whom the channel reaches. A larger one takes in more, and takes nobody out."""

    percent: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]


class Rollout(Answer):
    channel: str
    percent: float


class RolloutList(Answer):
    """Every channel there is."""

    items: list[Rollout]


class Rollouts:
    """The endpoints of rollouts."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    def routes(self) -> APIRouter:
        router = APIRouter(tags=["routing"])
        router.add_api_route("/rollouts", self.rollouts, methods=["GET"], responses=problems())
        router.add_api_route("/rollouts/{channel}", self.rollout, methods=["GET"], responses=problems())
        router.add_api_route("/rollouts/{channel}", self.put_rollout, methods=["PUT"], responses=problems())
        return router

    async def rollouts(self, caller: MayRead) -> RolloutList:
        return RolloutList(items=[self._shown(caller.tenant, channel) for channel in sorted(self._edge.channels)])

    async def rollout(self, caller: MayRead, channel: NamePath) -> Rollout:
        return self._shown(caller.tenant, self._channel(channel))

    async def put_rollout(self, caller: MayManage, channel: NamePath, body: RolloutBody) -> Rollout:
        """Obeyed by every worker within a second."""
        number = self._channel(channel)
        await self._edge.control.put_rollout(caller.tenant, number, body.percent)
        await self._edge.reload()
        return self._shown(caller.tenant, number)

    def _shown(self, tenant: TenantId, channel: Channel) -> Rollout:
        return Rollout(channel=channel.name, percent=self._edge.catalogs().percent(tenant, channel))

    def _channel(self, name: str) -> Channel:
        try:
            return channel_named(name, self._edge.channels)
        except Invalid as fault:
            raise NotFound from fault

"""The dead letters: what could not be delivered, kept with all it needs to be sent after all."""

from collections.abc import Sequence
from typing import Annotated, Final, Literal
from uuid import UUID

from fastapi import APIRouter
from pydantic import Field

from tidings.domain.errors import Invalid, NotFound
from tidings.domain.ids import DeliveryId, ShardNumber
from tidings.web.auth import Caller
from tidings.web.edge import Edge
from tidings.web.fields import Answer, Body, MayManage, MayRead, PathId, Stamp, Text, problems
from tidings.web.past import Story, story

AT_ONCE: Final = 1_000


class DeadReason(Answer):
    """Dead letters of one reason; ``latest`` is a delivery to look at."""

    reason: str
    channel: str
    count: int
    first_at: Stamp
    last_at: Stamp
    latest: UUID


class DeadReasons(Answer):
    items: list[DeadReason]
    next: None = None


class DeadLetter(Answer):
    """One delivery that could not be made, with the story of its notification."""

    id: UUID
    channel: str
    reason: str | None
    detail: str | None
    notification: Story


class Chosen(Body):
    """By ids of deliveries, or by reason, or both. ``dry_run`` only counts."""

    ids: Annotated[list[Annotated[UUID, Field(strict=False)]], Field(min_length=1, max_length=1_000)] | None = None
    reason: Text | None = None
    dry_run: bool = False


class Done(Answer):
    """The deliveries concerned, of each shard at most a thousand in one call; ``more`` says to call again."""

    ids: list[UUID]
    more: bool


class DeadLetters:
    """The endpoints of the dead letters."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    def routes(self) -> APIRouter:
        router = APIRouter(tags=["dead letters"])
        router.add_api_route("/dead-letters", self.reasons, methods=["GET"], responses=problems())
        router.add_api_route("/dead-letters/{id}", self.one, methods=["GET"], responses=problems())
        router.add_api_route("/dead-letters/replay", self.replay, methods=["POST"], responses=problems())
        router.add_api_route("/dead-letters/discard", self.discard, methods=["POST"], responses=problems())
        return router

    async def reasons(self, caller: MayRead) -> DeadReasons:
        """Grouped by reason, the most frequent first."""
        found = await self._edge.queries.dead_reasons(caller.tenant)
        items = [
            DeadReason(
                reason=one.reason,
                channel=one.channel.name,
                count=one.count,
                first_at=one.first_at,
                last_at=one.last_at,
                latest=one.latest,
            )
            for one in found
        ]
        return DeadReasons(items=items)

    async def one(self, caller: MayRead, id: PathId) -> DeadLetter:
        """Why a delivery could not be made, and all that was tried."""
        past = await self._edge.queries.dead_letter(caller.tenant, DeliveryId(id))
        if past is None:
            raise NotFound
        told = story(past, self._edge.catalogs())
        [dead] = [one for one in told.deliveries if one.id == id]
        return DeadLetter(id=id, channel=dead.channel, reason=dead.reason, detail=dead.detail, notification=told)

    async def replay(self, caller: MayManage, body: Chosen) -> Done:
        """Back to their lanes, with a fresh schedule."""
        return await self._act(caller, body, "replay")

    async def discard(self, caller: MayManage, body: Chosen) -> Done:
        """Given up for good: their deliveries end as dead."""
        return await self._act(caller, body, "discard")

    async def _act(self, caller: Caller, chosen: Chosen, act: Literal["replay", "discard"]) -> Done:
        if chosen.ids is None and chosen.reason is None:
            raise Invalid("name ids or a reason", pointer="/ids", code="missing_field")
        done, more = list[UUID](), False
        for shard in self._edge.queries.shards:
            wanted = await self._edge.queries.dead(shard, caller.tenant, chosen.reason, chosen.ids, AT_ONCE)
            done += wanted if chosen.dry_run or not wanted else await self._each(shard, wanted, act)
            more = more or len(wanted) == AT_ONCE
        return Done(ids=done, more=more)

    async def _each(self, shard: ShardNumber, wanted: Sequence[DeliveryId], act: str) -> Sequence[DeliveryId]:
        dispatches = self._edge.dispatches
        if act == "replay":
            return await dispatches.replay(shard, wanted)
        return await dispatches.discard(shard, wanted, None)

"""The dead letters: what could not be delivered, kept with all it needs to be sent after all."""

from collections.abc import Sequence
from typing import Annotated, Final, Literal
from uuid import UUID

from fastapi import APIRouter
from pydantic import Field

from tidings.domain.errors import Invalid
from tidings.domain.ids import DeliveryId, ShardNumber
from tidings.web.auth import Caller
from tidings.web.edge import Edge
from tidings.web.fields import Answer, Body, MayManage, MayRead, Stamp, Text, problems

AT_ONCE: Final = 10_000


class DeadCause(Answer):
    """Dead letters of one cause; ``latest`` is a delivery to look at."""

    cause: str
    channel: str
    count: int
    first_at: Stamp
    last_at: Stamp
    latest: UUID


class DeadCauses(Answer):
    items: list[DeadCause]
    next: None = None


class Chosen(Body):
    """By ids of deliveries, or by cause, or both. ``dry_run`` only counts."""

    ids: Annotated[list[Annotated[UUID, Field(strict=False)]], Field(min_length=1, max_length=1_000)] | None = None
    cause: Text | None = None
    dry_run: bool = False


class Done(Answer):
    """``count`` dead letters, of at most 10,000 a shard in one call; ``more`` says to call again."""

    count: int
    more: bool


class DeadLetters:
    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    def routes(self) -> APIRouter:
        router = APIRouter(tags=["dead letters"])
        router.add_api_route("/dead-letters", self.causes, methods=["GET"], responses=problems())
        router.add_api_route("/dead-letters/replay", self.replay, methods=["POST"], responses=problems())
        router.add_api_route("/dead-letters/discard", self.discard, methods=["POST"], responses=problems())
        return router

    async def causes(self, caller: MayRead) -> DeadCauses:
        """Grouped by cause, the most frequent first."""
        found = await self._edge.queries.dead_causes(caller.tenant)
        items = [
            DeadCause(
                cause=one.cause,
                channel=one.channel.name,
                count=one.count,
                first_at=one.first_at,
                last_at=one.last_at,
                latest=one.latest,
            )
            for one in found
        ]
        return DeadCauses(items=items)

    async def replay(self, caller: MayManage, body: Chosen) -> Done:
        """Back to their lanes, with a fresh schedule."""
        return await self._act(caller, body, "replay")

    async def discard(self, caller: MayManage, body: Chosen) -> Done:
        """Given up for good: their deliveries end as dead."""
        return await self._act(caller, body, "discard")

    async def _act(self, caller: Caller, chosen: Chosen, act: Literal["replay", "discard"]) -> Done:
        if chosen.ids is None and chosen.cause is None:
            raise Invalid("name ids or a cause", pointer="/ids", code="missing_field")
        count, more = 0, False
        for shard in self._edge.queries.shards:
            wanted = await self._edge.queries.dead(shard, caller.tenant, chosen.cause, chosen.ids, AT_ONCE)
            count += len(wanted) if chosen.dry_run or not wanted else await self._each(shard, wanted, act)
            more = more or len(wanted) == AT_ONCE
        return Done(count=count, more=more)

    async def _each(self, shard: ShardNumber, wanted: Sequence[DeliveryId], act: str) -> int:
        dispatches = self._edge.dispatches
        if act == "replay":
            return len(await dispatches.replay(shard, wanted))
        return len(await dispatches.discard(shard, wanted, None))

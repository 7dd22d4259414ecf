"""What became of notifications, and cancelling what has not left."""

from collections.abc import Sequence
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query

from tidings.domain import ids
from tidings.domain.errors import NotFound, TooLate, UnknownCategory
from tidings.domain.history import PastNotification
from tidings.domain.ids import NotificationId, TenantId, UserId
from tidings.web.auth import Caller
from tidings.web.edge import Edge
from tidings.web.fields import MayRead, MaySend, PathId, UserPath, problems
from tidings.web.pages import Search, SearchAll, cut
from tidings.web.past import Cancelled, Story, Summaries, story, summary


class History:
    """Reading what became of notifications, and cancelling."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    def routes(self) -> APIRouter:
        router = APIRouter(tags=["notifications"])
        router.add_api_route("/notifications", self.search, methods=["GET"], responses=problems())
        router.add_api_route("/notifications/{id}", self.one, methods=["GET"], responses=problems())
        router.add_api_route("/notifications/{id}/cancel", self.cancel, methods=["POST"], responses=problems(409))
        router.add_api_route("/users/{user}/notifications", self.of_user, methods=["GET"], responses=problems())
        return router

    async def one(self, caller: MayRead, id: PathId) -> Story:
        """One notification: its deliveries, attempts and receipts, and its timeline with reasons."""
        return story(await self._past(caller.tenant, NotificationId(id)), self._edge.catalogs())

    async def of_user(self, caller: MayRead, user: UserPath, search: Annotated[Search, Query()]) -> Summaries:
        """A user's history: from one shard, and true at once."""
        return await self._of_user(caller, UserId(user), search)

    async def search(self, caller: MayRead, search: Annotated[SearchAll, Query()]) -> Summaries:
        """By user, by your own reference, or within a window of time."""
        if search.user is not None:
            return await self._of_user(caller, UserId(search.user), search)
        search = search.bounded(self._edge.clock.now())
        page = search.page(self._category(caller.tenant, search.category))
        found = await self._edge.queries.search(caller.tenant, page, search.reference)
        return self._listed(*cut(search, page, found))

    async def cancel(self, caller: MaySend, id: PathId) -> Cancelled:
        """Stops what has not left yet."""
        past = await self._past(caller.tenant, NotificationId(id))
        shard = self._edge.catalogs().shard(ids.slot_in(past.id))
        stopped = await self._edge.dispatches.cancel(shard, past.id, caller.tenant)
        if not stopped:
            raise TooLate
        now = await self._past(caller.tenant, past.id)
        return Cancelled(id=now.id, status=now.status, cancelled=list(stopped))

    async def _past(self, tenant: TenantId, id_: NotificationId) -> PastNotification:
        past = await self._edge.queries.notification(tenant, id_)
        if past is None:
            raise NotFound
        return past

    async def _of_user(self, caller: Caller, user: UserId, search: Search) -> Summaries:
        page = search.page(self._category(caller.tenant, search.category))
        found = await self._edge.queries.of_user(caller.tenant, user, page, search.reference)
        return self._listed(*cut(search, page, found))

    def _listed(self, found: Sequence[PastNotification], next_: UUID | None) -> Summaries:
        catalog = self._edge.catalogs()
        return Summaries(items=[summary(one, catalog) for one in found], next=next_)

    def _category(self, tenant: TenantId, name: str | None) -> int | None:
        """Raises UnknownCategory."""
        if name is None:
            return None
        category = self._edge.catalogs().categories.get((tenant, name))
        if category is None:
            raise UnknownCategory(pointer="?category")
        return category.id

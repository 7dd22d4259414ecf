"""What is in doubt: calls that may have gone, and nobody can tell yet."""

from fastapi import APIRouter

from tidings.web.edge import Edge
from tidings.web.fields import Answer, MayRead, Stamp, problems


class InDoubt(Answer):
    """``provider`` is null for an account that is no longer there; ``oldest_at`` is when the oldest call was made."""

    channel: str
    provider: str | None
    count: int
    oldest_at: Stamp


class AllInDoubt(Answer):
    items: list[InDoubt]
    next: None = None


class Doubts:
    """The endpoint of what is in doubt."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    def routes(self) -> APIRouter:
        router = APIRouter(tags=["in doubt"])
        router.add_api_route("/in-doubt", self.list, methods=["GET"], responses=problems())
        return router

    async def list(self, caller: MayRead) -> AllInDoubt:
        """How many deliveries are in doubt by channel and provider, the oldest first."""
        accounts = self._edge.catalogs().accounts
        found = await self._edge.doubts.of_tenant(caller.tenant)
        return AllInDoubt(
            items=[
                InDoubt(
                    channel=one.channel.name,
                    provider=accounts[one.account].name if one.account in accounts else None,
                    count=one.count,
                    oldest_at=one.oldest_at,
                )
                for one in found
            ]
        )

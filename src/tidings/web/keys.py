"""API keys: made here, shown once."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter
from pydantic import Field

from tidings.domain.errors import Invalid
from tidings.web.auth import SCOPES
from tidings.web.edge import Edge
from tidings.web.fields import Answer, Body, MayManage, Name, Stamp, problems
from tidings.web.problems import ScopeMissing


class KeyBody(Body):
    """``scopes``: send, read, manage; none that the calling key does not have."""

    name: Name
    scopes: Annotated[list[str], Field(min_length=1, max_length=8)]


class KeyMade(Answer):
    """``key`` is shown this once."""

    key: str
    scopes: list[str]


class KeyListed(Answer):
    public_id: str
    scopes: list[str]
    expires_at: Stamp | None


class KeyList(Answer):
    items: list[KeyListed]
    next: None = None


class Keys:
    """The endpoints of API keys."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    def routes(self) -> APIRouter:
        router = APIRouter(tags=["keys"])
        router.add_api_route("/keys", self.list, methods=["GET"], responses=problems())
        router.add_api_route("/keys", self.make, methods=["POST"], status_code=201, responses=problems())
        return router

    async def list(self, caller: MayManage) -> KeyList:
        keys = self._edge.catalogs().keys.values()
        items = [
            KeyListed(
                public_id=key.public_id,
                scopes=sorted(key.scopes),
                expires_at=datetime.fromtimestamp(key.expires_at_unix_s, UTC) if key.expires_at_unix_s else None,
            )
            for key in keys
            if key.tenant == caller.tenant
        ]
        return KeyList(items=items)

    async def make(self, caller: MayManage, body: KeyBody) -> KeyMade:
        for n, scope in enumerate(body.scopes):
            if scope not in SCOPES:
                raise Invalid(f"there are {', '.join(SCOPES)}", pointer=f"/scopes/{n}", code="unknown_scope")
            if scope not in caller.scopes:
                raise ScopeMissing("a key can give only the scopes that it has itself")
        scopes = list(dict.fromkeys(body.scopes))
        key = await self._edge.control.create_key(caller.tenant, body.name, scopes)
        await self._edge.reload()
        return KeyMade(key=key, scopes=scopes)

"""Where a tenant's events go: its own systems, told of every change of a delivery's status, and of each other."""

from datetime import timedelta
from typing import Annotated
from uuid import uuid4

from fastapi import APIRouter
from pydantic import Field

from tidings.domain.callback import NAMES, Wanted, Webhook, test_event
from tidings.domain.errors import Invalid, NotFound
from tidings.domain.ids import TenantId
from tidings.ports import Failing
from tidings.web.edge import Edge
from tidings.web.fields import Answer, Body, MayManage, MayRead, Name, NamePath, Stamp, problems


class WebhookBody(Body):
    """``events``: none means all of them. ``rotate_secret`` makes a new secret; the old one counts for another day."""

    url: Annotated[str, Field(min_length=1, max_length=2_048)]
    events: Annotated[list[Name], Field(max_length=32)] | None = None
    enabled: bool = True
    rotate_secret: bool = False


class WebhookFailing(Answer):
    """Since when every call has failed, and how the last one did."""

    since: Stamp
    code: str


class WebhookAnswer(Answer):
    """``secret`` is shown when it is made, and never again. ``disabled_because``: by_request, gone (it answered 410) or
    failing (for too long); another PUT enables it again."""

    name: str
    url: str
    events: list[str]
    enabled: bool
    disabled_because: str | None = None
    disabled_at: Stamp | None = None
    failing: WebhookFailing | None = None
    secret: str | None = None


class WebhookList(Answer):
    items: list[WebhookAnswer]
    next: None = None


class WebhookTried(Answer):
    """``code`` is ``http_`` and the status, or why there was no answer."""

    told: bool
    code: str


class Webhooks:
    """The endpoints of webhooks."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    def routes(self) -> APIRouter:
        router = APIRouter(tags=["webhooks"])
        router.add_api_route("/webhooks", self.list, methods=["GET"], responses=problems())
        router.add_api_route("/webhooks/{name}", self.one, methods=["GET"], responses=problems())
        router.add_api_route("/webhooks/{name}", self.put, methods=["PUT"], responses=problems())
        router.add_api_route(
            "/webhooks/{name}", self.delete, methods=["DELETE"], status_code=204, responses=problems()
        )  # fmt: skip
        router.add_api_route("/webhooks/{name}/test", self.test, methods=["POST"], responses=problems())
        return router

    async def list(self, caller: MayRead) -> WebhookList:
        failing = await self._edge.webhooks.failing()
        ours = [one for one in self._edge.catalogs().webhooks.values() if one.tenant == caller.tenant]
        return WebhookList(items=[_shown(one, failing.get(one.id)) for one in sorted(ours, key=lambda one: one.name)])

    async def one(self, caller: MayRead, name: NamePath) -> WebhookAnswer:
        known = self._known(caller.tenant, name)
        return _shown(known, (await self._edge.webhooks.failing()).get(known.id))

    async def put(self, caller: MayManage, name: NamePath, body: WebhookBody) -> WebhookAnswer:
        """From the answer on, every change of a status is told. A new webhook, or a rotation, shows its secret."""
        flaw = self._edge.egress.flaw(body.url)
        if flaw is not None:
            raise Invalid(flaw, pointer="/url")
        now, overlap = self._edge.clock.now(), timedelta(seconds=self._edge.secret_overlap_s)
        wanted = Wanted(body.url, _events(body.events), body.enabled, body.rotate_secret, now + overlap)
        secret = await self._edge.webhooks.put(caller.tenant, name, wanted)
        await self._heed()
        return (await self.one(caller, name)).model_copy(update={"secret": secret})

    async def delete(self, caller: MayManage, name: NamePath) -> None:
        """What it was not told yet, it never will be."""
        if not await self._edge.webhooks.delete(caller.tenant, name):
            raise NotFound
        await self._heed()

    async def test(self, caller: MayManage, name: NamePath) -> WebhookTried:
        """Tells it a `webhook.test`, once, whether it is enabled or not."""
        known, now = self._known(caller.tenant, name), self._edge.clock.now()
        posted = await self._edge.post(known, str(uuid4()), test_event(name, now), now)
        return WebhookTried(told=posted.ok, code=posted.code)

    async def _heed(self) -> None:
        await self._edge.reload()
        await self._edge.listen(self._edge.catalogs())

    def _known(self, tenant: TenantId, name: str) -> Webhook:
        for one in self._edge.catalogs().webhooks.values():
            if (one.tenant, one.name) == (tenant, name):
                return one
        raise NotFound


def _events(names: list[str] | None) -> tuple[str, ...]:
    for n, name in enumerate(names or ()):
        if name not in NAMES:
            raise Invalid(f"there are {', '.join(NAMES)}", pointer=f"/events/{n}", code="unknown_event")
    return tuple(dict.fromkeys(names)) if names is not None else NAMES


def _shown(webhook: Webhook, failing: Failing | None) -> WebhookAnswer:
    return WebhookAnswer(
        name=webhook.name,
        url=webhook.url,
        events=list(webhook.events),
        enabled=webhook.enabled,
        disabled_because=webhook.disabled_because,
        disabled_at=webhook.disabled_at,
        failing=WebhookFailing(since=failing.since, code=failing.code) if failing else None,
    )

"""What is sent and on whose behalf: categories, templates, senders."""

from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter
from pydantic import Field

from tidings.domain.catalog import Category, DoubtPolicy
from tidings.domain.errors import NotFound
from tidings.domain.lanes import Channel, Class
from tidings.domain.template import TemplateSource
from tidings.web.asking import channel_named
from tidings.web.edge import Edge
from tidings.web.fields import Answer, Body, MayManage, MayRead, Name, NamePath, problems
from tidings.web.problems import FieldError, SeveralInvalid
from tidings.web.requests import YEAR_S

Part = Annotated[str, Field(max_length=200_000)]


class CategoryBody(Body):
    """What notifications are about. ``in_doubt`` decides about a send that may have gone, when nobody can tell."""

    class_: Annotated[Literal["transactional", "promotional"], Field(alias="class")]
    channels: Annotated[list[str], Field(min_length=1, max_length=16)]
    in_doubt: Literal["at_least_once", "at_most_once"] = "at_least_once"
    expires_after_s: Annotated[float, Field(gt=0, le=YEAR_S, strict=False)] | None = None
    required: bool = False


class CategoryAnswer(CategoryBody, Answer):
    name: str


class TemplateParts(Body):
    """Each in the template language; ``channels`` overrides parts for one channel."""

    subject: Part | None = None
    text: Part | None = None
    html: Part | None = None
    title: Part | None = None
    body: Part | None = None
    channels: dict[str, dict[str, Part]] | None = None


class TemplateBody(Body):
    content: TemplateParts
    category: Name = "general"


class TemplateAnswer(Answer):
    """``version`` is the published one's number."""

    name: str
    version: int
    category: str
    content: TemplateParts


class SenderBody(Body):
    """For each channel who messages come from: for e-mail ``email`` and ``name``."""

    channels: Annotated[dict[str, dict[str, str]], Field(min_length=1)]


class SenderAnswer(Answer):
    name: str
    channels: dict[str, dict[str, str]]


class Contents:
    """The endpoints of categories, templates and senders."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    def routes(self) -> APIRouter:
        router = APIRouter(tags=["content"])
        for path, get, put in (
            ("/categories/{name}", self.category, self.put_category),
            ("/templates/{name}", self.template, self.put_template),
            ("/senders/{name}", self.sender, self.put_sender),
        ):
            router.add_api_route(path, get, methods=["GET"], responses=problems())
            router.add_api_route(path, put, methods=["PUT"], responses=problems())
        return router

    async def category(self, caller: MayRead, name: NamePath) -> CategoryAnswer:
        known = self._edge.catalogs().categories.get((caller.tenant, name))
        if known is None:
            raise NotFound
        return _category(known)

    async def put_category(self, caller: MayManage, name: NamePath, body: CategoryBody) -> CategoryAnswer:
        channels = [
            channel_named(one, self._edge.channels, f"/channels/{n}") for n, one in enumerate(body.channels)
        ]  # fmt: skip
        await self._edge.control.put_category(
            caller.tenant,
            name,
            Class[body.class_],
            list(dict.fromkeys(channels)),
            doubt_policy=DoubtPolicy(body.in_doubt),
            expires_after_s=body.expires_after_s,
            required=body.required,
        )
        await self._edge.reload()
        return await self.category(caller, name)

    async def template(self, caller: MayRead, name: NamePath) -> TemplateAnswer:
        """The published version."""
        catalog = self._edge.catalogs()
        known = catalog.templates.get((caller.tenant, name))
        source = await self._edge.control.template_source(known.version) if known else None
        if known is None or source is None:
            raise NotFound
        category = catalog.categories_by_id[known.category].name
        return TemplateAnswer(name=name, version=known.version, category=category, content=_parts(source))

    async def put_template(self, caller: MayManage, name: NamePath, body: TemplateBody) -> TemplateAnswer:
        """Stores the next version and publishes it, once every part of it compiles."""
        source = msgspec.convert(body.content.model_dump(exclude_none=True), TemplateSource)
        faults = await self._edge.check_template(source)
        if faults:
            raise SeveralInvalid(
                [
                    FieldError(f"/content{one.part}", "template_fault", f"{_line(one.line)}{one.message}")
                    for one in faults
                ]
            )  # fmt: skip
        await self._edge.control.put_template(caller.tenant, name, body.category, source)
        await self._edge.reload()
        return await self.template(caller, name)

    async def sender(self, caller: MayRead, name: NamePath) -> SenderAnswer:
        channels = {
            channel.name: dict(one.identity)
            for (tenant, channel), senders in self._edge.catalogs().senders.items()
            for one in senders
            if tenant == caller.tenant and one.name == name
        }
        if not channels:
            raise NotFound
        return SenderAnswer(name=name, channels=channels)

    async def put_sender(self, caller: MayManage, name: NamePath, body: SenderBody) -> SenderAnswer:
        """The channels that are named; others keep theirs."""
        checked = dict[Channel, Any]()
        for one, identity in body.channels.items():
            channel = channel_named(one, self._edge.channels, f"/channels/{one}")
            checked[channel] = self._edge.channels[channel].sender(identity, pointer=f"/channels/{one}")
        for channel, identity in checked.items():
            await self._edge.control.put_sender(caller.tenant, name, channel, identity)
        await self._edge.reload()
        return await self.sender(caller, name)


def _category(known: Category) -> CategoryAnswer:
    return CategoryAnswer.model_validate(
        {
            "name": known.name,
            "class": known.class_.name,
            "channels": [channel.name for channel in known.channels],
            "in_doubt": known.doubt_policy.value,
            "expires_after_s": known.expires_after_s,
            "required": known.required,
        }
    )


def _parts(source: TemplateSource) -> TemplateParts:
    return TemplateParts(**msgspec.to_builtins(source))


def _line(line: int | None) -> str:
    return f"line {line}: " if line is not None else ""

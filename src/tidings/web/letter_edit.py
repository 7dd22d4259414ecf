"""What a dead letter would be sent with, and how a person changes that."""

from typing import Any

import msgspec

from tidings.domain.dead_letters import Contents, Edit, Letter
from tidings.domain.errors import Invalid, TemplateFault, Unavailable, UnknownTemplate
from tidings.domain.ids import TenantId
from tidings.domain.notification import Content, Payload
from tidings.ports import RenderRequest
from tidings.web.asking import check_content
from tidings.web.edge import Edge
from tidings.web.letters import Editing, Preview
from tidings.web.people import merged
from tidings.web.problems import FieldError, SeveralInvalid, TooLarge, field_error


def edit_of(edge: Edge, tenant: TenantId, letter: Letter, contents: Contents, body: Editing) -> Edit:
    """Validated by the rules of the letter's channel. Raises Invalid, SeveralInvalid, UnknownTemplate and TooLarge."""
    what = [name for name in Editing.model_fields if getattr(body, name) is not None]
    if not what:
        raise Invalid("name what to change", pointer="/address", code="missing_field")
    rules = edge.channels.get(letter.channel)
    if rules is None:
        raise Invalid("this channel is not served here", pointer="/address", code="unknown_channel")
    address = rules.normal(body.address, pointer="/address") if body.address is not None else None
    edit = Edit(
        what=", ".join(what),
        version=contents.version,
        address=address,
        address_hash=edge.address_hash(tenant, letter.channel, address) if address is not None else None,
    )
    if what == ["address"]:
        return edit
    payload, version = _written(edge, tenant, letter, contents.payload, body)
    if payload.content is not None:
        check_content(rules, payload.content)
    if len(msgspec.json.encode(payload)) > edge.limits.body_bytes:
        raise TooLarge
    return msgspec.structs.replace(edit, payload=payload, template_version=version)


def _written(edge: Edge, tenant: TenantId, letter: Letter, known: Payload, body: Editing) -> tuple[Payload, int | None]:
    """The payload as it is wanted, and the version of the template that it is for, None for content of its own."""
    data = merged(known.data, body.data) if body.data is not None else known.data
    content, version = known.content, letter.template_version
    if body.template is not None:
        if body.content is not None:
            raise Invalid("a template and content exclude each other: give one of them", pointer="/template")
        template = edge.catalogs().templates.get((tenant, body.template))
        if template is None:
            raise UnknownTemplate(pointer="/template")
        content, version = None, template.version
    elif body.content is not None:
        content, version = _content(known.content, body.content), None
    return msgspec.structs.replace(known, data=data, content=content), version


def _content(known: Content | None, patch: dict[str, Any]) -> Content:
    whole = merged(msgspec.to_builtins(known) if known is not None else {}, patch)
    try:
        return msgspec.convert(whole, Content)
    except msgspec.ValidationError as fault:
        one = field_error(fault)
        raise SeveralInvalid([FieldError(f"/content{one.pointer}", one.code, one.detail)]) from fault


async def preview(edge: Edge, letter: Letter, payload: Payload) -> Preview:
    """Rendered and shaped as a worker would do it."""
    request = RenderRequest(letter.channel, letter.template_version or 0, msgspec.json.encode(payload))
    try:
        [rendered] = await edge.renderer.render([request])
        rules = edge.channels.get(letter.channel)
        if rendered.content is None or rules is None:
            return Preview(content=None, fault=rendered.fault or "this channel is not served here")
        return Preview(content=msgspec.to_builtins(rules.shape(rendered.content)), fault=None)
    except TemplateFault as fault:
        return Preview(content=None, fault=str(fault))
    except Unavailable:
        return Preview(content=None, fault="nothing can be rendered just now")

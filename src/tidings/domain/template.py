"""The stored form of a template, and what a channel takes of it.

Escaping follows the part, not the channel: ``html`` is markup and escapes what data brings; everything else is text
for people and is left as it is (JSON bodies are made by an encoder, never by a template).
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from tidings.domain.lanes import Channel
from tidings.domain.notification import Content

PARTS: Final = ("subject", "text", "html", "title", "body")
MARKUP: Final = frozenset({"html"})

TAKES: Final[Mapping[Channel, Mapping[str, tuple[str, ...]]]] = {
    Channel.email: {"subject": ("subject",), "text": ("text",), "html": ("html",)},
    Channel.sms: {"text": ("text", "body")},
    Channel.whatsapp: {"text": ("text", "body")},
    Channel.push: {"title": ("title", "subject"), "body": ("body", "text")},
}
"""For each channel the parts it uses, and for each of them where it is taken from: the first that exists."""

OWN: Final[Mapping[Channel, re.Pattern[str]]] = {
    Channel.push: re.compile(r"data\.[A-Za-z0-9_.-]{1,64}"),
    Channel.whatsapp: re.compile(r"template|language|(?:header|body|button)\.[a-z0-9_]{1,64}"),
}
"""Parts that exist in a channel's own overrides alone. They stay there, and its plug-in knows what they mean."""


class TemplateSource(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One version of a template, before rendering: the fields of ``Content``, written in the template language.

    Variants by locale will be one more field here, and ``parts_for`` the one place that chooses among them.
    """

    subject: str | None = None
    text: str | None = None
    html: str | None = None
    title: str | None = None
    body: str | None = None
    channels: dict[str, dict[str, str]] | None = None


class Fault(msgspec.Struct, frozen=True, gc=False):
    """What is wrong with a part. ``part`` is a JSON pointer into the source; ``line`` counts from 1."""

    part: str
    message: str
    line: int | None = None


def parts_for(of: TemplateSource | Content, channel: Channel) -> dict[str, str]:
    """The parts that this channel uses, its own overrides before the common ones. Others are left out, so that a
    variable missing in a push title never stops an e-mail."""
    own = (of.channels or {}).get(channel.name, {})
    found: dict[str, str] = {}
    for part, places in TAKES.get(channel, _ALL).items():
        text = _first(own, places) or _first(_common(of), places)
        if text is not None:
            found[part] = text
    if own and channel in OWN:
        found |= {part: text for part, text in own.items() if OWN[channel].fullmatch(part)}
    return found


def assembled(parts: Mapping[str, str], channel: Channel) -> Content:
    """What ``parts_for`` chose, rendered by now, as content of this channel alone."""
    if parts.keys() <= _ALL.keys():
        return msgspec.convert(parts, Content)
    own = {part: text for part, text in parts.items() if part not in _ALL}
    common = {part: text for part, text in parts.items() if part in _ALL}
    return msgspec.convert({**common, "channels": {channel.name: own}}, Content)


def content_for(content: Content, channel: Channel) -> Content:
    """Inline content as this channel uses it."""
    return assembled(parts_for(content, channel), channel)


def written_at(content: Content, channel: Channel, part: str) -> str:
    """A pointer to what this channel takes the part from; to where it should stand when it is missing."""
    own, places = (content.channels or {}).get(channel.name, {}), TAKES[channel].get(part, ())
    if not places:
        return f"/channels/{channel.name}/{part}"
    for place in places:
        if place in own:
            return f"/channels/{channel.name}/{place}"
    common = _common(content)
    return f"/{next((place for place in places if place in common), part)}"


def every_part(source: TemplateSource) -> Iterator[tuple[str, str, str]]:
    """``(pointer, part, text)`` of all that was written, overrides included."""
    for part, text in _common(source).items():
        yield f"/{part}", part, text
    for channel, own in (source.channels or {}).items():
        for part, text in own.items():
            yield f"/channels/{channel}/{part}", part, text


def flaws(source: TemplateSource) -> list[Fault]:
    """What is wrong without compiling anything: names that do not exist, nothing to say."""
    unknown = [
        Fault(f"/channels/{channel}", "there is no such channel")
        for channel in source.channels or {}
        if channel not in Channel.__members__
    ]
    strange = [
        Fault(f"/channels/{channel}/{part}", "there is no such part")
        for channel, own in (source.channels or {}).items()
        for part in own
        if part not in PARTS and not _is_own(part, channel)
    ]
    empty = [] if any(True for _ in every_part(source)) else [Fault("", "the template has no parts")]
    return unknown + strange + empty


_ALL: Final = {part: (part,) for part in PARTS}


def _is_own(part: str, channel: str) -> bool:
    shape = OWN.get(Channel[channel]) if channel in Channel.__members__ else None
    return shape is not None and shape.fullmatch(part) is not None


def _common(of: TemplateSource | Content) -> dict[str, str]:
    written = {part: getattr(of, part) for part in PARTS}
    return {part: text for part, text in written.items() if text is not None}


def _first(parts: Mapping[str, str], places: tuple[str, ...]) -> str | None:
    return next((parts[place] for place in places if place in parts), None)

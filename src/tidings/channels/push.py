"""Push: registration tokens as they come from the app, and a title, a body and data that fit into one message.

Data is for the app and not for people: parts of the channel's own, such as ``data.order``. What templates are filled
from does not travel by itself: it may be large, and nobody wrote it for the device.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from tidings.domain.errors import Invalid, TemplateFault
from tidings.domain.lanes import Channel
from tidings.domain.notification import Content
from tidings.domain.template import Fault, content_for, written_at

MOST_TOKEN_CHARS: Final = 4096
MOST_BYTES: Final = 4096
"""What the push services of the world carry in one message, all of it counted."""
OURS_BYTES: Final = 256
"""The part of it that an adapter may use: our reference, and what makes a repeated message replace the first."""
_TOKEN: Final = re.compile(rf"[!-~]{{1,{MOST_TOKEN_CHARS}}}")
_PROJECT: Final = re.compile(r"[a-z0-9][a-z0-9.:-]{0,61}[a-z0-9]")
_TAKEN: Final = re.compile(r"ref|from|message_type|collapse_key|notification|(?:google|gcm).*")
"""Names in the data that adapters or the push services use themselves."""


class Push:
    """The channel's rules. A token is the app's, and means nothing to us: two that differ at all are two devices."""

    number: Final = Channel.push

    def normal(self, text: str, *, pointer: str = "") -> str:
        """At most 4,096 printable characters of ASCII without blanks, unchanged."""
        if _TOKEN.fullmatch(text):
            return text
        if len(text) > MOST_TOKEN_CHARS:
            raise Invalid(f"is longer than {MOST_TOKEN_CHARS} characters", pointer=pointer)
        raise Invalid("a push token is printable ASCII without blanks", pointer=pointer)

    def same(self, address: str) -> str:
        return address

    def sender(self, identity: Mapping[str, str], *, pointer: str) -> Mapping[str, str]:
        """``project``, where messages do not come from the account's own one. The app on the device says the rest."""
        for field in identity:
            if field != "project":
                raise Invalid("there is no such field", pointer=f"{pointer}/{field}")
        project = identity.get("project")
        if project is not None and not _PROJECT.fullmatch(project):
            raise Invalid("a project id is small letters, digits and hyphens", pointer=f"{pointer}/project")
        return dict(identity)

    def check(self, content: Content) -> None:
        fault = flaw_of(content_for(content, Channel.push))
        if fault is not None:
            raise Invalid(fault.message, pointer=written_at(content, Channel.push, fault.part[1:]))

    def shape(self, content: Content) -> Content:
        """A title, a body or both, and the data, not too large together."""
        fault = flaw_of(content)
        if fault is not None:
            raise TemplateFault(f"{fault.part[1:]}: {fault.message}")
        own = _own(content)
        channels = {Channel.push.name: dict(own)} if own else None
        return Content(title=content.title or None, body=content.body or None, channels=channels)

    def units(self, content: Content) -> int:
        return 1


def flaw_of(content: Content) -> Fault | None:
    """What keeps this from being a push message."""
    return next(_flaws(content), None)


def _flaws(content: Content) -> Iterator[Fault]:
    title, body, own = content.title or "", content.body or "", _own(content)
    if not title.strip() and not body.strip():
        yield Fault("/body", "a push message needs a title or a body")
    for part, text in (("title", title), ("body", body), *own.items()):
        if "\0" in text:
            yield Fault(f"/{part}", "contains NUL")
    for part in own:
        if _TAKEN.fullmatch(part.partition(".")[2]):
            yield Fault(f"/{part}", "is a name that the push services keep for themselves")
    size, most = len(msgspec.json.encode((title, body))), MOST_BYTES - OURS_BYTES
    size += len(msgspec.json.encode(own)) if own else 0
    if size > most:
        yield Fault("/body", f"title, body and data take {size} bytes; {most} is the most")


def _own(content: Content) -> Mapping[str, str]:
    return (content.channels or {}).get(Channel.push.name, {})

"""WhatsApp: telephone numbers, and either a text or a template that WhatsApp has approved.

A text may only follow within 24 hours on what the recipient wrote last, and only WhatsApp knows when that was. So
whoever begins a conversation names a template: ``"channels": {"whatsapp": {"template": …, "language": …}}``, with its
parameters beside it. ``body.1``, ``body.2`` stand for the numbered ones, ``body.name`` for those that have names;
``header.…`` likewise, and ``button.0`` is the end of the address behind the first button.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from tidings.channels.telephone import e164
from tidings.domain.errors import Invalid, TemplateFault
from tidings.domain.lanes import Channel
from tidings.domain.notification import Content
from tidings.domain.template import Fault, content_for, written_at

MOST_CHARS: Final = 4096
MOST_DISPLAY_CHARS: Final = 100
_PHONE_NUMBER_ID: Final = re.compile(r"[0-9]{5,32}")
_SHAPES: Final[Mapping[str, tuple[re.Pattern[str], str]]] = {
    "template": (re.compile(r"[a-z0-9_]{1,512}"), "the name of a template has small letters, digits and underscores"),
    "language": (re.compile(r"[a-z]{2,3}(_[A-Z]{2,3})?"), "a template needs a language such as en or pt_BR"),
}
_NUMBERED: Final = "parameters are numbered 1, 2, 3 and so on, or all of them have names"
_PARAMETERS: Final = {"header": _NUMBERED, "body": _NUMBERED, "button": "buttons are numbered from 0"}


class WhatsApp:
    """The channel's rules."""

    number: Final = Channel.whatsapp

    def normal(self, text: str, *, pointer: str = "") -> str:
        """E.164, as for SMS."""
        return e164(text, pointer)

    def same(self, address: str) -> str:
        return address

    def sender(self, identity: Mapping[str, str], *, pointer: str) -> Mapping[str, str]:
        """``phone_number_id`` is WhatsApp's id of the number that messages come from, which is not that number;
        ``display`` is the name that people see, for those who read it here."""
        for field in identity:
            if field not in ("phone_number_id", "display"):
                raise Invalid("there is no such field", pointer=f"{pointer}/{field}")
        if not _PHONE_NUMBER_ID.fullmatch(identity.get("phone_number_id", "")):
            raise Invalid("the id of a number has digits alone", pointer=f"{pointer}/phone_number_id")
        display = identity.get("display", "-")
        if not display.isprintable() or not 0 < len(display) <= MOST_DISPLAY_CHARS:
            detail = f"a name is one line of at most {MOST_DISPLAY_CHARS} characters"
            raise Invalid(detail, pointer=f"{pointer}/display")
        return dict(identity)

    def check(self, content: Content) -> None:
        fault = flaw_of(content_for(content, Channel.whatsapp))
        if fault is not None:
            raise Invalid(fault.message, pointer=written_at(content, Channel.whatsapp, fault.part[1:]))

    def shape(self, content: Content) -> Content:
        """A template with its parameters where one is named, else the text."""
        fault = flaw_of(content)
        if fault is not None:
            raise TemplateFault(f"{fault.part[1:]}: {fault.message}")
        own = _own(content)
        return Content(channels={Channel.whatsapp.name: dict(own)}) if own else Content(text=content.text)

    def units(self, content: Content) -> int:
        return 1


def flaw_of(content: Content) -> Fault | None:
    """What keeps this from being sent."""
    own = _own(content)
    if own:
        return next(_template_flaws(own), None)
    text = content.text or ""
    if not text.strip():
        return Fault("/text", "a WhatsApp message needs a text or a template")
    if "\0" in text:
        return Fault("/text", "contains NUL")
    return Fault("/text", f"is longer than {MOST_CHARS} characters") if len(text) > MOST_CHARS else None


def _own(content: Content) -> Mapping[str, str]:
    return (content.channels or {}).get(Channel.whatsapp.name, {})


def _template_flaws(own: Mapping[str, str]) -> Iterator[Fault]:
    for part, (shape, message) in _SHAPES.items():
        if not shape.fullmatch(own.get(part, "")):
            yield Fault(f"/{part}", message)
    for part, value in own.items():
        if not value.strip() or "\0" in value:
            yield Fault(f"/{part}", "a parameter is text, and not empty")
    for component, message in _PARAMETERS.items():
        names = [part.partition(".")[2] for part in own if part.startswith(f"{component}.")]
        if not _are_in_order(component, names):
            yield Fault(f"/{component}.{names[-1]}", message)


def _are_in_order(component: str, names: Sequence[str]) -> bool:
    numbers = sorted(int(name) for name in names if name.isdecimal())
    if component == "button":
        return len(numbers) == len(names)
    return not numbers or numbers == list(range(1, len(names) + 1))

"""What may stand in a header of an e-mail, whoever renders it in the end."""

import re
from collections.abc import Iterator
from typing import Final

from tidings.domain.header import flaw
from tidings.ports import Message

_NAME: Final = re.compile(r"[!-9;-~]+")


def unsafe_field(message: Message) -> str | None:
    """The name of the first field that could break out of its header line, None when all may be sent."""
    return next((name for name, value in _fields(message) if flaw(value) is not None), None)


def named(address: str, name: str | None) -> str:
    """An address as a header has it, with the name that is shown in its place."""
    quoted = (name or "").replace("\\", "\\\\").replace('"', '\\"')
    return f'"{quoted}" <{address}>' if quoted else address


def _fields(message: Message) -> Iterator[tuple[str, str]]:
    yield "reference", message.reference
    yield "to", message.to
    yield "subject", message.content.subject or ""
    yield "reply_to", message.reply_to or ""
    for name, value in message.sender.items():
        yield f"sender.{name}", value
    for name, value in message.headers.items():
        yield "headers", "" if _NAME.fullmatch(name) else "\n"
        yield f"headers.{name}", value

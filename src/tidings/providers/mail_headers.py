"""What may stand in a header of an e-mail, whoever renders it in the end."""

import re
from collections.abc import Iterator
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from typing import Final

from tidings.ports import Message

_NAME: Final = re.compile(r"[!-9;-~]+")
_BREAKS: Final = re.compile("[\x00-\x1f\x7f\x85\u2028\u2029]")


def unsafe_field(message: Message) -> str | None:
    """The name of the first field that could break out of its header line, None when all may be sent."""
    return next((name for name, value in _fields(message) if _unsafe(value)), None)


def _fields(message: Message) -> Iterator[tuple[str, str]]:
    yield "to", message.to
    yield "subject", message.content.subject or ""
    yield "reply_to", message.reply_to or ""
    for name, value in message.sender.items():
        yield f"sender.{name}", value
    for name, value in message.headers.items():
        yield "headers", "" if _NAME.fullmatch(name) else "\n"
        yield f"headers.{name}", value


def _unsafe(value: str) -> bool:
    return bool(_BREAKS.search(value) or ("=?" in value and _BREAKS.search(_decoded(value))))


def _decoded(value: str) -> str:
    """The text behind RFC 2047 encoded words, which some mailers unfold into a header of their own."""
    try:
        return str(make_header(decode_header(value)))
    except (HeaderParseError, LookupError, ValueError):
        return "\n"

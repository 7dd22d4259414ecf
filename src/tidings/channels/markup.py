"""What has to be known of HTML that hostile data went into. Each pass takes time in proportion to its length."""

import re
from html import unescape
from typing import Final

MOST_CHARS: Final = 65_536
"""No text is made from longer markup than this."""

_VALUE_CHARS: Final = 200
_MOST_LINKS: Final = 5_000
_LINKED: Final = ("href", "src", "action", "background", "poster")
_VALUE: Final = re.compile(r"""\s*=\s*["']?([^"'>]{0,%d})""" % _VALUE_CHARS)  # noqa: UP031
_SCHEME: Final = re.compile(r"([a-z][a-z0-9+.-]*):")
_BLANK: Final = re.compile(r"[\x00-\x20\x7f-\xa0]+")
_ALLOWED: Final = (
    *("http:", "https:", "mailto:", "tel:", "sms:", "cid:"),
    *("data:image/png", "data:image/gif", "data:image/jpeg", "data:image/webp"),
)

_UNREAD: Final = (("<!--", "-->"), ("<style", "</style"), ("<script", "</script"), ("<head", "</head"))
_LINE_END: Final = re.compile(r"<(?:br|/p|/div|/tr|/li|/ul|/ol|/table|/h[1-6])\b[^<>]*>", re.IGNORECASE)
_TAG: Final = re.compile(r"<[^<>]*>")


def link_flaw(html: str) -> str | None:
    """What is wrong with the first link that leads neither to the web nor to a mailbox, a telephone or a picture, or
    that cannot be told. Relative links are fine. Text that merely looks like an attribute counts as one."""
    low, seen = _lowered(html), 0
    for name in _LINKED:
        at = low.find(name)
        while at >= 0:
            at += len(name)
            value = _VALUE.match(html, at)
            flaw = _flaw(value[1]) if value else None
            seen += 1
            if flaw is not None or seen > _MOST_LINKS:
                return flaw or f"has more than {_MOST_LINKS} links"
            at = low.find(name, at)
    return None


def _flaw(value: str) -> str | None:
    if value.startswith(_ALLOWED) or (":" not in value and "&" not in value):
        return None
    head, colon, _ = value.partition(":")
    if "&" in head:  # an escaped letter or colon; browsers read those, however long they are written
        if not colon and len(value) == _VALUE_CHARS:
            return "has a link that cannot be read"
        value = unescape(value)
    target = _BLANK.sub("", value).lower()
    scheme = _SCHEME.match(target)
    return None if scheme is None or target.startswith(_ALLOWED) else f"must not have a link to {scheme[1]}:"


def text_of(html: str) -> str | None:
    """A plain reading of the markup for those who see no HTML: its text, one line for each block. None when it is too
    long or says nothing. Whoever cares for it writes a text part."""
    if len(html) > MOST_CHARS:
        return None
    for opening, closing in _UNREAD:
        html = _without(html, opening, closing)
    lines = unescape(_TAG.sub("", _LINE_END.sub("\n", html.replace("\n", " ")))).split("\n")
    read = [line for line in (" ".join(line.split()) for line in lines) if line]
    return "\n".join(read) or None


def _without(html: str, opening: str, closing: str) -> str:
    """Cuts each stretch from ``opening`` to the end of the tag ``closing``; the rest when it is never closed."""
    kept, at, low = [], 0, _lowered(html)
    while (start := low.find(opening, at)) >= 0:
        kept.append(html[at:start])
        closed = low.find(closing, start)
        ended = low.find(">", closed) if closed >= 0 else -1
        at = ended + 1 if ended >= 0 else len(html)
    return "".join([*kept, html[at:]])


def _lowered(html: str) -> str:
    """In small letters, with every character in its place: the capital dotted I alone would become two."""
    return html.replace("\u0130", "i").lower()

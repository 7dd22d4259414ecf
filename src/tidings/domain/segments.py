"""In how many segments a text travels as SMS (3GPP TS 23.038 and 23.040). Pure.

One character outside GSM-7 turns the whole message into UCS-2, which has room for less than half as much.
"""

from collections.abc import Iterable
from math import ceil
from typing import Final

import msgspec

_BASIC: Final = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_EXTENSION: Final = frozenset("\f^{}\\[~]|€")
"""Written as an escape and a second septet."""
_GSM_7: Final = _BASIC | _EXTENSION


class Encoding(msgspec.Struct, frozen=True):
    """``alone`` units fit into a message of one segment, ``joined`` into each of several, which carry a header that
    says how they belong together."""

    name: str
    alone: int
    joined: int


GSM_7: Final = Encoding("GSM-7", 160, 153)
"""Units are septets."""

UCS_2: Final = Encoding("UCS-2", 70, 67)
"""Units are UTF-16 code units, as phones and providers have read it for long: an emoji is a pair of surrogates."""


class Counted(msgspec.Struct, frozen=True):
    """``units`` are those of the encoding, what is left empty at the end of a segment not included."""

    encoding: Encoding
    units: int
    segments: int


def count(text: str) -> Counted:
    """A character of two units is never split over two segments. An empty text is one segment."""
    characters = set(text)
    encoding = GSM_7 if characters <= _GSM_7 else UCS_2
    double = characters & _EXTENSION if encoding is GSM_7 else {one for one in characters if one > "\uffff"}
    units = len(text) + sum(map(text.count, double))
    if units <= encoding.alone:
        return Counted(encoding, units, 1)
    if not double:
        return Counted(encoding, units, ceil(units / encoding.joined))
    return Counted(encoding, units, _packed((2 if one in double else 1 for one in text), encoding.joined))


def _packed(widths: Iterable[int], room: int) -> int:
    segments, used = 1, 0
    for width in widths:
        if used + width > room:
            segments, used = segments + 1, 0
        used += width
    return segments

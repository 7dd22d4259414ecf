"""JSON from outside: what could hurt later is found before anything is done with it."""

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from tidings.domain.errors import Invalid
from tidings.web.problems import Malformed, SeveralInvalid, escaped, field_error

DEPTH_MAX: Final = 64
_NUL: Final = b"\\u0000"
ANYTHING: Final[msgspec.json.Decoder[Any]] = msgspec.json.Decoder()


def read_json(body: bytes, decoder: msgspec.json.Decoder[Any], *, inside: bool = True) -> Any:
    """The value of a body. ``inside`` False leaves what it contains to a later look, part by part. Raises Malformed,
    SeveralInvalid, Invalid."""
    if inside and (_NUL in body or body.count(b"{") + body.count(b"[") > DEPTH_MAX):
        examine(body)
    try:
        return _decoded(body, decoder)
    except SeveralInvalid:
        examine(body)  # a field that is wrong is worth telling only in a body that is right
        raise


def examine(body: bytes) -> None:
    """Raises Malformed for what is nested too deeply, Invalid for NUL in a text: neither could be stored or read back.
    And what ``read_json`` raises."""
    for text, pointer in _texts(_decoded(body, ANYTHING)):
        if "\0" in text:
            raise Invalid("NUL characters cannot be stored", pointer=pointer, code="nul_character")


def _decoded(body: bytes, decoder: msgspec.json.Decoder[Any]) -> Any:
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as fault:
        raise SeveralInvalid([field_error(fault)]) from fault
    except UnicodeDecodeError as fault:
        raise Malformed("the body is not UTF-8") from fault
    except msgspec.DecodeError as fault:
        raise Malformed(str(fault)) from fault
    except RecursionError as fault:
        raise _too_deep() from fault


def _texts(root: Any) -> Iterator[tuple[str, str]]:
    """Every text with its pointer, names of fields included; without recursion."""
    open_ = [(root, "", 0)]
    while open_:
        value, pointer, depth = open_.pop()
        if depth > DEPTH_MAX:
            raise _too_deep()
        if isinstance(value, str):
            yield value, pointer
        elif isinstance(value, dict):
            yield from ((name, pointer) for name in value)
            open_ += [(inner, f"{pointer}/{escaped(name)}", depth + 1) for name, inner in value.items()]
        elif isinstance(value, list):
            open_ += [(inner, f"{pointer}/{n}", depth + 1) for n, inner in enumerate(value)]


def _too_deep() -> Malformed:
    return Malformed(f"the body is nested more than {DEPTH_MAX} levels deep")

"""What pydantic and FastAPI find wrong, in our words."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from tidings.web.problems import FieldError, escaped

_CODES: Final[Mapping[str, str]] = {"extra_forbidden": "unknown_field", "missing": "missing_field"}
_ERRORS_MAX: Final = 100
_BODY: Final = "body"


def field_errors(faults: Iterable[Mapping[str, Any]], under: str = "") -> tuple[FieldError, ...]:
    """At most a hundred, in order. What is wrong outside the body is named ``?limit``, say."""
    found = [
        FieldError(_pointer(fault["loc"], under), _CODES.get(fault["type"], "invalid"), fault["msg"])
        for fault in faults
    ]
    return tuple(found[:_ERRORS_MAX])


def no_such_id(faults: Iterable[Mapping[str, Any]]) -> bool:
    """The path holds something that cannot be an id."""
    return any(fault["loc"][0] == "path" and fault["type"].startswith("uuid") for fault in faults)


def no_body(faults: Iterable[Mapping[str, Any]]) -> bool:
    return any(tuple(fault["loc"]) == (_BODY,) and fault["type"] == "missing" for fault in faults)


def _pointer(loc: tuple[str | int, ...], under: str) -> str:
    where, *steps = loc or ("",)
    if where in ("query", "path", "header"):
        return f"?{'.'.join(map(str, steps))}"
    inside = steps if where == _BODY else [where, *steps]
    return under + "".join(f"/{escaped(str(step))}" for step in inside)

"""SQL is text with a name: ``-- name: claim`` begins a statement in ``sql/*.sql``."""

from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from typing import Final, TypeVar

T = TypeVar("T")

_MARKER: Final = "-- name: "


def load_statements(file: str) -> Mapping[str, str]:
    """The statements of ``sql/<file>.sql`` by name."""
    text = files("tidings.storage").joinpath("sql", f"{file}.sql").read_text()
    _, *sections = text.split(_MARKER)
    named = (section.partition("\n") for section in sections)
    return {name.strip(): body.strip() for name, _, body in named}


def column(values: Iterable[T]) -> Sequence[T]:
    """A parameter for ``unnest``, which fills up shorter columns with NULL: one that says nothing at all is sent empty,
    because every element costs both ends something."""
    full = list(values)
    return full if any(value is not None for value in full) else ()

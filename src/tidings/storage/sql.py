"""SQL is text with a name: ``-- name: claim`` begins a statement in ``sql/*.sql``."""

from collections.abc import Mapping
from importlib.resources import files
from typing import Final

_MARKER: Final = "-- name: "


def load_statements(file: str) -> Mapping[str, str]:
    """The statements of ``sql/<file>.sql`` by name."""
    text = files("tidings.storage").joinpath("sql", f"{file}.sql").read_text()
    _, *sections = text.split(_MARKER)
    named = (section.partition("\n") for section in sections)
    return {name.strip(): body.strip() for name, _, body in named}

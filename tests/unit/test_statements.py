"""What statements must keep to, read off their text."""

import re
from collections.abc import Iterator
from importlib.resources import files

import pytest

from tidings.storage.sql import load_statements

FILES = sorted(file.name.removesuffix(".sql") for file in files("tidings.storage").joinpath("sql").iterdir())
UPDATE = re.compile(r"UPDATE (?:notification|delivery|attempt|receipt) (\w+)\s")


def updates_of_partitions() -> Iterator[tuple[str, str, str]]:
    """Where it stands, what the table is called in it, and its text."""
    for file in FILES:
        for name, text in load_statements(file).items():
            for found in UPDATE.finditer(text):
                yield f"{file}.{name}", found[1], until_closed(text[found.start() :])


def until_closed(text: str) -> str:
    """Up to the parenthesis that was open before."""
    depth = 0
    for at, character in enumerate(text):
        depth += {"(": 1, ")": -1}.get(character, 0)
        if depth < 0:
            return text[:at]
    return text


@pytest.mark.parametrize(
    ("where", "alias", "update"), [pytest.param(*one, id=one[0]) for one in updates_of_partitions()]
)
def test_an_update_of_a_partitioned_table_names_its_rows_itself(where, alias, update):
    """PostgreSQL 18 loses the update of a row whose partition was found by a join, when somebody else changes it."""
    assert re.search(rf"\b{alias}\.id = (?:ANY\(ARRAY\(SELECT|\$\d)", update), f"{where}: by id = ANY(ARRAY(SELECT …))"
    assert re.search(rf"\b{alias}\.id BETWEEN \$\d+ AND \$\d+", update), f"{where}: between bounds"


def test_there_are_such_updates():
    assert {"dispatch.settle", "receipts.file", "dead_letters.edit"} <= {where for where, *_ in updates_of_partitions()}

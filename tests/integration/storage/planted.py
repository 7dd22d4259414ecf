"""Mutations of the SQL: a test that does not notice them notices nothing."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec


class Planted(msgspec.Struct, frozen=True):
    """In this statement, the first ``old`` after ``within`` becomes ``new``."""

    statement: str
    within: str
    old: str
    new: str

    def of(self, text: str) -> str:
        before, within, after = text.partition(self.within)
        assert within and self.old in after, "the statement has changed: plant this one anew"
        return before + within + after.replace(self.old, self.new, 1)


@contextmanager
def planted(store: Any, bug: Planted) -> Iterator[None]:
    """The store, any of those made of ``load_statements``, plays the mutated text."""
    real = store._sql
    store._sql = {**real, bug.statement: bug.of(real[bug.statement])}
    try:
        yield
    finally:
        store._sql = real

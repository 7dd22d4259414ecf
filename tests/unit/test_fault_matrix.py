"""What docs/faults.md says of each fault at each provider is what the tests do."""

import re
from importlib import import_module
from inspect import signature
from pathlib import Path

import pytest
from provider_case import Case
from provider_cases import CASES
from test_docs import DOCS, WORD, section, table

PAGE = DOCS / "faults.md"
FAULTS = [*range(30, 50), 54, 59, 60, 63, 68]
"""Those that may differ from provider to provider."""

TEST = re.compile(r"\[`(\w+)`\]\((\.\./tests/[\w/]+\.py)\)")


def matrix() -> dict[int, dict[str, list[str]]]:
    """The words in each cell, by fault and provider. A word is the name of a test, or a reason why there is none."""
    text = section("faults.md", "Provider by provider")
    head = next(line for line in text.splitlines() if line.startswith("| # |"))
    kinds = [cell.strip().strip("`") for cell in head.strip("|").split("|")[2:]]
    rows = table(text)
    return {int(row[0]): dict(zip(kinds, map(words, row[2:]), strict=True)) for row in rows}


def words(cell: str) -> list[str]:
    return WORD.findall(cell) + re.findall(r"\(([a-z])\)", cell)


def by_word() -> dict[str, tuple[str, Path, str]]:
    """By word: the test's name, its file, and what is said of it."""
    rows = table(section("faults.md", "The tests that the words stand for"))
    found = {}
    for word, test, what in rows:
        name, path = TEST.findall(test)[0]
        found[WORD.findall(word)[0]] = (name, (PAGE.parent / path).resolve(), what)
    return found


def reasons() -> set[str]:
    """Letters of the list of reasons."""
    return set(re.findall(r"^- \(([a-z])\) ", section("faults.md", "Where a fault does not apply"), re.MULTILINE))


@pytest.fixture
def covered(monkeypatch: pytest.MonkeyPatch):
    """Gives the providers that a test is about: those that it is told of, or runs through; None where it is about
    whoever it is, because nothing of the provider goes into what it shows."""

    def providers(name: str, path: Path, what: str) -> set[str] | None:
        monkeypatch.syspath_prepend(str(path.parent))
        module = import_module(path.stem)
        test = getattr(module, name)
        told = {kind for mark in getattr(test, "pytestmark", ()) for kind in _kinds(mark)}
        if told:
            return told
        if "ways" in signature(test).parameters:
            return set(module.REPORTING if "REPORTING" in test.__code__.co_names else module.WAYS)
        if "whoever" in what:
            return None
        return {kind for kind in CASES if re.search(rf"\b{kind}\b", path.read_text(), re.IGNORECASE)}

    return providers


def _kinds(mark: pytest.Mark) -> set[str]:
    """The providers among the values of a parametrised test."""
    if mark.name != "parametrize":
        return set()
    values = [
        value.values if hasattr(value, "values") and not isinstance(value, dict) else value for value in mark.args[1]
    ]
    flat = [one for value in values for one in (value if isinstance(value, tuple) else (value,))]
    return {one.kind for one in flat if isinstance(one, Case)}


def test_every_fault_that_may_differ_from_provider_to_provider_has_a_row_and_every_provider_a_column():
    assert list(matrix()) == FAULTS
    for fault, cells in matrix().items():
        assert list(cells) == list(CASES), fault
        assert all(cells.values()), f"an empty cell in the row of fault {fault}"


def test_every_word_in_a_cell_is_a_test_of_that_provider_or_a_reason(covered):
    known, letters = by_word(), reasons()
    about = {word: covered(*test) for word, test in known.items()}
    for fault, cells in matrix().items():
        for kind, named in cells.items():
            for word in named:
                assert word in letters or word in known, f"{fault}, {kind}: nobody knows {word}"
                there = about.get(word)
                assert there is None or kind in there, f"{fault}: {word} is not about {kind}"


def test_no_test_and_no_reason_is_named_in_vain():
    named = {word for cells in matrix().values() for cell in cells.values() for word in cell}
    assert named == by_word().keys() | reasons()

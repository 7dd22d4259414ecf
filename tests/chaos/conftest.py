"""Long runs. Each leaves figures, which are shown at the end."""

from collections.abc import Iterator
from typing import Any

import pytest

FIGURES = pytest.StashKey[list[tuple[str, dict[str, Any]]]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[FIGURES] = []


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    """What the test counts, by name."""
    counted: dict[str, Any] = {}
    yield counted
    request.config.stash[FIGURES].append((request.node.name, counted))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for name, counted in terminalreporter.config.stash[FIGURES]:
        terminalreporter.write_line(f"{name}: " + ", ".join(f"{what} {count}" for what, count in counted.items()))

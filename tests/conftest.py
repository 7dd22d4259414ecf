"""What all tests share: the place of the checkout, and loud news about what could not be tested."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
PACKAGES = {"cc": "gcc"}


@pytest.fixture(scope="session")
def checkout() -> Path:
    return CHECKOUT


@pytest.fixture(scope="session")
def providers_data() -> Path:
    """Facts and recorded answers of real providers, which lie beside the checkout."""
    path = CHECKOUT.parent / "shared" / "providers"
    if not path.is_dir():
        pytest.skip("not tested: the providers' recorded answers are absent (../shared/providers)")
    return path


@pytest.fixture(scope="session")
def tool() -> Callable[[str], str]:
    """Gives the path of a program of the machine, such as ``tool("nginx")``, or skips the test loudly."""

    def find(name: str) -> str:
        path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
        if path is None:
            pytest.skip(f"not tested: what needs {name} (apt-get install {PACKAGES.get(name, name)})")
        return path

    return find


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line that names what was not tested, and why."""
    skipped = terminalreporter.stats.get("skipped", [])
    if skipped:
        reasons = sorted({one.longrepr[2].removeprefix("Skipped: ") for one in skipped})
        terminalreporter.write_line(f"NOT TESTED ({len(skipped)}): {'; '.join(reasons)}", yellow=True, bold=True)

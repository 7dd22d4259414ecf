"""What all tests share: the place of the checkout, and loud news about what could not be tested."""

import os
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from tests import kafka_rig
from tests.kafka_rig import TestKafka

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


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared_kafka(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[TestKafka]:
    async with kafka_rig.running(tmp_path_factory.mktemp("kafka"), nodes=1) as kafka:
        yield kafka


@pytest_asyncio.fixture
async def kafka(shared_kafka: TestKafka) -> AsyncIterator[TestKafka]:
    """One broker, up and well. It is shared: topics need names of their own."""
    await shared_kafka.well()
    yield shared_kafka


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def shared_kafka_cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[TestKafka]:
    async with kafka_rig.running(tmp_path_factory.mktemp("kafka-cluster"), nodes=3) as kafka:
        yield kafka


@pytest_asyncio.fixture
async def kafka_cluster(shared_kafka_cluster: TestKafka) -> AsyncIterator[TestKafka]:
    """Three brokers, all of them up and well. They are shared: topics need names of their own."""
    await shared_kafka_cluster.well()
    yield shared_kafka_cluster


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line that names what was not tested, and why."""
    skipped = terminalreporter.stats.get("skipped", [])
    if skipped:
        reasons = sorted({one.longrepr[2].removeprefix("Skipped: ") for one in skipped})
        terminalreporter.write_line(f"NOT TESTED ({len(skipped)}): {'; '.join(reasons)}", yellow=True, bold=True)

"""One system for all acceptance tests that leave it whole."""

import pytest_asyncio

from tests.system import System, running


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared_system(tmp_path_factory):
    async with running(tmp_path_factory.mktemp("system")) as system:
        yield system


@pytest_asyncio.fixture
async def system(shared_system: System):
    """Healthy, and with a ledger of its own."""
    await shared_system.heal()
    await shared_system.receipts()
    yield shared_system
    await shared_system.heal()
    await shared_system.receipts()

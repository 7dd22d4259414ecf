"""One system, with two workers, for all acceptance tests that leave it whole."""

import pytest_asyncio

from tests.system import SHORT, System, running


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared_system(tmp_path_factory):
    async with running(tmp_path_factory.mktemp("system"), workers=2) as system:
        yield system


@pytest_asyncio.fixture
async def system(shared_system: System):
    """Healthy, and with ledgers of its own."""
    await shared_system.well()
    shared_system.fault_file.unlink(missing_ok=True)
    await shared_system.begin()
    yield shared_system
    shared_system.wake()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared_lone_system(tmp_path_factory):
    settings = {**SHORT, "TIDINGS_DOUBT_SETTLE_S": "2", "TIDINGS_WORKER_QUARANTINE_AFTER_CLAIMS": "2"}
    async with running(tmp_path_factory.mktemp("lone"), settings) as system:
        yield system


@pytest_asyncio.fixture
async def lone_system(shared_lone_system: System):
    """Healthy, with one worker, so that what one call shows about it is true of all: which catalog it knows, say. Its
    policies decide sooner."""
    await shared_lone_system.well()
    await shared_lone_system.begin()
    yield shared_lone_system

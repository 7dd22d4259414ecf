import pytest_asyncio

from tests.integration.shards import TwoShards, prepare


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def two(postgres) -> TwoShards:
    return await prepare(postgres)

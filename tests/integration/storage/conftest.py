from collections.abc import AsyncIterator

import pytest_asyncio

from tests.integration.shards import TwoShards, prepare
from tests.integration.storage.model_shard import ModelShard


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def two(postgres) -> TwoShards:
    return await prepare(postgres)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def still(postgres) -> AsyncIterator[ModelShard]:
    """A shard whose clock stands still."""
    async with ModelShard.open(postgres.dsn(await postgres.create_database())) as shard:
        yield shard

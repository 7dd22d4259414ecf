import pytest_asyncio

from tests.integration.api.rig import furnish, serving


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def api(postgres, tmp_path_factory):
    system, *keys = await furnish(postgres)
    async with serving(system, keys, tmp_path_factory.mktemp("api")) as running:
        yield running

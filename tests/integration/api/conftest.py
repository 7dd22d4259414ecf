import pytest_asyncio

from tests.integration.api.rig import serving


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def api(postgres, tmp_path_factory):
    async with serving(postgres, tmp_path_factory.mktemp("api")) as running:
        yield running

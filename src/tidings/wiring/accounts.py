"""What ``tidings doctor`` needs to try accounts of all tenants: the adapters that send, under the same rules."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from tidings.domain.catalog import Catalog
from tidings.pipeline.check import CheckAccount
from tidings.runtime.catalog import CatalogCache, LiveProviders
from tidings.settings import Settings
from tidings.wiring.commands import control_of
from tidings.wiring.core import flaw_of, provider_of


@asynccontextmanager
async def checking(settings: Settings) -> AsyncIterator[tuple[Catalog, CheckAccount]]:
    """Raises ``errors.Unavailable``, or ``WrongMasterKey``."""
    async with control_of(settings) as control:
        catalogs = CatalogCache(control.catalog, control.version, _untold)
        await catalogs.load()
        live = LiveProviders(catalogs, partial(provider_of, settings, catalogs), _untold, call_s=0)
        try:
            yield catalogs(), CheckAccount(catalogs, live, partial(flaw_of, settings, catalogs))
        finally:
            await live.close()


def _untold(_event: object) -> None:
    """What goes wrong is in what the check says."""

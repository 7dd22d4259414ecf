"""What a process holds of the control database: the catalog, and the live providers of its accounts."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from tidings.domain.catalog import Account, Catalog
from tidings.domain.events import StorageAway
from tidings.ports import Emit, Provider
from tidings.runtime.telemetry import adapter_fault

_LOOK_EVERY_S: Final = 0.5

Read = Callable[[], Awaitable[Catalog]]
Version = Callable[[], Awaitable[int]]
Build = Callable[[Account], Provider]


class CatalogCache:
    """The newest catalog that could be read. While the control database is away, the last one serves."""

    def __init__(self, read: Read, version: Version, emit: Emit) -> None:
        self._read = read
        self._version = version
        self._emit = emit
        self._catalog: Catalog | None = None

    def __call__(self) -> Catalog:
        if self._catalog is None:
            raise RuntimeError("the catalog was not loaded")
        return self._catalog

    async def load(self) -> None:
        self._catalog = await self._read()

    async def refresh(self) -> bool:
        """True when it had changed."""
        if self._catalog is not None and await self._version() == self._catalog.version:
            return False
        await self.load()
        return True

    async def follow(self) -> None:
        """Looks for changes until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            try:
                await self.refresh()
            except Exception:  # the top of a loop: the last catalog serves until the next look
                self._emit(StorageAway("catalog"))


class LiveProviders:
    """Implements ``ports.Providers``: one provider for each account, built anew when its settings change. An account
    whose settings cannot be used has none, and disturbs no other. ``call_s`` is longer than any call may take."""

    def __init__(self, catalogs: Callable[[], Catalog], build: Build, emit: Emit, call_s: float) -> None:
        self._call_s = call_s
        self._catalogs = catalogs
        self._build = build
        self._emit = emit
        self._live: dict[int, tuple[Account, Provider | None]] = {}
        self._retired: list[Provider] = []
        self._closing: set[asyncio.Task[None]] = set()

    def __call__(self, account_id: int) -> Provider | None:
        account = self._catalogs().accounts.get(account_id)
        if account is None:
            return None
        known = self._live.get(account_id)
        if known and known[0] == account:
            return known[1]
        provider = self._built(account)
        self._live[account_id] = (account, provider)
        if known and known[1]:
            self._close_later(known[1])
        return provider

    async def close(self) -> None:
        for closing in self._closing:
            closing.cancel()
        live = [provider for _, provider in self._live.values() if provider is not None]
        for provider in (*live, *self._retired):
            await provider.close()

    def _built(self, account: Account) -> Provider | None:
        try:
            return self._build(account)
        except ValueError as fault:
            self._emit(adapter_fault(account.id, fault))
            return None

    def _close_later(self, provider: Provider) -> None:
        """Once its calls under way have ended: whoever changes an account must not put them in doubt."""
        self._retired.append(provider)
        closing = asyncio.get_running_loop().create_task(self._retire(provider))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    async def _retire(self, provider: Provider) -> None:
        await asyncio.sleep(self._call_s)
        self._retired.remove(provider)
        await provider.close()

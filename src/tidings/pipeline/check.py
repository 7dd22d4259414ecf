"""Trying what an account would send with, before anything is sent."""

import asyncio
from collections.abc import Callable
from typing import Final

from tidings.domain.catalog import Account
from tidings.domain.outcome import Trouble
from tidings.ports import Catalogs, Providers

PATIENCE_S: Final = 20.0
"""Two calls of the usual length; who waits for the answer over HTTP waits for longer."""

Flaw = Callable[[Account], str | None]
"""Why no provider can be made of an account."""


class CheckAccount:
    def __init__(self, catalogs: Catalogs, providers: Providers, flaw: Flaw, patience_s: float = PATIENCE_S) -> None:
        self._catalogs = catalogs
        self._providers = providers
        self._flaw = flaw
        self._patience_s = patience_s

    async def __call__(self, account: Account) -> Trouble | None:
        """What keeps it from sending for the senders that its tenant has, None when nothing does."""
        provider = self._providers(account.id)
        if provider is None:
            found = self._flaw(account) or "it has just been changed"
            return Trouble(found, "correct its settings, or the rules for addresses that this process was given")
        senders = self._catalogs().senders.get((account.tenant, account.channel), ())
        try:
            async with asyncio.timeout(self._patience_s):
                return await provider.check([one.identity for one in senders])
        except TimeoutError:
            found = f"no answer: timeout (not done within {self._patience_s:g} s)"
            return Trouble(found, "see that the provider is up, and the way to it", away=True)

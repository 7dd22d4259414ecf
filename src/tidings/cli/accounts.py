"""The part of ``tidings doctor`` that tries every account at a provider."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from tidings.cli.finding import Finding
from tidings.domain.catalog import Account, Catalog
from tidings.domain.outcome import Trouble
from tidings.settings import Settings
from tidings.storage.secrets import WrongMasterKey
from tidings.wiring.accounts import checking

_SIDE_BY_SIDE: Final = 32
_ALL_S: Final = 60.0
Check = Callable[[Account], Awaitable[Trouble | None]]


async def accounts(settings: Settings) -> list[Finding]:
    """A finding for each account of each tenant, in the order of their names."""
    try:
        async with checking(settings) as (catalog, check):
            return await _tried(catalog, check)
    except WrongMasterKey as fault:
        return [Finding("accounts", "their credentials cannot be read", str(fault))]


async def _tried(catalog: Catalog, check: Check) -> list[Finding]:
    wanted = sorted(catalog.accounts.values(), key=lambda one: (catalog.tenants[one.tenant].name, one.name))
    turns, end_s = asyncio.Semaphore(_SIDE_BY_SIDE), asyncio.get_running_loop().time() + _ALL_S
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        bar = progress.add_task("accounts", total=len(wanted))

        async def one(account: Account) -> Finding:
            try:
                async with asyncio.timeout_at(end_s), turns:
                    return _finding(catalog, account, await check(account))
            except TimeoutError:
                advice = f"try it alone: `tidings providers check {account.name}`"
                return Finding(_name(catalog, account), f"not tried within {_ALL_S:g} s", warning=advice)
            finally:
                progress.advance(bar)

        return list(await asyncio.gather(*map(one, wanted)))


def _finding(catalog: Catalog, account: Account, trouble: Trouble | None) -> Finding:
    """A test tenant cannot reach anybody: what is wrong there is worth a word, and no more."""
    name = _name(catalog, account)
    if trouble is None:
        return Finding(name, "can send")
    if catalog.tenants[account.tenant].twin_of is not None:
        return Finding(name, trouble.found, warning=trouble.advice)
    return Finding(name, trouble.found, trouble.advice, away=trouble.away)


def _name(catalog: Catalog, account: Account) -> str:
    return f"account {account.name} of {catalog.tenants[account.tenant].name}"

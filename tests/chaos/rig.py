"""Steady load on a system that is being broken, and what became of it."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any
from uuid import UUID

import asyncpg

from tests.system import System
from tidings.bench.ledger import Report

IN_DOUBT = "SELECT id FROM dispatch WHERE state = 3"


class Doubts:
    """The deliveries that were seen in doubt: looked for ten times a second, so that a short doubt may be missed."""

    def __init__(self) -> None:
        self.seen: set[UUID] = set()

    async def watch(self, system: System) -> None:
        while True:
            with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                self.seen |= {row["id"] for row in await system.rows(IN_DOUBT)}
            await asyncio.sleep(0.1)


@asynccontextmanager
async def loaded(system: System, per_s: float) -> AsyncIterator[Doubts]:
    """A steady rate of careful clients meanwhile; at the end all of them have their 202, and all doubts an end."""
    doubts, clients = Doubts(), list[asyncio.Task[str]]()
    loops = [asyncio.create_task(doubts.watch(system)), asyncio.create_task(_ask(system, per_s, clients))]
    try:
        yield doubts
        loops[1].cancel()
        await asyncio.gather(*clients)
        await system.settled(180)
    finally:
        for loop in [*loops, *clients]:
            loop.cancel()
        await asyncio.gather(*loops, *clients, return_exceptions=True)


async def _ask(system: System, per_s: float, clients: list["asyncio.Task[str]"]) -> None:
    while True:
        clients.append(asyncio.create_task(system.send(again_s=60)))
        await asyncio.sleep(1 / per_s)


async def outcome(system: System, report: Report, doubts: Doubts) -> dict[str, Any]:
    """The figures of a run."""
    ends: Counter[str] = Counter()
    for role in ("api", "relay"):
        for event in system.events(role, "DoubtResolved"):
            ends[event["how"]] += event["count"]
    fenced = await system.rows("SELECT count(*) FROM attempt WHERE outcome = 'fenced'")
    return {
        "notifications": report.counts["notifications"],
        "calls taken": report.counts["references_taken"],
        "fenced": sum(row["count"] for row in fenced),
        "seen in doubt": len(doubts.seen),
        "resolved by receipt": ends["receipt"],
        "by policy": ends["policy"],
        "sent again and flagged": report.counts["duplicate_possible"],
        "lost": report.lost,
        "repeated": report.repeated,
    }

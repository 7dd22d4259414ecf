"""Providers that come and go, in every way that providers do, while workers are killed and paused: nothing is lost,
nothing comes twice, and nothing is given up."""

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from signal import SIGKILL, SIGSTOP
from typing import Any, Final

import pytest

from tests.chaos.rig import loaded, outcome
from tests.system import SHORT, System, running

pytestmark = pytest.mark.chaos

FOR_S: Final = 75
PER_S: Final = 40
LEASE_S: Final = float(SHORT["TIDINGS_WORKER_LEASE_S"])
SETTINGS: Mapping[str, str] = {
    **SHORT,
    "TIDINGS_BREAKER_FAILURES": "3",
    "TIDINGS_BREAKER_FAILURES_S": "0.2",
    "TIDINGS_BREAKER_SHARE_OF": "20",
    "TIDINGS_BREAKER_OPEN_S": "1",
    "TIDINGS_BREAKER_OPEN_MOST_S": "4",
    "TIDINGS_WORKER_DRAIN_PER_S": "100",
    # what fails while a breaker is still closed counts; a minute of comings and goings must not use it up
    "TIDINGS_WORKER_RETRY_SCHEDULE_S": "[1, 2, 4, 8, 16, 16, 16, 16]",
}
TROUBLES: Final[tuple[dict[str, Any], ...]] = (
    {"fault": "down"},
    {"fault": "error", "status": 503},
    {"fault": "rate_limit", "retry_after_s": 1},
    {"fault": "rate_limit"},
    {"fault": "unauthorized"},
    {"fault": "slow", "delay_ms": 600},
    {"fault": "accept_then_hang", "share": 0.3},
    {"fault": "accept_then_error", "status": 500, "share": 0.5},
    {"fault": "accept_then_reset", "share": 0.5},
)


@asynccontextmanager
async def coming_and_going(system: System, *providers: str, away_s: float) -> AsyncIterator[None]:
    """Each by itself is away for about so long, in one way after the other, and back for about as long."""

    async def one(name: str) -> None:
        while True:
            for trouble in random.sample(TROUBLES, len(TROUBLES)):
                await system.fault(provider=name, **trouble)
                await asyncio.sleep(random.uniform(0.5, 1.5) * away_s)
                await system.heal(name)
                await asyncio.sleep(random.uniform(0.5, 1.5) * away_s)

    loops = [asyncio.create_task(one(name)) for name in providers]
    try:
        yield
    finally:
        for loop in loops:
            loop.cancel()
        await asyncio.gather(*loops, return_exceptions=True)
        for name in providers:
            await system.heal(name)


async def workers_die_and_stand_still(system: System) -> tuple[int, int]:
    """One after the other; how often each."""
    killed = paused = 0
    end_s = time.monotonic() + FOR_S
    while time.monotonic() < end_s:
        await asyncio.sleep(random.uniform(1, 4))
        pid = random.choice(system.pids("worker"))
        if random.random() < 0.5:
            os.kill(pid, SIGKILL)
            killed += 1
            await system.replaced("worker", pid)
        else:
            os.kill(pid, SIGSTOP)
            paused += 1
            await asyncio.sleep(random.uniform(0.2, 1.4) * LEASE_S)
            system.wake()
    return killed, paused


@pytest.mark.parametrize(("providers", "away_s"), [(("sendgrid", "mailgun"), 2.0), (("sendgrid",), 4.0)])
async def test_while_providers_come_and_go_and_workers_die_nothing_is_lost_repeated_or_given_up(
    tmp_path, figures, providers: tuple[str, ...], away_s: float
):
    async with running(tmp_path, SETTINGS, workers=2) as system:
        await system.by(*providers)
        async with loaded(system, PER_S) as doubts, coming_and_going(system, *providers, away_s=away_s):
            killed, paused = await workers_die_and_stand_still(system)
        report = await system.check()
        opened = [one for one in system.events("work", "BreakerChanged") if one["state"] == "open"]
        left = sum(row["count"] for row in await system.rows("SELECT count(*) FROM dispatch"))
        figures |= {
            "providers": len(providers),
            "kills": killed,
            "pauses": paused,
            "breakers opened": len(opened),
            **await outcome(system, report, doubts),
            "given up": left,
        }
        assert opened, "there was something to survive"
        assert left == 0

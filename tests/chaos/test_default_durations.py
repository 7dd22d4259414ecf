"""The durations that a real system has: a minute's lease, half a minute for a doubt, a second's fence."""

import asyncio
import os
import random
from signal import SIGKILL, SIGSTOP, SIGTERM

import pytest

from tests.chaos.rig import loaded, outcome
from tests.system import System, running

pytestmark = pytest.mark.chaos

BLOCKED_S = 10
BEYOND_THE_LEASE_S = 75
PER_S = 20


async def test_kills_pauses_and_restarts_with_the_durations_of_a_real_system(tmp_path, figures):
    async with running(tmp_path, settings={}, workers=2) as system:
        await system.fault("slow", delay_ms=400)
        async with loaded(system, PER_S) as doubts:
            for fault in (blocked, killed, left, paused, database_killed, killed):
                await asyncio.sleep(random.uniform(2, 4))
                await fault(system)
        report = await system.check()
        figures |= await outcome(system, report, doubts)


async def blocked(system: System) -> None:
    """Between the mark and the call."""
    system.arm("after_mark", SIGSTOP)
    await system.stopped()
    await asyncio.sleep(BLOCKED_S)
    system.wake()


async def killed(system: System) -> None:
    pid = system.signal("worker", SIGKILL)
    await system.replaced("worker", pid)


async def left(system: System) -> None:
    pid = system.signal("worker", SIGTERM)
    await system.replaced("worker", pid)


async def paused(system: System) -> None:
    os.kill(random.choice(system.pids("worker")), SIGSTOP)
    await asyncio.sleep(BEYOND_THE_LEASE_S)
    system.wake()


async def database_killed(system: System) -> None:
    pid = system.signal_family("postgres")
    await system.replaced("postgres", pid)

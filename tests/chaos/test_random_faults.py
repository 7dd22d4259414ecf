"""Dozens of kills and pauses at random moments under load: nothing is lost, nothing comes twice."""

import asyncio
import os
import random
from collections import Counter
from signal import SIGKILL, SIGSTOP

import pytest

from tests.chaos.rig import loaded, outcome
from tests.system import SHORT, running

pytestmark = pytest.mark.chaos

KILLS = 30
PAUSES = 24
PER_S = 50
CONCURRENCY = 100
LEASE_S = float(SHORT["TIDINGS_WORKER_LEASE_S"])


async def test_kills_of_random_processes_lose_nothing_and_repeat_nothing(tmp_path, figures):
    killed: Counter[str] = Counter()
    async with running(tmp_path, workers=2) as system:
        await system.fault("slow", delay_ms=150)
        async with loaded(system, PER_S) as doubts:
            while killed.total() < KILLS:
                await asyncio.sleep(random.uniform(0.3, 2.0))
                role = random.choice(("worker", "worker", "api", "relay"))
                pid = random.choice(system.pids(role))
                os.kill(pid, SIGKILL)
                killed[role] += 1
                await system.replaced(role, pid)
        report = await system.check()
        figures |= {"kills": dict(killed), **await outcome(system, report, doubts)}
        assert len(doubts.seen) <= killed["worker"] * CONCURRENCY


async def test_pauses_beyond_the_lease_lose_nothing_and_repeat_nothing(tmp_path, figures):
    async with running(tmp_path, workers=2) as system:
        await system.fault("slow", delay_ms=150)
        async with loaded(system, PER_S) as doubts:
            for _ in range(PAUSES):
                await asyncio.sleep(random.uniform(0.2, 1.0))
                os.kill(random.choice(system.pids("worker")), SIGSTOP)
                await asyncio.sleep(random.uniform(1.1, 1.6) * LEASE_S)
                system.wake()
        report = await system.check()
        figures |= {"pauses": PAUSES, **await outcome(system, report, doubts)}

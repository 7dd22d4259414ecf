"""FAULTS 1 to 7: what a client is promised, whatever happens around the commit."""

import asyncio

import pytest


@pytest.mark.parametrize("point", ["before_commit", "after_commit", "after_publish"])
async def test_an_api_killed_around_the_commit_loses_nothing_and_repeats_nothing(system, point):
    (pid,) = system.pids("api")
    system.arm(point)
    ids = await asyncio.gather(*(system.send() for _ in range(5)))
    await system.fired()
    await system.replaced("api", pid)
    assert len(set(ids)) == 5
    for id_ in ids:
        await system.becomes(id_, "delivered")
    await system.check()

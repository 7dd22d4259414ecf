"""``tidings up`` keeps its children running, and leaves nothing behind when it is killed itself."""

import asyncio
import os
from asyncio.subprocess import PIPE
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests import kafka_rig
from tests.system import SHORT, command, environment, running


@pytest.mark.parametrize("role", ["api", "worker", "relay", "sandbox", "postgres", "valkey"])
async def test_a_child_that_is_killed_is_replaced_and_deliveries_go_on(system, role):
    await system.becomes(await system.send(), "delivered")
    if role == "sandbox":
        await system.keep_ledger()
    pid = system.signal(role)
    during = asyncio.gather(*(system.send() for _ in range(0 if role == "sandbox" else 5)))
    await system.replaced(role, pid)
    ids = [*await during, await system.send()]
    await asyncio.gather(*(system.becomes(id_, "delivered") for id_ in ids))
    await system.check()


@pytest.mark.timeout(300)
async def test_with_kafka_deliveries_go_on_while_its_broker_is_killed_and_replaced(tmp_path):
    await kafka_rig.kit()
    async with running(tmp_path, words=["--kafka"]) as system:
        await system.becomes(await system.send(), "delivered")
        pid = system.signal("kafka")
        during = await asyncio.gather(*(system.send() for _ in range(5)))
        await system.replaced("kafka", pid)
        await asyncio.gather(*(system.becomes(id_, "delivered") for id_ in [*during, await system.send()]))
        await system.check()


async def test_another_start_on_the_same_data_directory_is_refused_and_names_the_process(system):
    second = await asyncio.create_subprocess_exec(
        *command(system.data_dir), env=environment(system.data_dir, SHORT), stdout=PIPE, stderr=PIPE
    )
    told, why = await asyncio.wait_for(second.communicate(), 60)
    assert (second.returncode, told) == (1, b"")
    assert str(system.process.pid) in why.decode()
    await system.becomes(await system.send(), "delivered")
    await system.check()


async def test_killed_it_leaves_no_process_and_the_next_start_goes_on_where_it_was(tmp_path):
    async with running(tmp_path) as first:
        old = await first.becomes(await first.send(), "delivered")
        await first.keep_ledger()
        await first.fault("down")
        waiting = await asyncio.gather(*(first.send() for _ in range(5)))
        family = first.family()
        first.process.kill()
        _, alive = await asyncio.to_thread(psutil.wait_procs, family, 10)
        assert (alive, those_of(tmp_path)) == ([], [])
    async with running(tmp_path) as second:
        second.go_on_from(first)
        assert second.key == first.key
        assert lasting(await second.get(old["id"])) == lasting(old)
        await asyncio.gather(*(second.becomes(id_, "delivered") for id_ in [*waiting, await second.send()]))
        await second.check()


def lasting(shown: dict[str, Any]) -> dict[str, Any]:
    """What does not depend on the moment at which it is read."""
    return {name: shown[name] for name in ("id", "status", "deliveries", "timeline")}


def those_of(data_dir: Path) -> list[psutil.Process]:
    """Every process that names this directory, works in it or was told of it."""
    return [one for one in psutil.process_iter() if one.pid != os.getpid() and _names(one, str(data_dir))]


def _names(one: psutil.Process, data_dir: str) -> bool:
    with suppress(psutil.Error):
        return any(data_dir in text for text in (*one.cmdline(), one.cwd(), *one.environ().values()))
    return False

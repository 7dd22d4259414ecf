"""Who is there and what waits, as an operator sees it: `tidings status`, `tidings doctor`, `/readyz`, metrics."""

import asyncio
import fcntl
import os
import pty
import re
import signal
import struct
import sys
import termios
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import aiohttp
import msgspec
import pytest_asyncio
from prometheus_client.parser import text_string_to_metric_families as families

from tests.acceptance.elsewhere import put
from tests.acceptance.test_commands import tidings
from tests.acceptance.test_dead_letters import dead
from tests.system import SHORT, System, environment, running, until
from tidings.runtime import rundir
from tidings.runtime.child import tied_to_parent

MAIL, NEWS = "email.transactional", "email.promotional"


async def status(system: System) -> dict:
    code, out, err = await tidings("status", "--json", "--data-dir", str(system.data_dir))
    assert code == 0, err
    return msgspec.json.decode(out)


async def asked(system: System, role: str, path: str) -> str:
    """What the first process of a role answers on its ops port."""
    running_ = rundir.find(system.data_dir)
    assert running_ is not None
    async with aiohttp.ClientSession() as session, session.get(f"{running_.ops_urls[role][0]}{path}") as answer:
        return await answer.text()


async def warned(system: System, role: str) -> str:
    told = msgspec.json.decode(await asked(system, role, "/readyz"))
    assert told["status"] == "ready"
    return "\n".join(told["warnings"])


async def metric(system: System, name: str, **labels: str) -> float | None:
    """Of the relay, over all shards."""
    text = await asked(system, "relay", "/metrics")
    found = [
        one.value
        for family in families(text)
        for one in family.samples
        if one.name == name and labels.items() <= one.labels.items()
    ]
    return sum(found) if found else None


async def test_a_running_system_is_shown_whole(system):
    await system.send()
    told = {}

    async def worked() -> bool:
        nonlocal told
        told = await status(system)
        return bool(told["processes"]) and any(one["sent"] for one in told["processes"])

    await until(worked, 30, "a worker to show what it has sent")
    there = [(one["role"], one["pid"]) for one in told["processes"]]
    assert sorted(there) == sorted(
        (role, pid)
        for role, name in (("api", "api"), ("work", "worker"), ("relay", "relay"))
        for pid in system.pids(name)
    )
    lanes = {one["lane"]: one for one in told["lanes"]}
    assert len(lanes) == 8 and {one["workers"] for one in lanes.values()} == {len(system.pids("worker"))}
    assert told["shards"] == [{"shard": 0, "fault": None}, {"shard": 1, "fault": None}]
    assert "sendgrid" in {one["name"] for one in told["providers"]}
    assert not [line for line in told["attention"] if "no relay" in line or "no worker" in line]
    code, page, err = await tidings("status", "--once", "--data-dir", str(system.data_dir))
    assert code == 0, err
    assert "2 of 2 shards answer" in page and MAIL in page and "\x1b" not in page


async def test_a_dead_letter_is_counted_with_its_cause(system):
    await put(system, "/templates/status", {"content": {"subject": "{{ order.number }}", "text": "Hello"}})
    before = (await status(system))["dead_letters"]
    await dead(system, "status", 2)
    told = await status(system)
    assert told["dead_letters"]["count"] == before["count"] + 2
    found = [one for one in told["dead_letters"]["causes"] if one["reason"] == "template_error"]
    assert found and found[0]["count"] >= 2 and found[0]["channel"] == "email"
    assert any(line.startswith("dead letters: ") for line in told["attention"])


async def test_without_a_system_there_is_nothing_to_show(tmp_path, monkeypatch):
    code, out, err = await tidings("status", "--json", "--data-dir", str(tmp_path))
    assert (code, out) == (3, "") and "tidings up" in err
    monkeypatch.setenv("TIDINGS_CONTROL_DSN", "postgresql://tidings@127.0.0.1:1/control")
    monkeypatch.setenv("TIDINGS_SHARD_DSNS", "postgresql://tidings@127.0.0.1:1/shard")
    code, out, err = await tidings("status", "--json", "--data-dir", str(tmp_path))
    assert code == 3 and "no shard answers" in err
    told = msgspec.json.decode(out)
    assert told["shards"] == [{"shard": 0, "fault": "ConnectionRefusedError"}]
    assert told["attention"][0].startswith("shard 0 does not answer")


async def test_in_a_terminal_it_is_one_screen_until_ctrl_c(system):
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    words = ("status", "--data-dir", str(system.data_dir))
    env = {**os.environ, "TERM": "xterm-256color"}
    program = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tidings",
        *words,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=env,
        start_new_session=True,
    )
    os.close(slave)
    os.set_blocking(master, False)
    seen = bytearray()

    def frames() -> int:
        with suppress(BlockingIOError, OSError):
            seen.extend(os.read(master, 1 << 16))
        return seen.count(b"tidings")

    try:
        await until(lambda: frames() >= 3, 30, "the screen to be drawn anew")
        program.send_signal(signal.SIGINT)
        # somebody must read, or it cannot write its last frame
        await until(lambda: frames() and program.returncode is not None, 30, "the screen to be left")
        frames()
        assert program.returncode == 0
    finally:
        if program.returncode is None:
            program.kill()
            await program.wait()
        os.close(master)
    text = seen.decode()
    assert "\x1b[?1049h" in text and text.rindex("\x1b[?1049l") > text.rindex("\x1b[?1049h"), (
        "the terminal is as before"
    )
    assert "Traceback" not in text and "Aborted" not in text
    lines = [re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", line).rstrip() for line in text.replace("\x1b[H", "\n").splitlines()]
    assert max(map(len, lines)) <= 80 and any(line.startswith("whatsapp.promotional") for line in lines)


# lanes that nobody serves, and relays that are not there


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def half(tmp_path_factory) -> AsyncIterator[System]:
    """One worker, which serves transactional mail alone."""
    async with running(tmp_path_factory.mktemp("half"), {**SHORT, "TIDINGS_WORKER_LANES": MAIL}) as system:
        yield system


@asynccontextmanager
async def another_worker(system: System, lanes: str) -> AsyncIterator[None]:
    env = environment(system.data_dir, {**SHORT, "TIDINGS_DATA_DIR": str(system.data_dir)})
    program = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tidings", "work", "--lanes", lanes),
        env=env,
        stderr=asyncio.subprocess.DEVNULL,
        preexec_fn=tied_to_parent(signal.SIGTERM),
    )
    try:
        yield
    finally:
        program.terminate()
        await asyncio.wait_for(program.wait(), 30)


async def news(system: System) -> str:
    """A notification that a worker for promotional mail would send."""
    return await system.send(category="news")


async def test_a_lane_with_due_work_and_no_worker_is_seen_everywhere_until_one_comes(half):
    missed = f"no worker serves {NEWS}: 1 is due; start one with `tidings work --lanes {NEWS}`"
    await half.becomes(await half.send(), "sent", "delivered")
    assert missed not in await warned(half, "relay")
    assert await metric(half, "tidings_lane_workers", lane=NEWS) == 0
    waits = await news(half)

    async def seen() -> bool:
        return missed in await warned(half, "relay")

    await until(seen, 20, "the relay to miss a worker")
    assert await metric(half, "tidings_lane_due", lane=NEWS) == 1
    assert await metric(half, "tidings_lane_workers", lane=MAIL) == 1
    assert missed in (await status(half))["attention"]
    code, out, _ = await tidings("doctor", "--data-dir", str(half.data_dir), "--json")
    findings = {one["what"]: one for one in msgspec.json.decode(out)["findings"]}
    assert code == 1 and findings[NEWS]["advice"] == f"start one with `tidings work --lanes {NEWS}`"
    async with another_worker(half, NEWS):
        await half.becomes(waits, "sent", "delivered")

        async def served() -> bool:
            there = await metric(half, "tidings_lane_workers", lane=NEWS)
            return there == 1 and not await warned(half, "relay")

        await until(served, 20, "the relay to see the worker")

    async def left() -> bool:
        return await metric(half, "tidings_lane_workers", lane=NEWS) == 0

    await until(left, 4, "a worker that was asked to leave to be gone at once")


async def test_when_no_relay_is_alive_the_others_say_so_until_one_is(half):
    assert not await warned(half, "api") and not await warned(half, "worker")
    half.signal("relay", signal.SIGSTOP)
    try:
        for role in ("api", "worker"):

            async def missed(role: str = role) -> bool:
                return "no relay is alive" in await warned(half, role)

            await until(missed, 30, f"the {role} to miss the relay")
        code, out, _ = await tidings("doctor", "--data-dir", str(half.data_dir), "--json")
        findings = {one["what"]: one for one in msgspec.json.decode(out)["findings"]}
        assert code == 1 and "tidings relay" in findings["relay"]["advice"]
        assert (await status(half))["attention"][0].startswith("no relay is alive")
    finally:
        half.wake()

    async def back() -> bool:
        return not await warned(half, "api")

    await until(back, 30, "the relay to be seen again")


async def test_what_is_due_has_an_age_and_a_time_until_it_is_gone(half):
    waits = await news(half)

    async def ages() -> bool:
        oldest_s = await metric(half, "tidings_lane_oldest_due_seconds", lane=NEWS)
        return (
            oldest_s is not None
            and oldest_s >= 1
            and await metric(half, "tidings_lane_drain_seconds", lane=NEWS) == float("inf")
        )

    await until(ages, 30, "the relay to tell the age of what nobody sends")
    async with another_worker(half, NEWS):
        await half.becomes(waits, "sent", "delivered")

    async def gone() -> bool:
        return (
            await metric(half, "tidings_lane_drain_seconds", lane=NEWS),
            await metric(half, "tidings_lane_due", lane=NEWS),
        ) == (0, 0)

    await until(gone, 30, "the lane to be empty")


async def test_without_valkey_nobody_is_missed_and_nothing_fails(half):
    half.signal("valkey", signal.SIGSTOP)
    try:
        told = await status(half)
        assert told["processes"] is None and told["sent_per_s"] is None
        assert told["attention"] == [line for line in told["attention"] if "relay" not in line and "worker" not in line]
        assert any("Valkey does not answer" in line for line in told["attention"])
        await half.becomes(await half.send(), "sent", "delivered")
    finally:
        half.wake()

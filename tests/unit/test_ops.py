"""What a process tells machines, over a real socket."""

import asyncio
import json
from contextlib import asynccontextmanager

import aiohttp
import pytest

from tidings.runtime.ops import Ops, port_of


async def fine() -> None:
    pass


async def broken() -> None:
    raise ConnectionRefusedError("secret-host")


async def stuck() -> None:
    await asyncio.Event().wait()


@asynccontextmanager
async def served(warnings=(), **checks):
    server = await Ops(checks, lambda: b"up 1\n", 0.2, lambda: warnings).serve("127.0.0.1", 0)
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port_of(server)}") as session:
            yield session
    finally:
        server.close()
        await server.wait_closed()


async def test_a_live_process_is_healthy_even_when_it_is_not_ready():
    async with served(database=broken) as session, session.get("/healthz") as answer:
        assert answer.status == 200


async def test_it_is_ready_when_every_dependency_answers():
    async with served(database=fine, valkey=fine) as session, session.get("/readyz") as answer:
        assert answer.status == 200
        assert (await answer.json())["checks"] == {"database": "ok", "valkey": "ok"}


async def test_it_is_not_ready_when_one_fails_or_hangs_and_says_which():
    async with served(database=broken, valkey=stuck, disk=fine) as session, session.get("/readyz") as answer:
        assert answer.status == 503
        text = await answer.text()
    assert json.loads(text)["checks"] == {
        "database": "ConnectionRefusedError",
        "valkey": "no answer in time",
        "disk": "ok",
    }
    assert "secret" not in text


async def test_what_is_wrong_around_it_is_told_and_makes_nobody_unready():
    async with served(["no relay is alive"], database=fine) as session, session.get("/readyz") as answer:
        assert answer.status == 200
        told = await answer.json()
    assert told["status"] == "ready" and told["warnings"] == ["no relay is alive"]


async def test_metrics_are_shown_as_they_are():
    async with served() as session, session.get("/metrics?x=1") as answer:
        assert await answer.text() == "up 1\n"
        assert answer.content_type == "text/plain"


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/else", 404), ("POST", "/healthz", 405)])
async def test_anything_else_is_refused(method, path, status):
    async with served() as session, session.request(method, path) as answer:
        assert answer.status == status


async def test_garbage_and_silence_leave_it_answering():
    async with served() as session:
        port = session._base_url.port
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"\x00\xff\r\n\r\n")
        assert b"405" in await reader.read()
        writer.close()
        _, silent = await asyncio.open_connection("127.0.0.1", port)
        async with session.get("/healthz") as answer:
            assert answer.status == 200
        silent.close()

"""Health, overload, slow clients, shards that are away."""

import asyncio
import json
from contextlib import suppress
from urllib.parse import urlsplit

import pytest_asyncio

from tests.integration.api.rig import Api, serving

GOOD = {"to": "ada", "content": {"subject": "Hi", "text": "Hello"}}


async def test_the_api_answers_machines_on_its_own_port(api: Api):
    assert (await api.call("GET", "/healthz", key=None)).status == 200
    ready = await api.call("GET", "/readyz", key=None)
    assert (ready.status, ready.body["status"]) == (200, "ready")
    metrics = await api.call("GET", "/metrics", key=None)
    assert metrics.status == 200 and b"tidings_" in metrics.raw


async def raw_exchange(url: str, parts: list[bytes], pause_s: float) -> bytes:
    """What the server says to bytes that come slowly."""
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        for part in parts:
            writer.write(part)
            with suppress(TimeoutError):
                return await asyncio.wait_for(reader.read(4_096), pause_s)
        return await asyncio.wait_for(reader.read(4_096), 10)
    finally:
        writer.close()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def impatient(api: Api):
    async with api.limited(body_deadline_s=0.3) as running:
        yield running


def head_of(api: Api, length: int, path: str = "/api/v1/notifications") -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {api.key}", "Content-Type: application/json"]
    return "\r\n".join([*lines, f"Content-Length: {length}", "", ""]).encode()


async def test_a_body_that_comes_too_slowly_is_given_up(impatient: Api):
    body = json.dumps(GOOD).encode()
    for path in ("/api/v1/notifications", "/api/v1/notifications/batch", "/api/v1/users/batch"):
        drops = [head_of(impatient, len(body), path)] + [body[n : n + 1] for n in range(len(body))]
        said = await raw_exchange(impatient.url, drops, 0.05)
        assert said.startswith(b"HTTP/1.1 408"), said
        assert b"body_too_slow" in said and b"connection: close" in said


async def test_slow_bodies_do_not_hold_up_others(impatient: Api):
    slow = [asyncio.create_task(raw_exchange(impatient.url, [head_of(impatient, 99)], 5)) for _ in range(50)]
    assert (await impatient.send(GOOD)).status == 202
    assert {(await one)[:12] for one in slow} == {b"HTTP/1.1 408"}


async def test_too_many_waiting_are_refused_before_their_body_is_read(api: Api):
    async with api.limited(waiting_max=0) as full:
        said = await raw_exchange(full.url, [head_of(full, 200_000)], 5)
        assert said.startswith(b"HTTP/1.1 503") and b"overloaded" in said
        retry_after = int(said.lower().partition(b"retry-after: ")[2].partition(b"\r\n")[0])
        assert 1 <= retry_after <= 4
        assert (await full.call("GET", "/api/v1/users/nobody")).status == 404


async def test_a_shard_that_is_away_is_a_503_for_its_users_alone(api: Api, tmp_path):
    users = [f"user-{n}" for n in range(12)]
    dsns = (api.system.shard_dsns[0], "postgresql://nobody@127.0.0.1:1/none")
    async with serving(api.system, (api.key, api.other), tmp_path, *dsns) as half:
        said = [await half.send({**GOOD, "to": user}) for user in users]
        assert {one.status for one in said} == {202, 503}
        assert {one.code for one in said if one.status == 503} == {"unavailable"}
        assert all("retry-after" in one.headers for one in said if one.status == 503)
        read = [await half.call("GET", f"/api/v1/users/{user}") for user in users]
        assert [one.status for one in read] == [404 if one.status == 202 else 503 for one in said]
        assert (await half.call("GET", "/readyz", key=None)).status == 503
        assert (await half.call("GET", "/healthz", key=None)).status == 200

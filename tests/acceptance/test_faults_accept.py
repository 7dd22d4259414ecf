"""FAULTS 1 to 7: what a client is promised, whatever happens around the commit."""

import asyncio
import os
import re
import socket
import struct
from contextlib import asynccontextmanager

import asyncpg
import msgspec
import psutil
import pytest

from tests.system import System, until

PAIRS = 200
OUTAGE_S = 5.0


async def rows_of(system: System, reference: str) -> int:
    found = await system.rows("SELECT count(*) FROM notification WHERE reference = $1", reference)
    return sum(row["count"] for row in found)


async def delays_s(system: System) -> list[float]:
    """From the commit to the first call, for everything since the test began."""
    found = await system.rows(
        """SELECT extract(epoch FROM min(a.started_at) - n.created_at)::float8 AS delay_s
           FROM notification n JOIN delivery v ON v.notification_id = n.id JOIN attempt a ON a.delivery_id = v.id
           WHERE n.created_at >= to_timestamp($1::float8) GROUP BY n.id, n.created_at""",
        system.began_ms / 1000,
    )
    return [row["delay_s"] for row in found]


@pytest.mark.parametrize(
    ("point", "stored"), [("before_commit", False), ("after_commit", True), ("after_publish", True)]
)
async def test_after_an_api_dies_around_its_commit_the_same_key_gives_one_notification(system, point, stored):
    key, body = system.wanted()
    pids = system.pids("api")
    system.arm(point)
    status, _, _ = await system.post(key, body)
    assert status == 0
    await system.replaced("api", pids[0])
    assert await rows_of(system, key) == stored
    id_, headers = await system.insist(key, body)
    assert headers.get("Idempotent-Replayed") == ("true" if stored else None)
    shown = await system.becomes(id_, "delivered")
    assert len(shown["attempts"] if "attempts" in shown else shown["deliveries"][0]["attempts"]) == 1
    assert await rows_of(system, key) == 1
    await system.check()


async def test_what_an_api_committed_before_it_died_is_sent_within_five_seconds(system):
    wanted = [system.wanted() for _ in range(40)]
    system.arm("after_commit")
    first = asyncio.gather(*(system.post(*one) for one in wanted))
    await system.fired()
    await first
    committed = [await rows_of(system, key) for key, _ in wanted]
    assert any(committed)
    await asyncio.gather(*(system.insist(*one) for one in wanted))
    await system.check()
    assert max(await delays_s(system)) < OUTAGE_S


@asynccontextmanager
async def standby_missing(system: System):
    """Every commit that must be on two machines waits, and nobody is there to confirm it."""
    connection, probe = await asyncpg.connect(system.dsns[0]), await asyncpg.connect(system.dsns[0])
    probing = None
    try:
        await connection.execute("ALTER SYSTEM SET synchronous_standby_names = 'absent'")
        await connection.execute("SELECT pg_reload_conf()")

        async def in_force() -> bool:
            nonlocal probing
            if probing is None or probing.done():
                probing = asyncio.create_task(probe.execute("SELECT pg_logical_emit_message(true, 'tidings', '')"))
            return await waiting(connection, "%pg_logical_emit_message%") > 0

        await until(in_force, 20, "commits to wait for a standby")
        yield connection
    finally:
        await connection.execute("ALTER SYSTEM RESET synchronous_standby_names")
        await connection.execute("SELECT pg_reload_conf()")
        await asyncio.gather(*filter(None, [probing]))
        await connection.close()
        await probe.close()


async def waiting(connection: asyncpg.Connection, query: str = "%accept_key%") -> int:
    return await connection.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query LIKE $1", query
    )


class Impatient:
    """A client that asks, and then resets its connection instead of waiting for the answer."""

    def __init__(self, system: System, key: str, body: dict) -> None:
        content = msgspec.json.encode(body)
        host, port = system.url.removeprefix("http://").split(":")
        self._system = system
        self._socket = socket.create_connection((host, int(port)))
        self._port = self._socket.getsockname()[1]
        self._socket.sendall(
            f"POST /api/v1/notifications HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {system.key}\r\n"
            f"Content-Type: application/json\r\nIdempotency-Key: {key}\r\n"
            f"Content-Length: {len(content)}\r\n\r\n".encode()
            + content
        )

    async def leave(self) -> None:
        """Returns once the server has noticed."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()
        (pid,) = self._system.pids("api")
        await until(lambda: self._port not in peers(pid), 10, "the server to notice that its client has left")


def peers(pid: int) -> set[int]:
    return {one.raddr.port for one in psutil.Process(pid).net_connections("tcp") if one.raddr}


async def test_a_client_that_goes_away_during_the_commit_cancels_nothing_and_its_retry_is_a_replay(system):
    key, body = system.wanted()
    async with standby_missing(system) as connection:
        impatient = Impatient(system, key, body)
        await until(lambda: waiting(connection), 10, "the commit to wait for its standby")
        await impatient.leave()
        status, said, _ = await system.post(key, body)
        assert status in (409, 503), said
        assert await waiting(connection) == 1
    id_, headers = await system.insist(key, body)
    assert headers.get("Idempotent-Replayed") == "true"
    await system.becomes(id_, "delivered")
    assert await rows_of(system, key) == 1
    assert not re.search("canceling wait|due to user request", system.logs("postgres"))
    await system.check()


async def test_of_two_requests_with_one_key_at_one_instant_both_get_the_same_notification(system):
    barrier = asyncio.Barrier(2 * PAIRS)

    async def one(key: str, body: dict) -> tuple[int, str, bool]:
        await barrier.wait()
        status, _, _ = await system.post(key, body)
        id_, headers = await system.insist(key, body)
        return status, id_, "Idempotent-Replayed" in headers

    pairs = [system.wanted() for _ in range(PAIRS)]
    answers = await asyncio.gather(*(one(*pair) for pair in pairs for _ in range(2)))
    assert {status for status, _, _ in answers} <= {202, 409}
    assert all(first[1] == second[1] for first, second in zip(answers[::2], answers[1::2], strict=True))
    assert len({id_ for _, id_, _ in answers}) == PAIRS
    assert [await rows_of(system, key) for key, _ in pairs[:5]] == [1] * 5
    await system.check()


async def test_the_same_key_with_another_body_is_refused_and_stores_nothing(system):
    key, body = system.wanted()
    id_, _ = await system.insist(key, body)
    other = {**body, "data": {**body["data"], "total": "2"}}
    status, said, _ = await system.post(key, other)
    assert (status, said["code"]) == (422, "idempotency_key_reused")
    assert await rows_of(system, key) == 1
    again, headers = await system.insist(key, body)
    assert (again, headers["Idempotent-Replayed"]) == (id_, "true")
    await system.check()


async def test_the_same_key_for_another_user_is_another_notification(system):
    key = f"shared-{os.urandom(4).hex()}"
    ids, shards = set(), set()
    while len(shards) < 2:
        assert len(ids) < 60, "users of one shard only"
        _, body = system.wanted()
        id_, headers = await system.insist(key, body)
        assert "Idempotent-Replayed" not in headers
        ids.add(id_)
        for shard in (0, 1):
            if await system.shard_rows(shard, "SELECT FROM notification WHERE id = $1", id_):
                shards.add(shard)
    assert (await system.check()).counts["notifications"] == len(ids)

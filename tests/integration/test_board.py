"""The board that workers share, in a real Valkey."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from tests.system import until
from tidings.domain.breaker import BreakerState
from tidings.domain.presence import API, RELAY, WORK, Present
from tidings.limits import board as module
from tidings.limits.board import NoBoard, NoRollCall, ValkeyBoard, ValkeyRollCall, Wall
from tidings.ports import Seen

NOW = datetime(2026, 5, 1, 12, 30, 0, 250_000, tzinfo=UTC)
BROKEN = Seen(1, BreakerState.open, "http_503", since=NOW)
RESTING = Seen(2, BreakerState.closed, "http_429", rests_until=NOW + timedelta(seconds=9))


@pytest_asyncio.fixture
async def valkey(valkey_url) -> AsyncIterator[Redis]:
    client = Redis.from_url(valkey_url)
    await client.flushall()
    yield client
    await client.aclose()


@asynccontextmanager
async def boards(url: str, *workers: str) -> AsyncIterator[list[ValkeyBoard]]:
    walls = {worker: Wall(url) for worker in workers}
    yield [ValkeyBoard(wall, worker) for worker, wall in walls.items()]
    for wall in walls.values():
        await wall.close()


@pytest_asyncio.fixture
async def roll(valkey, valkey_url) -> AsyncIterator[ValkeyRollCall]:
    wall = Wall(valkey_url)
    yield ValkeyRollCall(wall)
    await wall.close()


def there(role: str = WORK, pid: int = 1, **more) -> Present:
    return Present(role, "host", pid, NOW, NOW + timedelta(seconds=3), **more)


async def test_what_each_worker_shows_all_can_read(valkey, valkey_url):
    async with boards(valkey_url, "a", "b", "c") as (a, b, c):
        assert await a.read() == []
        await a.show([BROKEN, RESTING])
        await b.show([])
        assert await c.read() == [[BROKEN, RESTING], []], "one that finds nothing wrong is alive all the same"


async def test_a_worker_shows_all_that_it_sees_in_place_of_what_it_showed_before(valkey, valkey_url):
    async with boards(valkey_url, "a") as (a,):
        await a.show([BROKEN])
        await a.show([RESTING])
        assert await a.read() == [[RESTING]]


async def test_a_worker_that_shows_nothing_any_more_is_forgotten(valkey, valkey_url):
    async with boards(valkey_url, "a", "b") as (a, b):
        await a.show([BROKEN])
        await b.show([])
        assert 0 < await valkey.pttl(module._key("tidings:board", "a")) <= 5_000
        await valkey.pexpire(module._key("tidings:board", "a"), 20)

        async def forgotten() -> bool:
            return await b.read() == [[]]

        await until(forgotten, 10, "the board to forget a worker")
        assert await valkey.smembers("tidings:board") == {b"b"}


async def test_what_a_worker_of_another_version_shows_is_passed_over(valkey, valkey_url):
    async with boards(valkey_url, "a", "b") as (a, b):
        await a.show([BROKEN])
        await b.show([])
        await valkey.set(module._key("tidings:board", "b"), b'[{"account": "one"}]', px=5_000)
        assert await a.read() == [[BROKEN]]


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1", "redis://256.0.0.1:6379"])
async def test_without_valkey_nothing_is_shown_and_nothing_fails(url):
    async with boards(url, "a") as (a,):
        await a.show([BROKEN])
        assert await a.read() == ()


async def test_where_there_is_no_valkey_at_all_there_is_no_board():
    board = NoBoard()
    await board.show([BROKEN])
    assert await board.read() == ()


async def test_processes_that_show_themselves_are_there_by_their_roles(roll):
    worker = there(lanes=("email.transactional",), claimed={"email.transactional": 7}, sent={"email.transactional": 5})
    await roll.show(worker)
    await roll.show(there(API, pid=2, accepted=9))
    assert await roll.read(WORK) == [worker]
    assert await roll.read(RELAY) == [], "nobody is not the same as nobody knows"
    assert await roll.read(API, WORK, RELAY) == [there(API, pid=2, accepted=9), worker]


async def test_a_process_shows_itself_in_place_of_what_it_showed_before(roll):
    await roll.show(there(accepted=1))
    await roll.show(there(accepted=2))
    assert [one.accepted for one in await roll.read(WORK)] == [2]


async def test_a_process_that_leaves_is_gone_at_once_and_one_that_dies_soon(valkey, roll):
    await roll.show(there(pid=1))
    await roll.show(there(pid=2))
    await roll.leave(there(pid=1))
    assert [one.pid for one in await roll.read(WORK)] == [2]
    left_ms = await valkey.pttl(module._key("tidings:present:work", "host-2"))
    assert 0 < left_ms <= 5_000


async def test_one_that_shows_itself_in_another_way_is_passed_over(valkey, roll):
    await roll.show(there(pid=1))
    await roll.show(there(pid=2))
    await valkey.set(module._key("tidings:present:work", "host-2"), b'{"role": 1}', px=5_000)
    assert [one.pid for one in await roll.read(WORK)] == [1]


async def test_without_valkey_nobody_knows_who_is_there():
    wall = Wall("redis://127.0.0.1:1")
    roll = ValkeyRollCall(wall)
    await roll.show(there())
    await roll.leave(there())
    assert await roll.read(WORK) is None
    await wall.close()
    nobody = NoRollCall()
    await nobody.show(there())
    assert await nobody.read(WORK, RELAY) is None

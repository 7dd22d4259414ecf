"""The board that workers share, in a real Valkey."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from tests.system import until
from tidings.domain.breaker import BreakerState
from tidings.limits import board as module
from tidings.limits.board import NoBoard, ValkeyBoard
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
    made = [ValkeyBoard(url, worker) for worker in workers]
    yield made
    for one in made:
        await one.close()


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
        assert 0 < await valkey.pttl(module._key("a")) <= 5_000
        await valkey.pexpire(module._key("a"), 20)

        async def forgotten() -> bool:
            return await b.read() == [[]]

        await until(forgotten, 10, "the board to forget a worker")
        assert await valkey.smembers("tidings:board") == {b"b"}


async def test_what_a_worker_of_another_version_shows_is_passed_over(valkey, valkey_url):
    async with boards(valkey_url, "a", "b") as (a, b):
        await a.show([BROKEN])
        await b.show([])
        await valkey.set(module._key("b"), b'[{"account": "one"}]', px=5_000)
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

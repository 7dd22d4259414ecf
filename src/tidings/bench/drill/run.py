"""Runs the drill: a system of its own, steady load, and providers that go away and come back."""

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import Any, Final

import aiohttp
import asyncpg
import msgspec

from tidings.bench.drill import story
from tidings.bench.drill.load import PROMOTIONAL, Api
from tidings.bench.drill.story import FIRST, SECOND, Arrival, Notes, Phase, Turn
from tidings.bench.ledger import Ledgers, Rules, check
from tidings.bench.ledger_rows import read_accounts, read_database
from tidings.bench.standin import sandbox_references
from tidings.bench.subject import child
from tidings.domain.ids import first_at, parse_reference, unix_ms_in

Say = Callable[[str], None]

_LOOK_S: Final = 0.1
_REST: Final = 9
"""A look at a long backlog takes time; after it nobody looks for so many times as long."""
_PATIENCE_S: Final = 600.0
"""Beyond the time that a backlog needs at its rate."""
_SETTLED_S: Final = 3.0
_PAGE: Final = 1_000
_LEFT: Final = """
SELECT count(*) FILTER (WHERE state <> 4) AS waiting, coalesce(max(spent), 0) AS spent,
       count(*) FILTER (WHERE state = 4) AS dead
FROM dispatch WHERE id < $1
"""


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """``rate`` per second of single calls; each outage lasts ``outage_s``. With ``queued`` above 0 a second act
    follows: one provider alone, down, with so many queued. ``drain_per_s`` is how fast what waited comes back."""

    rate: float = 40.0
    outage_s: float = 20.0
    queued: int = 0
    drain_per_s: float = 100.0
    workers: int = 2


class _System(msgspec.Struct, frozen=True):
    """What ``tidings up --json`` says once all is ready."""

    url: str
    api_key: str
    sandbox_url: str
    postgres_dsns: tuple[str, ...]


class Stage:
    """The system, its sandbox, and what is noted. Nothing is waited for longer than ``patience_s``."""

    def __init__(self, system: _System, api: Api, session: aiohttp.ClientSession, patience_s: float) -> None:
        self._patience_s = patience_s
        self.system = system
        self.api = api
        self.phases: list[Phase] = []
        self.turns: list[Turn] = []
        self._session = session

    async def fault(self, provider: str, fault: str | None) -> None:
        """Makes a provider misbehave, or well again with None."""
        url = f"{self.system.sandbox_url}/_sandbox/faults/{provider}"
        asked = self._session.put(url, json={"fault": fault}) if fault else self._session.delete(url)
        async with asked as answer:
            answer.raise_for_status()

    async def phase(self, name: str, until: Callable[[], Awaitable[object]]) -> None:
        """Notes what happens until then."""
        began_ms, asked = time.time() * 1000, self.api.asked
        await until()
        waiting, spent, dead = await self.left(time.time() * 1000)
        ended_ms = time.time() * 1000
        self.phases.append(Phase(name, began_ms, ended_ms, self.api.asked - asked, waiting, spent, dead))

    async def left(self, before_ms: float) -> tuple[int, int, int]:
        """Of what was accepted before: how many wait, the most attempts that one used up, and the dead."""
        found = [await self._shard(dsn, before_ms) for dsn in self.system.postgres_dsns[1:]]
        return sum(one[0] for one in found), max(one[1] for one in found), sum(one[2] for one in found)

    async def drained(self) -> None:
        """Until nothing waits that was accepted before now."""
        began_ms = time.time() * 1000
        await self._until(lambda: self._nothing_left(began_ms))

    async def watch(self) -> None:
        """Notes breakers as they change, until cancelled."""
        seen = dict[str, str]()
        while True:
            with suppress(aiohttp.ClientError, TimeoutError):
                for one in (await self.api.ask("GET", "/providers"))[1]["items"]:
                    if seen.get(one["name"]) != one["breaker"]:
                        seen[one["name"]] = one["breaker"]
                        opened = one["breaker"] == "open" and one["since"]
                        since_ms = _ms(opened) if opened else time.time() * 1000
                        self.turns.append(Turn(one["name"], one["breaker"], since_ms, one["why"]))
            await asyncio.sleep(_LOOK_S)

    async def closed(self, provider: str) -> None:
        """Until its breaker is closed."""
        await self._until(lambda: self._is_closed(provider))

    async def arrivals(self) -> list[Arrival]:
        """Everything that the providers took, as far as the sandbox remembers whole messages."""
        found, after = list[Arrival](), 0
        url = f"{self.system.sandbox_url}/_sandbox/messages"
        while after is not None:
            async with self._session.get(url, params={"after": after, "limit": _PAGE}) as answer:
                page = msgspec.json.decode(await answer.read())
            found += [arrival for one in page["items"] if (arrival := _arrival(one))]
            after = page["next"]
        return found

    async def _until(self, true: Callable[[], Awaitable[bool]]) -> None:
        """Raises TimeoutError."""
        end_s = time.monotonic() + self._patience_s
        while True:
            began_s = time.monotonic()
            if await true():
                return
            if began_s > end_s:
                raise TimeoutError
            await asyncio.sleep(max(_LOOK_S, _REST * (time.monotonic() - began_s)))

    async def _nothing_left(self, before_ms: float) -> bool:
        return (await self.left(before_ms))[0] == 0

    async def _is_closed(self, provider: str) -> bool:
        items = (await self.api.ask("GET", "/providers"))[1]["items"]
        return any(one["name"] == provider and one["breaker"] == "closed" for one in items)

    async def _shard(self, dsn: str, before_ms: float) -> tuple[int, int, int]:
        connection = await asyncpg.connect(dsn)
        try:
            row = (await connection.fetch(_LEFT, first_at(int(before_ms))))[0]
        finally:
            await connection.close()
        return row["waiting"], row["spent"], row["dead"]


async def run(wish: Wish, say: Say) -> Notes:
    """The whole drill. Raises OSError when the system does not start, TimeoutError when something never comes."""
    async with _stage(wish) as stage:
        since_ms = int(time.time() * 1000)
        watching = asyncio.create_task(stage.watch())
        try:
            await _first_act(stage, wish, say)
            if wish.queued:
                await _second_act(stage, wish, say)
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching
        say("compare ledgers")
        await stage.drained()
        return await _notes(stage, wish, since_ms)


async def _first_act(stage: Stage, wish: Wish, say: Say) -> None:
    """Two providers, of which one goes away, then both."""
    await _route(stage.api, [FIRST, SECOND])
    load = asyncio.create_task(stage.api.steady(wish.rate))
    script: tuple[tuple[str, str | None, str | None, Callable[[], Awaitable[object]]], ...] = (
        (story.WELL, None, None, lambda: asyncio.sleep(wish.outage_s / 4)),
        (story.FIRST_DOWN, "down", None, lambda: asyncio.sleep(wish.outage_s)),
        (story.FIRST_BACK, None, None, lambda: _closed_and_a_moment(stage, FIRST)),
        (story.BOTH_DOWN, "down", "down", lambda: asyncio.sleep(wish.outage_s)),
        (story.BOTH_BACK, None, None, stage.drained),
    )
    try:
        for name, first, second, until in script:
            say(name)
            await stage.fault(FIRST, first)
            await stage.fault(SECOND, second)
            await stage.phase(name, until)
    finally:
        load.cancel()
        with suppress(asyncio.CancelledError):
            await load
    await stage.drained()


async def _second_act(stage: Stage, wish: Wish, say: Say) -> None:
    """One provider, which is away while much is queued."""
    await _route(stage.api, [FIRST])
    await stage.fault(FIRST, "down")
    say(story.ALONE_DOWN)

    async def piled_up() -> None:
        await stage.api.pile_up(wish.queued)
        await asyncio.sleep(_SETTLED_S)

    await stage.phase(story.ALONE_DOWN, piled_up)
    say(story.ALONE_BACK)
    await stage.fault(FIRST, None)
    await stage.phase(story.ALONE_BACK, stage.drained)


async def _closed_and_a_moment(stage: Stage, provider: str) -> None:
    await stage.closed(provider)
    await asyncio.sleep(_SETTLED_S)


async def _route(api: Api, providers: list[str]) -> None:
    """Workers learn of it within a second."""
    status, said = await api.ask("PUT", "/routes/email", {"providers": providers})
    if status != 200:
        raise OSError(f"the route was refused: {said}")
    await asyncio.sleep(1.0)


async def _notes(stage: Stage, wish: Wish, since_ms: int) -> Notes:
    dsns = stage.system.postgres_dsns
    taken = await asyncio.to_thread(sandbox_references, stage.system.sandbox_url)
    database = await read_database(dsns, since_ms)
    report = check(Ledgers(database, stage.api.calls, taken), Rules(accounts=await read_accounts(dsns)))
    return Notes(stage.phases, await stage.arrivals(), stage.turns, wish.drain_per_s, report)


@asynccontextmanager
async def _stage(wish: Wish) -> AsyncIterator[Stage]:
    with tempfile.TemporaryDirectory(prefix="tidings-drill-", ignore_cleanup_errors=True) as folder:
        words = ("up", "--json", "--sandbox", "--port", "0", "--data-dir", folder, "--workers", str(wish.workers))
        environment = {**os.environ, **_settings(wish)}
        with child([sys.executable, "-m", "tidings", *words], environment) as (_, said):
            system = msgspec.json.decode(said, type=_System)
            connector, timeout = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(total=15)
            async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
                patience_s = _PATIENCE_S + wish.queued / wish.drain_per_s
                yield Stage(system, Api(session, system.url, system.api_key), session, patience_s)


def _settings(wish: Wish) -> Mapping[str, str]:
    """Two hours in the time of a drill: what takes minutes takes seconds."""
    return {
        "TIDINGS_BREAKER_OPEN_S": "2",
        "TIDINGS_BREAKER_OPEN_MOST_S": "20",
        "TIDINGS_WORKER_DRAIN_PER_S": str(wish.drain_per_s),
        "TIDINGS_WORKER_RETRY_SCHEDULE_S": "[2, 4, 8]",
    }


def _arrival(message: Mapping[str, Any]) -> Arrival | None:
    reference = parse_reference(message["reference"])
    if reference is None:
        return None
    promotional = str(message["to"]).lstrip("['\"").startswith(PROMOTIONAL)
    return Arrival(message["provider"], promotional, unix_ms_in(reference[0]), _ms(message["accepted_at"]))


def _ms(instant: str) -> float:
    return datetime.fromisoformat(instant).timestamp() * 1000

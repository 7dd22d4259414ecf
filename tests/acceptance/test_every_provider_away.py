"""FAULTS 36 to 38 and 46 to 49 at every provider at the same time, with breakers: another account takes over within a
second, or everything waits and comes back in order; nothing is lost, repeated or given up."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from statistics import median
from urllib.parse import unquote_to_bytes

import pytest
import pytest_asyncio
from provider_cases import CASES
from test_providers import giving, taken

from tests.acceptance.elsewhere import attempts, put
from tests.acceptance.test_failover import DRAIN_PER_S, SETTINGS, WORKERS, changes, names, providers, reference
from tests.acceptance.test_providers_away import gap_s, waiting
from tests.acceptance.ways import (
    OVER_HTTP,
    WAYS,
    Story,
    at_each,
    ended,
    open_ways,
    repeatable,
    send_by,
    send_some,
    wanted_by,
)
from tests.system import System, running, until
from tests.wire_peer import Peer, playing

REFERENCE = re.compile(rb"[0-9a-f]{32}-\d+")
PACED = ("rate_limit", "unauthorized")

pytestmark = pytest.mark.timeout(300)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def shared_ways(tmp_path_factory):
    async with running(tmp_path_factory.mktemp("ways"), SETTINGS, workers=WORKERS) as system:
        yield system


@pytest_asyncio.fixture
async def ways(shared_ways: System):
    """Every provider is well, and alone on its way."""
    await shared_ways.well()
    await open_ways(shared_ways)
    await at_each(lambda name: used_again(shared_ways, name))
    await shared_ways.begin()
    yield shared_ways


async def used_again(system: System, name: str) -> None:
    """Returns once what goes this way goes by this provider, whoever sends it, and no worker finds anything wrong with
    it. A probe needs something to send."""

    async def well() -> bool:
        shown = (await providers(system))[name]
        ids = await asyncio.gather(*(send_by(system, name) for _ in range(2 * WORKERS)))
        stories = [await system.becomes(id_, "delivered", "sent", timeout_s=60) for id_ in ids]
        by_it = {tuple(names(story)) for story in stories} == {(name,)}
        return by_it and shown["workers_open"] == 0 and shown["rests_until"] is None

    await until(well, 60, f"{name} to be used again")


async def seen_open(system: System, name: str) -> None:
    """Sends until all workers have found out."""

    async def found() -> bool:
        if (await providers(system))[name]["workers_open"] >= WORKERS:
            return True
        await asyncio.gather(*(send_by(system, name) for _ in range(2 * WORKERS)))
        return False

    await until(found, 60, f"all workers to find {name} unwell")


@asynccontextmanager
async def spares(system: System) -> AsyncIterator[Mapping[str, Peer]]:
    """Beside each provider another account of its kind, at a peer that takes everything."""
    async with AsyncExitStack() as stack:
        peers = dict[str, Peer]()
        for name in WAYS:
            case = CASES[name]
            peers[name] = peer = await stack.enter_async_context(playing(giving(case, taken(case))))
            settings = {**case.settings, "url": peer.origin.replace("http", case.dialect.scheme, 1)}
            await put(system, f"/providers/{name}-spare", {"kind": name, "settings": settings})
        await open_ways(system, {name: f"{name}-spare" for name in WAYS})
        yield peers


def references(peers: Mapping[str, Peer]) -> list[str]:
    """What the peers took."""
    seen = [unquote_to_bytes(bytes(one)) for peer in peers.values() for one in peer.seen]
    return [found.decode() for one in seen for found in set(REFERENCE.findall(one))]


@pytest.mark.parametrize("fault", ["down", "error", *PACED])
async def test_what_an_account_surely_did_not_take_another_of_its_kind_takes_within_a_second(ways: System, fault: str):
    those = OVER_HTTP if fault == "rate_limit" else tuple(WAYS)
    more = {"retry_after_s": 2} if fault == "rate_limit" else {}
    async with spares(ways) as peers:
        await at_each(lambda name: ways.fault(fault, name, **more), those)
        ids = await send_some(ways, 8, those)
        for name, stories in (await ended(ways, ids, "sent")).items():
            assert {names(story)[-1] for story in stories} == {f"{name}-spare"}
            told = [story for story in stories if names(story)[0] == name]
            assert told, f"somebody has to find out about {name}"
            said = [one for story in told for one in attempts(story)[:-1]]
            assert {outcome for outcome, _ in said} == {"try_later" if fault in PACED else "try_next"}, name
            assert {code for _, code in said} <= WAYS[name].codes(fault), name
            assert median(late_s(story) for story in told) < 1.0, name
        if fault in PACED:
            shown = await providers(ways)
            assert {shown[name]["workers_open"] for name in those} == {0}, "paced, not punished"
        else:
            await at_each(lambda name: seen_open(ways, name), those)
        await at_each(ways.heal, those)
        await at_each(lambda name: used_again(ways, name), those)
        await ways.check(elsewhere=references(peers))


def late_s(story: Story) -> float:
    """From the last word of the first account to the call of the second."""
    *_, first, second = story["deliveries"][0]["attempts"]
    return gap_s(first, second)


async def test_while_all_are_away_everything_waits_and_comes_back_in_order_at_a_bounded_rate(ways: System):
    await at_each(lambda name: ways.fault("down", name))
    await at_each(lambda name: seen_open(ways, name))
    short = await send_some(ways, 2, expires_after_s=3)
    older = await batches(ways, 60)
    later = await batches(ways, 60)
    for name, stories in (await at_each(lambda name: expired(ways, short[name]))).items():
        assert {story["deliveries"][0]["reason"] for story in stories} == {"expired"}, name
    rows = await waiting(ways)
    assert len(rows) >= 115 * len(WAYS)
    assert sum(row["spent"] for row in rows) <= 20 * len(WAYS), "only those that found out"
    await at_each(ways.heal)
    await ways.settled()

    at_s = {item["reference"]: datetime.fromisoformat(item["accepted_at"]).timestamp() for item in await ways.taken()}
    for name in WAYS:
        before, after = [arrived(at_s, [await ways.get(id_) for id_ in some[name]]) for some in (older, later)]
        assert max(after) - min(before) >= 120 / DRAIN_PER_S * 0.7, name
        assert median(before) < min(after[30:]), f"the older first, at {name}"
        assert median(before) < median(after), name
    await ways.check()


async def batches(system: System, each: int) -> Mapping[str, Sequence[str]]:
    return await at_each(lambda name: system.send_batch([wanted_by(system, name) for _ in range(each)]))


async def expired(system: System, ids: Sequence[str]) -> Sequence[Story]:
    return [await system.becomes(id_, "expired", timeout_s=60) for id_ in ids]


def arrived(at_s: Mapping[str, float], stories: Sequence[Story]) -> list[float]:
    return sorted(at_s[reference(story)] for story in stories)


async def test_one_that_comes_and_goes_is_switched_ever_more_rarely(ways: System):
    before = {name: len(changes(ways, name, "open")) for name in WAYS}
    began_s, sent = time.monotonic(), list[Mapping[str, Sequence[str]]]()
    for _ in range(10):
        await at_each(lambda name: ways.fault("down", name))
        sent.append(await send_some(ways, 12))
        await asyncio.sleep(0.5)
        await at_each(ways.heal)
        sent.append(await send_some(ways, 4))
        await asyncio.sleep(0.5)
    took_s = time.monotonic() - began_s
    for some in sent:
        # dead is whom it was down for at each of its tries
        for name, stories in (await ended(ways, some, "delivered", "sent", "dead")).items():
            assert repeatable(stories) == {False}, name
    for name in WAYS:
        opened = len(changes(ways, name, "open")) - before[name]
        assert 1 <= opened <= WORKERS * took_s / 2, f"{name} went away ten times in {took_s:.0f} s"
    await ways.check()

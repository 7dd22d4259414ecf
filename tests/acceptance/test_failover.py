"""FAULTS 37 to 39 and 46 to 49 with two providers: what one surely did not take, the other takes at once; what may have
gone stays where it is; nothing is lost, repeated or given up, however long it lasts."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from tests.acceptance.elsewhere import attempts, put, until_tried
from tests.acceptance.test_providers_away import CONNECT_TIMEOUT_S, gap_s, tidings, waiting
from tests.system import SHORT, System, running, until
from tests.wire_peer import black_hole

DRAIN_PER_S = 40
WORKERS = 2
SETTINGS: Mapping[str, str] = {
    **SHORT,
    "TIDINGS_BREAKER_FAILURES": "3",
    "TIDINGS_BREAKER_FAILURES_S": "0",
    "TIDINGS_BREAKER_SHARE_OF": "20",
    "TIDINGS_BREAKER_OPEN_S": "1",
    "TIDINGS_BREAKER_OPEN_MOST_S": "4",
    "TIDINGS_WORKER_POLL_S": "1",
    "TIDINGS_WORKER_DRAIN_PER_S": str(DRAIN_PER_S),
}
BOTH = ("sendgrid", "mailgun")
LEARNT_S = 1.5


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def shared_pair(tmp_path_factory):
    async with running(tmp_path_factory.mktemp("pair"), SETTINGS, workers=WORKERS) as system:
        yield system


@pytest_asyncio.fixture
async def pair(shared_pair: System):
    """E-mail goes by SendGrid, then by Mailgun, and both are well."""
    await shared_pair.well()
    for name in BOTH:
        await put(shared_pair, f"/providers/{name}/state", {"state": "auto"})
        await is_well(shared_pair, name)
    await routed(shared_pair, *BOTH)
    await shared_pair.begin()
    yield shared_pair


async def providers(system: System) -> dict[str, dict[str, Any]]:
    _, said, _ = await system.ask("GET", "/providers")
    return {one["name"]: one for one in said["items"]}


async def is_well(system: System, name: str) -> None:
    """Returns once no worker finds anything wrong with it. A probe needs something to send."""

    async def well() -> bool:
        one = (await providers(system))[name]
        if one["workers_open"] == 0 and one["rests_until"] is None:
            return True
        await put(system, "/routes/email", {"providers": [name]})
        await asyncio.gather(*(system.send() for _ in range(4)))
        return False

    await until(well, 60, f"{name} to be well")


async def routed(system: System, *names: str) -> None:
    """All mail goes by the first of these. A worker that did not know yet would show within the time that it may take
    to learn."""
    _, route, _ = await system.ask("GET", "/routes/email")
    if route["providers"] == list(names) and not route["rules"]:
        return
    await put(system, "/routes/email", {"providers": names})
    used, since_s = goes_by(system, names[0]), time.monotonic()

    async def steadily() -> bool:
        nonlocal since_s
        if not await used():
            since_s = time.monotonic()
        return time.monotonic() - since_s > LEARNT_S

    await until(steadily, 60, f"all mail to go by {names[0]}")


def goes_by(system: System, name: str) -> Callable[[], Any]:
    """Do four in a row go by this provider, and by no other?"""

    async def used() -> bool:
        ids = await asyncio.gather(*(system.send() for _ in range(4)))
        stories = [await until_tried(system, id_) for id_ in ids]
        return {names(story)[-1] for story in stories} == {name}

    return used


def names(story: Mapping[str, Any]) -> Sequence[str]:
    """The accounts that were called, in order."""
    return [one["provider"] for one in story["deliveries"][0]["attempts"]]


async def seen_open(system: System, name: str = "sendgrid", workers: int = WORKERS) -> None:
    """Sends until so many workers have found out."""

    async def found() -> bool:
        if (await providers(system))[name]["workers_open"] >= workers:
            return True
        await asyncio.gather(*(system.send() for _ in range(4)))
        return False

    await until(found, 30, f"{workers} workers to find {name} unwell")


def changes(system: System, name: str, state: str) -> list[dict[str, Any]]:
    return [one for one in system.events("work", "BreakerChanged") if (one["account"], one["state"]) == (name, state)]


@pytest.mark.parametrize(("fault", "code"), [("down", "connect_refused"), ("error", "http_503")])
async def test_what_one_provider_surely_did_not_take_another_takes_within_a_second(pair: System, fault: str, code: str):
    await pair.fault(fault)
    stories = [await pair.becomes(await pair.send(), "delivered") for _ in range(12)]
    failed_over = [story for story in stories if len(names(story)) > 1]
    assert failed_over, "somebody has to find out"
    for story in failed_over:
        assert names(story) == ["sendgrid", "mailgun"], story
        assert attempts(story) == [("try_next", code), ("sent", "accepted")]
        assert gap_s(*story["deliveries"][0]["attempts"]) < 1.0
    await seen_open(pair)
    shown = (await providers(pair))["sendgrid"]
    assert (shown["breaker"], shown["why"], shown["workers_open"]) == ("open", code, WORKERS)
    assert shown["since"] is not None
    story = await pair.becomes(await pair.send(), "delivered")
    assert names(story)[-1] == "mailgun"

    await pair.heal()
    await until(goes_by(pair, "sendgrid"), 30, "the first provider to be used again")
    assert changes(pair, "sendgrid", "closed")
    await pair.check()


async def test_what_may_have_gone_is_never_passed_on(pair: System):
    """Breakers count it all the same, so later ones go elsewhere."""
    await pair.fault("accept_then_error", status=500)
    ids = await asyncio.gather(*(pair.send() for _ in range(10)))
    stories = [await pair.becomes(id_, "delivered") for id_ in ids]
    doubted = [story for story in stories if "sendgrid" in names(story)]
    assert doubted
    assert {tuple(names(story)) for story in doubted} == {("sendgrid",)}
    assert not any(story["deliveries"][0]["duplicate_possible"] for story in stories)
    await seen_open(pair)
    assert (await providers(pair))["sendgrid"]["why"] == "http_500"
    await pair.heal()
    await pair.check()


async def test_a_provider_that_does_not_answer_the_connection_costs_only_that_wait(pair: System):
    async with black_hole() as hole:
        url = f"http://127.0.0.1:{hole.getsockname()[1]}"
        await put(pair, "/providers/elsewhere", {"kind": "sendgrid", "settings": {"url": url, "api_key": "SG.hole"}})
        await put(pair, "/routes/email", {"providers": ["elsewhere", "sendgrid"]})

        async def tried() -> Any:
            story = await pair.becomes(await pair.send(), "delivered")
            return story if len(names(story)) > 1 else None

        story = await until(tried, 30, "the new route to be used")
        assert names(story) == ["elsewhere", "sendgrid"]
        first, second = story["deliveries"][0]["attempts"]
        assert (first["outcome"], first["code"]) == ("try_next", "connect_timeout")
        assert first["took_ms"] >= CONNECT_TIMEOUT_S * 900
        assert gap_s(first, second) < 1.0
        await seen_open(pair, "elsewhere")
        await routed(pair, *BOTH)
    await pair.check()


async def test_a_revoked_key_or_a_request_to_slow_down_sends_the_mail_elsewhere_at_once(pair: System):
    for fault, code in (("unauthorized", "http_401"), ("rate_limit", "http_429")):
        await pair.fault(fault)
        stories = [await pair.becomes(await pair.send(), "delivered") for _ in range(6)]
        assert {names(story)[-1] for story in stories} == {"mailgun"}
        told = [story for story in stories if "sendgrid" in names(story)]
        assert told
        for story in told:
            assert set(attempts(story)[:-1]) == {("try_later", code)}
        shown = (await providers(pair))["sendgrid"]
        assert (shown["breaker"], shown["workers_open"]) == ("closed", 0), "paced, not punished"
        await pair.heal()
        await until(goes_by(pair, "sendgrid"), 30, "the account to be used again")
    await pair.check()


async def test_under_load_an_outage_of_the_first_is_hardly_noticed(pair: System):
    async def outage() -> None:
        await asyncio.sleep(1)
        await pair.fault("down")
        await asyncio.sleep(6)
        await pair.heal()

    breaking = asyncio.create_task(outage())
    ids = await pair.load(per_s=20, for_s=10)
    await breaking
    await asyncio.gather(*(pair.becomes(id_, "delivered") for id_ in ids))
    stories = [await pair.get(id_) for id_ in ids]
    assert Counter(names(story)[-1] for story in stories).keys() == set(BOTH)
    assert max(len(names(story)) for story in stories) <= 2
    delays_s = sorted(sent_after_s(story) for story in stories)
    assert delays_s[int(len(delays_s) * 0.9)] < 1.0
    assert changes(pair, "sendgrid", "half_open"), "it was tried again meanwhile"
    await until(goes_by(pair, "sendgrid"), 30, "the first provider to be used again")
    await pair.check()


def sent_after_s(story: Mapping[str, Any]) -> float:
    began, ended = story["created_at"], story["deliveries"][0]["attempts"][-1]["at"]
    return (datetime.fromisoformat(ended) - datetime.fromisoformat(began)).total_seconds()


async def test_while_all_are_away_the_queue_holds_and_drains_in_order_at_a_bounded_rate(pair: System):
    await routed(pair, "sendgrid")
    await pair.fault("down")
    await seen_open(pair)
    groups = []
    for category in ("news", "general"):
        for _ in range(2):
            groups.append(await pair.send_batch([pair.wanted(category=category) for _ in range(100)]))

    async def all_wait() -> bool:
        return Counter(row["reason"] for row in await waiting(pair))["provider_open"] >= 390

    await until(all_wait, 30, "nearly everything to wait for a probe")
    assert sum(row["spent"] for row in await waiting(pair)) <= 2 * 20, "only those that found out"
    await pair.heal()
    await pair.settled()

    at_s = {item["reference"]: datetime.fromisoformat(item["accepted_at"]).timestamp() for item in await pair.taken()}
    stories = [[await pair.get(id_) for id_ in group] for group in groups]
    arrived = [sorted(at_s[reference(story)] for story in group) for group in stories]
    everything = sorted(one for group in arrived for one in group)
    some = 3 * DRAIN_PER_S
    for first, later in pairwise([everything[n] for n in range(0, 400, some)]):
        assert later - first >= 2.0, f"{some} within {later - first:.1f} s, from all workers together"
    early_news, late_news, early, late = arrived
    for before, after in pairwise((early, late, early_news, late_news)):
        assert before[80] < after[20], "orders before news, in each the older first"
    await pair.check()


def reference(story: Mapping[str, Any]) -> str:
    delivery = story["deliveries"][0]
    return f"{delivery['id'].replace('-', '')}-{len(delivery['attempts'])}"


async def test_in_a_long_outage_of_all_only_time_ends_what_has_to_end(pair: System):
    for name in BOTH:
        await pair.fault("down", name)
    for name in BOTH:
        await seen_open(pair, name)
    short = [await pair.send(expires_after_s=3) for _ in range(5)]
    lasting = [await pair.send() for _ in range(5)]
    for id_ in short:
        story = await pair.becomes(id_, "expired")
        assert story["deliveries"][0]["reason"] == "expired"
    probes_before = sum([len(changes(pair, name, "half_open")) for name in BOTH])

    def probed() -> bool:
        return sum(len(changes(pair, name, "half_open")) for name in BOTH) >= probes_before + 12

    await until(probed, 60, "more probes than a schedule has attempts")
    rows = await waiting(pair)
    assert sum(row["tries"] for row in rows) >= 12, "those who wait are the probes"
    assert max(row["spent"] for row in rows) <= 1, "and it costs them nothing"
    id_ = await pair.send()
    for one in [*lasting, id_]:
        assert (await pair.get(one))["status"] in ("queued", "sending")
    for name in BOTH:
        await pair.heal(name)
    for one in [*lasting, id_]:
        await pair.becomes(one, "delivered")
    await pair.check()


async def test_a_provider_that_comes_and_goes_is_switched_ever_more_rarely(pair: System):
    before = len(changes(pair, "sendgrid", "open"))
    loading = asyncio.create_task(pair.load(per_s=20, for_s=14))
    for _ in range(14):
        await pair.fault("down")
        await asyncio.sleep(0.5)
        await pair.heal()
        await asyncio.sleep(0.5)
    ids = await loading
    for id_ in ids:
        assert (await pair.becomes(id_, "delivered"))["deliveries"][0]["duplicate_possible"] is False
    opened = len(changes(pair, "sendgrid", "open")) - before
    assert 1 <= opened <= WORKERS * 7, "it went away fourteen times, and each worker looked for itself"
    await pair.check()


async def test_an_operator_pauses_and_resumes_an_account_and_every_worker_obeys_within_a_second(pair: System):
    assert "sendgrid is paused" in await tidings(pair, "providers", "pause", "sendgrid")
    await asyncio.sleep(1)
    stories = [await pair.becomes(await pair.send(), "delivered") for _ in range(8)]
    assert [names(story) for story in stories] == [["mailgun"]] * 8
    shown = (await providers(pair))["sendgrid"]
    assert (shown["state"], shown["breaker"]) == ("paused", "closed")

    await put(pair, "/providers/mailgun/state", {"state": "paused"})
    await asyncio.sleep(1)
    calls = sum([(await pair.stats(name))["requests"] for name in BOTH])
    ids = [await pair.send() for _ in range(5)]

    async def all_wait() -> bool:
        return [row["reason"] for row in await waiting(pair)] == ["provider_paused"] * 5

    await until(all_wait, 20, "everything to wait for an operator")
    assert sum([(await pair.stats(name))["requests"] for name in BOTH]) == calls
    assert "sendgrid is auto" in await tidings(pair, "providers", "resume", "sendgrid")
    for id_ in ids:
        story = await pair.becomes(id_, "delivered")
        assert names(story) == ["sendgrid"]
    await pair.check()


async def test_a_forced_account_is_called_whatever_its_breaker_says(pair: System):
    await pair.fault("down")
    await seen_open(pair)
    listed = msgspec.json.decode(await tidings(pair, "breakers", "--json"))["items"]
    assert {one["name"]: one["breaker"] for one in listed}["sendgrid"] == "open"
    assert "open" in await tidings(pair, "breakers")
    assert "sendgrid is forced" in await tidings(pair, "providers", "force", "sendgrid")
    await asyncio.sleep(1)
    stories = [await pair.becomes(await pair.send(), "delivered") for _ in range(8)]
    assert {tuple(names(story)) for story in stories} == {BOTH}
    assert "forced" in await tidings(pair, "providers", "list")
    await pair.heal()
    assert names(await pair.becomes(await pair.send(), "delivered")) == ["sendgrid"]
    await pair.check()


async def test_weights_share_the_mail_and_a_rule_gives_a_category_its_own_way(pair: System):
    shares = [{"name": "sendgrid", "weight": 1}, {"name": "mailgun", "weight": 1}]
    rules = [{"category": "news", "providers": ["mailgun"]}]
    said = await put(pair, "/routes/email", {"providers": shares, "rules": rules})
    assert said["providers"] == shares
    await asyncio.sleep(1)
    mail = await pair.send_batch([pair.wanted() for _ in range(200)])
    news = await pair.send_batch([pair.wanted(category="news") for _ in range(20)])
    went = Counter([names(await pair.becomes(id_, "delivered"))[-1] for id_ in mail])
    assert set(went) == set(BOTH)
    assert min(went.values()) >= 60, "half of two hundred, by chance"
    assert {names(await pair.becomes(id_, "delivered"))[-1] for id_ in news} == {"mailgun"}
    await pair.check()

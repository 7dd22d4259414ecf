"""FAULTS 36 to 39 and 46: a provider that surely took nothing. Nothing is in doubt, nothing is lost, and waiting for an
account uses up no attempt."""

import asyncio
import sys
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any
from uuid import UUID

import msgspec
import pytest

from tests.acceptance.elsewhere import Provider, attempts, put, routed, until_tried
from tests.system import SHORT, System, until
from tests.wire_peer import Talk, black_hole
from tidings.bench.ledger import Call
from tidings.domain.ids import first_at

SCHEDULE_S: Sequence[float] = msgspec.json.decode(SHORT["TIDINGS_WORKER_RETRY_SCHEDULE_S"])
CONNECT_TIMEOUT_S = float(SHORT["TIDINGS_WORKER_CONNECT_TIMEOUT_S"])
WAITING = "SELECT due_at, now() AS now, spent, tries, reason FROM dispatch WHERE id >= $1 AND state = 0 ORDER BY id"


async def waiting(system: System) -> list[Any]:
    return await system.rows(WAITING, first_at(system.began_ms))


async def send_some(system: System, count: int, **more: Any) -> Sequence[str]:
    return await asyncio.gather(*(system.send(**more) for _ in range(count)))


def gap_s(earlier: dict[str, Any], later: dict[str, Any]) -> float:
    """From the end of one attempt to the start of the next."""
    return (datetime.fromisoformat(later["started_at"]) - datetime.fromisoformat(earlier["at"])).total_seconds()


@pytest.mark.parametrize(("fault", "code"), [("down", "connect_refused"), ("error", "http_503")])
async def test_what_was_surely_not_sent_is_tried_again_on_schedule(system: System, fault: str, code: str):
    await system.fault(fault)
    ids = await send_some(system, 5)
    for id_ in ids:
        await until_tried(system, id_)
    await system.heal()
    for id_ in ids:
        story = await system.becomes(id_, "delivered")
        *failed, last = story["deliveries"][0]["attempts"]
        assert failed, "the provider answered although it was down"
        assert {(one["outcome"], one["code"]) for one in failed} == {("try_next", code)}
        assert (last["outcome"], last["code"]) == ("sent", "accepted")
        assert not story["deliveries"][0]["duplicate_possible"]
        for wait_s, earlier, later in zip(SCHEDULE_S, failed, [*failed[1:], last], strict=False):
            assert gap_s(earlier, later) >= wait_s * 0.8 - 0.05
    await system.check()


async def test_what_used_up_its_attempts_waits_in_the_dead_letters_until_it_is_replayed(system: System):
    await system.fault("down")
    *ids, hopeless = await send_some(system, 4)
    unwanted = (await system.becomes(hopeless, "dead"))["deliveries"][0]["id"]
    dead = [await system.becomes(id_, "dead") for id_ in ids]
    deliveries = [story["deliveries"][0] for story in dead]
    for story in dead:
        assert story["deliveries"][0]["reason"] == "attempts_used"
        assert attempts(story) == [("try_next", "connect_refused")] * (1 + len(SCHEDULE_S))

    status, said, _ = await system.ask("GET", "/dead-letters")
    shown = [one for one in said["items"] if (one["reason"], one["channel"]) == ("attempts_used", "email")]
    assert status == 200
    assert sum(one["count"] for one in shown) >= 4
    assert "attempts_used" in await tidings(system, "dead-letters", "list")
    listed = msgspec.json.decode(await tidings(system, "dead-letters", "list", "--json"))
    assert {one["reason"] for one in listed["items"]} >= {"attempts_used"}

    wanted = {"ids": [one["id"] for one in deliveries]}
    _, counted, _ = await system.ask("POST", "/dead-letters/replay", {**wanted, "dry_run": True})
    assert sorted(counted["ids"]) == sorted(wanted["ids"])
    assert [(await system.get(id_))["status"] for id_ in ids] == ["dead"] * 3

    assert "1 discarded" in await tidings(system, "dead-letters", "discard", unwanted)
    _, done, _ = await system.ask("POST", "/dead-letters/replay", {"ids": [unwanted]})
    assert done["ids"] == [], "given up for good"

    await system.heal()
    _, done, _ = await system.ask("POST", "/dead-letters/replay", {"ids": wanted["ids"][:1]})
    assert done["ids"] == wanted["ids"][:1]
    assert "2 replayed" in await tidings(system, "dead-letters", "replay", *wanted["ids"][1:])
    for id_ in ids:
        story = await system.becomes(id_, "delivered")
        assert attempts(story)[-1] == ("sent", "accepted")
        assert len(attempts(story)) == 2 + len(SCHEDULE_S)
    assert (await system.get(hopeless))["status"] == "dead"
    await system.check()


@pytest.mark.parametrize("told", [True, False])
async def test_an_account_that_is_told_to_slow_down_is_left_alone_and_nothing_is_spent(system: System, told: bool):
    await put(system, "/providers/sendgrid", {"kind": "sendgrid", "settings": {"slow_down_s": "2"}})
    answers = {"fault": "rate_limit", "retry_after_s": 2} if told else {"fault": "error", "status": 429}
    await system.fault(**answers)
    ids = await send_some(system, 20)

    async def all_wait() -> list[Any] | None:
        rows = await waiting(system)
        resting = [
            row for row in rows if row["due_at"] > row["now"] and row["reason"] in ("http_429", "provider_paused")
        ]
        return rows if len(resting) == len(ids) else None

    await until(all_wait, 20, "everything to wait for the account")
    await quiet_until_due(system)
    assert {row["spent"] for row in await waiting(system)} <= {0}
    await system.heal()
    for id_ in ids:
        story = await system.becomes(id_, "delivered")
        assert set(attempts(story)[:-1]) <= {("try_later", "http_429")}
        for earlier, later in pairwise(story["deliveries"][0]["attempts"]):
            assert gap_s(earlier, later) >= 0.95
    assert system.events("work", "ProviderPaused")
    await system.check()


async def test_an_account_that_is_told_to_slow_down_hears_no_more_than_what_was_under_way(system: System):
    await system.fault("rate_limit", retry_after_s=4)
    wanted = [system.wanted() for _ in range(400)]
    items = [{**body, "idempotency_key": key} for key, body in wanted]
    _, said, _ = await system.ask("POST", "/notifications/batch", {"notifications": items})
    system.calls += [
        Call(f"{body['to']['user']}/{key}", 202, UUID(one["id"]).bytes, 0)
        for one, (key, body) in zip(said["results"], wanted, strict=True)
    ]

    async def all_wait() -> bool:
        return sum(row["reason"] in ("http_429", "provider_paused") for row in await waiting(system)) == len(items)

    await until(all_wait, 20, "everything to wait for the account")
    calls = (await system.stats())["requests"]
    assert calls <= 2 * 125, "two workers, each with a hundred calls at once and one batch of marks"
    await system.heal()
    await system.settled()
    assert (await system.stats())["accepted"] == len(items)
    await system.check()


async def quiet_until_due(system: System) -> None:
    """While all wait, nobody calls."""
    rows = await waiting(system)
    before = (await system.stats())["requests"]
    while all(row["due_at"] > row["now"] for row in await waiting(system)):
        calls = (await system.stats())["requests"]
        untouched = [row["due_at"] for row in await waiting(system)] == [row["due_at"] for row in rows]
        if not untouched:
            return
        assert calls == before, "a resting account was called"
        await asyncio.sleep(0.05)


async def test_a_revoked_key_stops_the_account_and_burns_no_attempts(system: System):
    await system.fault("unauthorized")
    ids = await send_some(system, 5)
    more_than_the_schedule = 2 + len(SCHEDULE_S)

    async def tried_often() -> bool:
        rows = await waiting(system)
        assert {row["spent"] for row in rows} <= {0}
        return any(row["tries"] >= more_than_the_schedule for row in rows)

    await until(tried_often, 60, "more tries than the schedule has")
    assert Counter([(await system.get(id_))["status"] for id_ in ids]).keys() <= {"queued", "sending"}
    await system.heal()
    for id_ in ids:
        story = await system.becomes(id_, "delivered")
        assert set(attempts(story)[:-1]) == {("try_later", "http_401")}
    assert "http_401" in {one["code"] for one in system.events("work", "ProviderPaused")}
    await system.check()


async def test_a_provider_that_does_not_even_answer_the_connection_was_surely_not_reached(lone_system: System):
    async with black_hole() as hole:
        async with routed(lone_system, f"http://127.0.0.1:{hole.getsockname()[1]}"):
            ids = await send_some(lone_system, 2)
            for id_ in ids:
                story = await until_tried(lone_system, id_)
                assert set(attempts(story)) == {("try_next", "connect_timeout")}
                assert story["deliveries"][0]["attempts"][0]["took_ms"] >= CONNECT_TIMEOUT_S * 900
            opened = Provider({})
            server = await asyncio.start_server(lambda r, w: opened(Talk(r, w, bytearray())), sock=hole)
            for id_ in ids:
                story = await lone_system.becomes(id_, "sent")
                assert not story["deliveries"][0]["duplicate_possible"]
            await lone_system.settled()
            server.close()
        await lone_system.check(elsewhere=opened.taken)


async def tidings(system: System, *words: str) -> str:
    """What a command prints on stdout."""
    command = [sys.executable, "-m", "tidings", *words, "--data-dir", str(system.data_dir)]
    process = await asyncio.create_subprocess_exec(*command, stdout=-1, stderr=-1, env={"COLUMNS": "200"})
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode()

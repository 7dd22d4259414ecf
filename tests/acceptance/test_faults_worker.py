"""FAULTS 8 to 12 and 14: workers that die, stand still or leave, at each step between the claim and the last word."""

import asyncio
import os
import time
from itertools import pairwise
from signal import SIGSTOP, SIGTERM
from typing import Any

import psutil
import pytest

from tests.system import SHORT, System, until
from tidings.bench.ledger import Rules
from tidings.domain.delivery import State

LEASE_S = float(SHORT["TIDINGS_WORKER_LEASE_S"])
FENCE_S = 1.0
SLACK_S = 2.0
CONCURRENCY = 100


def delivery(shown: dict[str, Any]) -> dict[str, Any]:
    (one,) = shown["deliveries"]
    return one


def outcomes(shown: dict[str, Any]) -> list[str]:
    return [attempt["outcome"] for attempt in delivery(shown)["attempts"]]


async def times_taken(system: System, shown: dict[str, Any]) -> int:
    reference = delivery(shown)["id"].replace("-", "")
    return sum(item["reference"].startswith(reference) for item in await system.taken())


async def waits_s(system: System) -> list[float]:
    """From the commit to the last call, for everything since the test began."""
    found = await system.rows(
        """SELECT extract(epoch FROM max(a.started_at) - n.created_at)::float8 AS wait_s
           FROM notification n JOIN delivery v ON v.notification_id = n.id JOIN attempt a ON a.delivery_id = v.id
           WHERE n.created_at >= to_timestamp($1::float8) GROUP BY n.id, n.created_at""",
        system.began_ms / 1000,
    )
    return [row["wait_s"] for row in found]


async def standing(system: System, *states: State) -> int:
    """Dispatches in these states."""
    found = await system.rows("SELECT count(*) FROM dispatch WHERE state = ANY($1)", list(states))
    return sum(row["count"] for row in found)


async def careful_category(system: System) -> str:
    """One whose notifications are rather lost than sent twice."""
    body = {"class": "transactional", "channels": ["email"], "in_doubt": "at_most_once"}
    status, said, _ = await system.ask("PUT", "/categories/codes", body)
    assert status == 200, said
    return "codes"


async def killed_at(system: System, point: str, **more: Any) -> str:
    """One notification, whose worker dies at this point."""
    system.arm(point)
    id_ = await system.send(**more)
    await system.fired()
    return id_


async def test_what_a_worker_held_when_it_died_before_its_mark_is_sent_once_when_the_claim_ends(system):
    system.arm("after_claim")
    ids = await asyncio.gather(*(system.send() for _ in range(20)))
    await system.fired()
    for id_ in ids:
        assert outcomes(await system.becomes(id_, "delivered")) == ["sent"]
    assert LEASE_S - 1 < max(await waits_s(system)) <= LEASE_S + SLACK_S
    await system.check()


async def test_a_worker_that_dies_between_mark_and_write_leaves_a_doubt_that_the_policy_ends(system):
    again = await killed_at(system, "before_write")
    never = await killed_at(system, "before_write", category=await careful_category(system))
    sent, given_up = await asyncio.gather(system.becomes(again, "delivered"), system.becomes(never, "unknown"))
    assert (delivery(sent)["duplicate_possible"], outcomes(sent)) == (True, ["unsure", "sent"])
    assert (delivery(given_up)["duplicate_possible"], outcomes(given_up)) == (False, ["unsure"])
    assert (await times_taken(system, sent), await times_taken(system, given_up)) == (1, 0)
    await system.check()


async def test_a_worker_that_dies_with_the_answer_in_its_hand_leaves_a_doubt_that_the_receipt_ends(system):
    shown = await system.becomes(await killed_at(system, "after_response"), "delivered")
    await system.settled()
    shown = await system.get(shown["id"])
    assert [(one["outcome"], one["code"]) for one in delivery(shown)["attempts"]] == [("sent", "receipt")]
    assert (delivery(shown)["duplicate_possible"], await times_taken(system, shown)) == (False, 1)
    await system.check()


async def test_without_receipts_such_a_doubt_ends_by_the_policy_and_says_that_it_may_have_come_twice(system):
    await system.receipts(share_delivered=0)
    again = await killed_at(system, "after_response")
    never = await killed_at(system, "after_response", category=await careful_category(system))
    sent, given_up = await asyncio.gather(system.becomes(again, "sent"), system.becomes(never, "unknown"))
    assert (delivery(sent)["duplicate_possible"], await times_taken(system, sent)) == (True, 2)
    assert (delivery(given_up)["duplicate_possible"], await times_taken(system, given_up)) == (False, 1)
    await system.check(Rules(duplicates_allowed=1))


async def test_a_worker_that_stood_still_beyond_its_lease_after_the_mark_sends_nothing_late(system):
    system.arm("after_mark", SIGSTOP)
    id_ = await system.send()
    await system.stopped()
    await until(lambda: standing(system, State.in_doubt), LEASE_S + 10, "the claim to end in doubt")
    system.wake()
    shown = await system.becomes(id_, "delivered")
    assert outcomes(shown) == ["fenced", "sent"]
    assert await times_taken(system, shown) == 1
    await system.check()


async def test_the_answer_of_a_worker_that_stood_still_beyond_its_lease_still_ends_the_doubt(system):
    await system.receipts(share_delivered=0)
    system.arm("after_response", SIGSTOP)
    id_ = await system.send()
    await system.stopped()
    await until(lambda: standing(system, State.in_doubt), LEASE_S + 10, "the claim to end in doubt")
    system.wake()
    shown = await system.becomes(id_, "sent")
    assert (outcomes(shown), delivery(shown)["duplicate_possible"]) == (["sent"], False)
    assert await times_taken(system, shown) == 1
    await system.check()


@pytest.mark.parametrize("point", ["after_mark", "before_write"])
async def test_a_worker_that_was_blocked_for_longer_than_the_fence_writes_nothing_of_that_mark(system, point):
    system.arm(point, SIGSTOP)
    id_ = await system.send()
    await system.stopped()
    await asyncio.sleep(FENCE_S + 0.2)
    system.wake()
    shown = await system.becomes(id_, "delivered")
    assert outcomes(shown) == ["fenced", "sent"]
    assert await times_taken(system, shown) == 1
    await system.check()


async def test_a_pause_beyond_the_lease_under_load_repeats_nothing(system):
    await system.fault("slow", delay_ms=300)
    load = asyncio.create_task(system.load(40, LEASE_S + 1))
    await until(lambda: system.took(30), 20, "calls under way in both workers")
    system.signal("worker", SIGSTOP)
    await asyncio.sleep(1.3 * LEASE_S)
    system.wake()
    ids = await load
    assert (await system.check()).counts["answered_202"] == len(ids)


async def test_what_a_killed_worker_held_is_sent_or_in_doubt_by_the_end_of_its_lease(system):
    await system.fault("slow", delay_ms=500)
    load = asyncio.create_task(system.load(60, 2))
    await until(lambda: system.took(30), 20, "calls under way in both workers")
    system.signal("worker")
    killed_s, tokens = time.monotonic(), await held(system)
    await until(lambda: let_go(system, tokens), LEASE_S + 10, "the claims of the dead to end")
    assert time.monotonic() - killed_s <= LEASE_S + SLACK_S
    await load
    await system.check()
    assert await ended_by_receipt(system)


async def ended_by_receipt(system: System) -> int:
    statement = "SELECT FROM attempt WHERE code = 'receipt' AND at >= to_timestamp($1::float8)"
    return len(await system.rows(statement, system.began_ms / 1000))


async def held(system: System) -> list[int]:
    found = await system.rows("SELECT DISTINCT token FROM dispatch WHERE state IN (1, 2)")
    return [row["token"] for row in found]


async def let_go(system: System, tokens: list[int]) -> bool:
    return not await system.rows("SELECT FROM dispatch WHERE state IN (1, 2) AND token = ANY($1)", tokens)


async def test_a_worker_that_leaves_under_load_finishes_its_calls_and_nobody_notices(system):
    await system.fault("slow", delay_ms=200)
    load = asyncio.create_task(system.load(50, 5))
    await until(lambda: system.took(50), 30, "the load to arrive")
    before = len(system.events("up", "PartRestarted"))
    pid, asked_at = system.signal("worker", SIGTERM), time.time()
    await system.replaced("worker", pid)
    assert time.time() - asked_at < 20
    await load
    await system.check()
    await everything_was_sent_at_once(system)
    (left,) = system.events("up", "PartRestarted")[before:]
    assert (left["part"], left["code"]) == ("worker", 0)
    calls_at = await calls_began_at(system)
    usual_s = longest_gap_s([at for at in calls_at if at < asked_at])
    assert longest_gap_s([at for at in calls_at if at >= asked_at]) < 1.0 + usual_s


async def test_a_worker_that_leaves_gives_back_what_it_holds_and_has_not_touched(system):
    pid, other = system.pids("worker")
    os.kill(other, SIGSTOP)
    await system.fault("slow", delay_ms=800)
    await system.send_batch([system.wanted() for _ in range(3 * CONCURRENCY)])
    await until(lambda: standing(system, State.leased), 10, "claims for which there is no room yet")
    tokens = await held(system)
    os.kill(pid, SIGTERM)
    await until(lambda: not psutil.pid_exists(pid), 20, "the worker to leave")
    assert await let_go(system, tokens)
    system.wake()
    await system.check()
    await everything_was_sent_at_once(system)


async def everything_was_sent_at_once(system: System) -> None:
    found = await system.rows(
        "SELECT DISTINCT n, outcome, code FROM attempt WHERE started_at >= to_timestamp($1::float8)",
        system.began_ms / 1000,
    )
    assert {tuple(row) for row in found} == {(1, "sent", "accepted")}


async def calls_began_at(system: System) -> list[float]:
    found = await system.rows(
        "SELECT started_at FROM attempt WHERE started_at >= to_timestamp($1::float8)", system.began_ms / 1000
    )
    return sorted(row["started_at"].timestamp() for row in found)


def longest_gap_s(at: list[float]) -> float:
    return max(later - earlier for earlier, later in pairwise(at))

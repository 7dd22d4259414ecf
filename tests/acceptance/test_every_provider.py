"""FAULTS 30 to 32, 36 to 38, 40, 41, 43, 46 and 54 at every provider at the same time: whatever they do, everybody gets
one message, or is told why not, and the ledgers agree."""

import asyncio
import uuid
from collections.abc import Iterable, Sequence
from uuid import UUID

import asyncpg
import msgspec
import pytest
import pytest_asyncio

from tests.acceptance.elsewhere import attempts, put
from tests.acceptance.ways import (
    OVER_HTTP,
    REPORTING,
    WAYS,
    at_each,
    ended,
    open_ways,
    repeatable,
    send_some,
    tried,
    tries,
    wanted_by,
)
from tests.system import SHORT, System, until
from tidings.domain.ids import first_at

EACH = 3
SCHEDULE_S = msgspec.json.decode(SHORT["TIDINGS_WORKER_RETRY_SCHEDULE_S"])

pytestmark = pytest.mark.timeout(300)


@pytest_asyncio.fixture
async def ways(system: System):
    await open_ways(system)
    yield system
    await system.well()


async def accepted(system: System, names: Sequence[str] = tuple(WAYS)) -> dict[str, int]:
    """How much each provider took."""
    stats = await system.sandbox("GET", "/stats")
    return {name: stats[name]["accepted"] for name in names}


async def spent(system: System, ids: Iterable[str]) -> set[int]:
    """How many waits of the schedule those of them have used up that are still to be sent."""
    deliveries = {UUID((await system.get(id_))["deliveries"][0]["id"]) for id_ in ids}
    rows = await system.rows("SELECT id, spent FROM dispatch WHERE id >= $1", first_at(system.began_ms))
    return {row["spent"] for row in rows if row["id"] in deliveries}


@pytest.mark.parametrize("fault", ["down", "error", "rate_limit", "unauthorized"])
async def test_what_was_surely_not_taken_is_sent_when_the_provider_is_well_again(ways: System, fault: str):
    await at_each(lambda name: ways.fault(fault, name, **({"retry_after_s": 1} if fault == "rate_limit" else {})))
    ids = await send_some(ways, EACH)
    await tried(ways, ids)
    if fault in ("rate_limit", "unauthorized"):
        resting = [id_ for name in OVER_HTTP for id_ in ids[name]]
        assert await spent(ways, resting) == {0}, "waiting for an account costs nothing"
    await at_each(ways.heal)
    for name, stories in (await ended(ways, ids, "delivered", "sent")).items():
        said = [one for one in tries(stories) if one != ("sent", "accepted")]
        assert said, f"{name} took all at once"
        assert {code for _, code in said} <= WAYS[name].codes(fault), name
        assert {outcome for outcome, _ in said} <= {"try_next", "try_later"}, name
        assert repeatable(stories) == {False}, name
    assert await accepted(ways) == dict.fromkeys(WAYS, EACH)
    await ways.check()


TAKEN = {"slow": {"delay_ms": 3000}, "accept_then_hang": {}, "accept_then_reset": {}, "accept_then_error": {}}


@pytest.mark.parametrize("fault", TAKEN)
async def test_what_was_taken_without_a_word_is_known_by_its_receipt_or_never_sent_again(ways: System, fault: str):
    names = OVER_HTTP if fault == "accept_then_error" else tuple(WAYS)
    await at_each(lambda name: ways.fault(fault, name, **TAKEN[fault]), names)
    ids = await send_some(ways, EACH, names, once=True)
    for name, stories in (await ended(ways, ids, "delivered", "unknown")).items():
        assert {story["status"] for story in stories} == {"delivered" if WAYS[name].reports else "unknown"}, name
        assert {len(attempts(story)) for story in stories} == {1}, name
        assert {outcome for outcome, _ in tries(stories)} <= {"sent", "unsure"}, name
        assert repeatable(stories) == {False}, name
    assert await accepted(ways, names) == dict.fromkeys(names, EACH)
    await ways.check()


@pytest.mark.parametrize(("fault", "more"), [("garbage", {}), ("error", {"status": 500}), ("error", {"status": 502})])
async def test_what_may_have_been_taken_is_looked_up_or_sent_again_and_says_so(ways: System, fault: str, more: dict):
    names = OVER_HTTP if more else tuple(WAYS)
    await at_each(lambda name: ways.fault(fault, name, **more), names)
    ids = await send_some(ways, EACH, names)
    await tried(ways, ids, all)
    await at_each(ways.heal, names)
    for name, stories in (await ended(ways, ids, "delivered", "sent")).items():
        last = {attempts(story)[-1] for story in stories}
        before = {one for story in stories for one in attempts(story)[:-1]}
        assert last == {("sent", "accepted")}, name
        if WAYS[name].lists:
            assert before == {("try_next", "absent")}, name
        else:
            assert {outcome for outcome, _ in before} == {"unsure"}, name
        assert repeatable(stories) == {not WAYS[name].lists}, name
    assert await accepted(ways, names) == dict.fromkeys(names, EACH)
    await ways.check()


@pytest.mark.parametrize("fault", ["refuse", "bad_address"])
async def test_what_is_refused_is_not_tried_again(ways: System, fault: str):
    await at_each(lambda name: ways.fault(fault, name))
    ids = await send_some(ways, EACH)
    for name, stories in (await ended(ways, ids, "failed")).items():
        assert {len(attempts(story)) for story in stories} == {1}, name
        assert {outcome for outcome, _ in tries(stories)} == {"refused"}, name
        assert {code for _, code in tries(stories)} == WAYS[name].codes(fault), name
    assert await accepted(ways) == dict.fromkeys(WAYS, 0)
    await ways.check()


async def test_receipts_before_the_answer_46_times_each_and_in_any_order_count_once(ways: System):
    async def calls(name: str) -> int:
        return (await ways.stats(name))["webhooks"]["calls"]

    before = await at_each(calls, REPORTING)
    await at_each(lambda name: ways.receipts(name, delay_ms=0, repeat=46, shuffle=True), REPORTING)
    await at_each(lambda name: ways.fault("slow", name, delay_ms=1_000), REPORTING)
    ids = await send_some(ways, EACH, REPORTING)
    await ended(ways, ids, "delivered")

    async def told(name: str) -> bool:
        return await calls(name) >= before[name] + 46

    await at_each(lambda name: until(lambda: told(name), 60, f"the last repetition of {name}'s"), REPORTING)
    for name, stories in (await ended(ways, ids, "delivered")).items():
        deliveries = [story["deliveries"][0] for story in stories]
        assert {len(one["attempts"]) for one in deliveries} == {1}, name
        assert any(came_first(one) for one in deliveries), f"no receipt of {name}'s came before its answer"
        for one in deliveries:
            kinds = [receipt["kind"] for receipt in one["receipts"]]
            assert "delivered" in kinds, name
            assert len(kinds) == len(set(kinds)), name
    assert await accepted(ways, REPORTING) == dict.fromkeys(REPORTING, EACH)
    await ways.check()


def came_first(delivery: dict) -> bool:
    """Did a receipt come before the end of the call?"""
    return min(one["received_at"] for one in delivery["receipts"]) < delivery["attempts"][0]["at"]


async def test_what_breaks_its_template_or_its_adapter_is_buried_alone(ways: System):
    """A sender without an address cannot be made through the API: it is put into the database behind its back. FCM's
    adapter needs nothing of a sender."""
    broken = f"broken-{uuid.uuid4().hex[:8]}"
    await put(ways, f"/templates/{broken}", {"content": dict.fromkeys(("subject", "text"), "{{ absent.field }}")})
    await sender_without_address(ways, broken)
    breaking = [name for name in WAYS if name != "fcm"]
    mates = {name: [wanted_by(ways, name) for _ in range(EACH)] for name in WAYS}
    by_template = {name: [wanted_by(ways, name, template=broken)] for name in WAYS}
    by_adapter = {name: [wanted_by(ways, name, sender=broken)] for name in breaking}
    groups = [some for kind in (by_template, by_adapter, mates) for some in kind.values()]
    ids = iter(await ways.send_batch([item for some in groups for item in some]))
    by_template, by_adapter, mates = (
        {name: [next(ids) for _ in some] for name, some in kind.items()} for kind in (by_template, by_adapter, mates)
    )
    for name, stories in (await ended(ways, mates, "delivered", "sent")).items():
        assert tries(stories) == {("sent", "accepted")}, name
    for name, (story,) in (await ended(ways, by_template, "dead")).items():
        assert (story["deliveries"][0]["reason"], attempts(story)) == ("template_error", []), name
    for name, (story,) in (await ended(ways, by_adapter, "dead")).items():
        assert attempts(story) == [("try_later", "adapter_fault")] * (1 + len(SCHEDULE_S)), name
        assert story["deliveries"][0]["reason"] == "attempts_used", name
    await ways.check()


async def sender_without_address(system: System, name: str) -> None:
    """On every channel. Returns when all processes know."""
    control = await asyncpg.connect(system.dsns[0])
    await control.execute(
        "INSERT INTO sender (tenant, name, channel, identity) SELECT s.tenant, $1, s.channel, '{}' "
        "FROM sender s JOIN tenant t ON t.id = s.tenant WHERE s.name = 'default' AND t.twin_of IS NULL",
        name,
    )
    await control.close()

    async def known() -> bool:
        return (await system.ask("GET", f"/senders/{name}"))[0] == 200

    await until(known, 20, "the API to know the sender")
    await asyncio.sleep(1)

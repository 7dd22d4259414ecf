"""FAULTS 36 to 46 where the provider is WhatsApp: whatever it does, everybody gets one message, or is told why not."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from tests.acceptance.elsewhere import attempts
from tests.system import System, until

EACH = 4
PATIENCE_S = 90.0


async def say_to_some(system: System) -> Sequence[str]:
    """One message to each of some telephones; its template is filled in by the one of ours."""

    async def say(number: str) -> str:
        key, body = system.wanted(channels=["whatsapp"])
        body["to"]["phone"] = number
        return (await system.insist(key, body))[0]

    return await asyncio.gather(*(say(f"+1202555020{n}") for n in range(EACH)))


async def told(system: System, ids: Sequence[str], status: str) -> Sequence[Mapping[str, Any]]:
    for id_ in ids:
        await system.becomes(id_, status, timeout_s=PATIENCE_S)
    await system.settled()
    return [await system.get(id_) for id_ in ids]


NOT_TAKEN = {
    "down": ({}, "connect_refused"),
    "error": ({}, "2"),
    "rate_limit": ({"retry_after_s": 1}, "130429"),
    "unauthorized": ({}, "190"),
}


@pytest.mark.parametrize("fault", NOT_TAKEN)
async def test_what_whatsapp_surely_did_not_take_is_sent_when_it_is_well_again(system: System, fault: str):
    more, code = NOT_TAKEN[fault]
    await system.fault(fault, "whatsapp", **more)
    ids = await say_to_some(system)

    async def tried() -> bool:
        return any([attempts(await system.get(id_)) for id_ in ids])

    await until(tried, 30, "a first try")
    await system.heal("whatsapp")
    stories = await told(system, ids, "delivered")
    said = {one for story in stories for one in attempts(story)}
    assert {code} == {code for outcome, code in said if outcome != "sent"}
    assert not any(story["deliveries"][0]["duplicate_possible"] for story in stories)
    assert (await system.stats("whatsapp"))["accepted"] == EACH
    await system.check()


TAKEN = {"slow": {"delay_ms": 3000}, "accept_then_hang": {}, "accept_then_reset": {}, "accept_then_error": {}}


@pytest.mark.parametrize("fault", TAKEN)
async def test_what_whatsapp_took_without_saying_so_is_known_by_its_receipts(system: System, fault: str):
    await system.fault(fault, "whatsapp", **TAKEN[fault])
    stories = await told(system, await say_to_some(system), "delivered")
    assert {len(attempts(story)) for story in stories} == {1}
    assert {outcome for story in stories for outcome, _ in attempts(story)} <= {"sent", "unsure"}
    assert (await system.stats("whatsapp"))["accepted"] == EACH
    await system.check()


@pytest.mark.parametrize(("fault", "more"), [("garbage", {}), ("error", {"status": 502})])
async def test_what_nobody_can_tell_is_sent_again_and_says_so(system: System, fault: str, more: dict[str, Any]):
    await system.fault(fault, "whatsapp", **more)
    ids = await say_to_some(system)
    for id_ in ids:
        await system.becomes(id_, "in_doubt")
    await system.heal("whatsapp")
    for story in await told(system, ids, "delivered"):
        assert [outcome for outcome, _ in attempts(story)] == ["unsure", "sent"]
        assert story["deliveries"][0]["duplicate_possible"]
    await system.check()


@pytest.mark.parametrize(("fault", "code"), [("refuse", "132001"), ("bad_address", "131026")])
async def test_what_whatsapp_refuses_is_not_tried_again(system: System, fault: str, code: str):
    await system.fault(fault, "whatsapp")
    stories = await told(system, await say_to_some(system), "failed")
    assert {tuple(attempts(story)) for story in stories} == {(("refused", code),)}
    await system.check()

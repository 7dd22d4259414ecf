"""FAULTS 36 to 46 where the provider is Twilio: whatever it does, everybody gets one SMS, or is told why not."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from tests.acceptance.elsewhere import attempts
from tests.system import System, until

EACH = 4
PATIENCE_S = 90.0


async def sms(system: System, number: str) -> str:
    key, body = system.wanted(channels=["sms"])
    body["to"]["phone"] = number
    return (await system.insist(key, body))[0]


async def sms_to_some(system: System, block: int) -> Sequence[str]:
    """One to each of some numbers, which are those of this block alone: what went to them can be looked up."""
    return await asyncio.gather(*(sms(system, f"+1202555{block:03}{n}") for n in range(EACH)))


async def told(system: System, ids: Sequence[str], status: str) -> Sequence[Mapping[str, Any]]:
    for id_ in ids:
        await system.becomes(id_, status, timeout_s=PATIENCE_S)
    await system.settled()
    return [await system.get(id_) for id_ in ids]


async def first_tried(system: System, ids: Sequence[str]) -> None:
    """Returns once one of them was tried: it may be that none other is, because the account rests."""

    async def tried() -> bool:
        return any([attempts(await system.get(id_)) for id_ in ids])

    await until(tried, 30, "a first try")


NOT_TAKEN = {
    "down": (100, {}, "connect_refused"),
    "error": (110, {}, "20503"),
    "rate_limit": (120, {"retry_after_s": 1}, "20429"),
    "unauthorized": (130, {}, "20003"),
}


@pytest.mark.parametrize("fault", NOT_TAKEN)
async def test_what_twilio_surely_did_not_take_is_sent_when_it_is_well_again(system: System, fault: str):
    block, more, code = NOT_TAKEN[fault]
    await system.fault(fault, "twilio", **more)
    ids = await sms_to_some(system, block)
    await first_tried(system, ids)
    await system.heal("twilio")
    stories = await told(system, ids, "delivered")
    said = {one for story in stories for one in attempts(story)}
    assert {code} == {code for outcome, code in said if outcome != "sent"}
    assert {outcome for outcome, _ in said} <= {"sent", "try_next", "try_later"}
    assert not any(story["deliveries"][0]["duplicate_possible"] for story in stories)
    assert (await system.stats("twilio"))["accepted"] == EACH
    await system.check()


TAKEN = {
    "slow": (200, {"delay_ms": 3000}),
    "accept_then_hang": (210, {}),
    "accept_then_reset": (220, {}),
    "accept_then_error": (230, {}),
}


@pytest.mark.parametrize("fault", TAKEN)
async def test_what_twilio_took_without_saying_so_is_known_by_its_callbacks(system: System, fault: str):
    block, more = TAKEN[fault]
    await system.fault(fault, "twilio", **more)
    ids = await sms_to_some(system, block)
    stories = await told(system, ids, "delivered")
    assert {len(attempts(story)) for story in stories} == {1}
    assert {outcome for story in stories for outcome, _ in attempts(story)} <= {"sent", "unsure"}
    assert (await system.stats("twilio"))["accepted"] == EACH
    await system.check()


DOUBTFUL = {"garbage": (300, {}), "error": (310, {"status": 502})}


@pytest.mark.parametrize("fault", DOUBTFUL)
async def test_what_may_have_been_taken_but_is_not_listed_is_sent_again_as_the_first(system: System, fault: str):
    block, more = DOUBTFUL[fault]
    await system.fault(fault, "twilio", **more)
    ids = await sms_to_some(system, block)
    for id_ in ids:
        await system.becomes(id_, "in_doubt")
    await system.heal("twilio")
    for story in await told(system, ids, "delivered"):
        assert attempts(story) == [("try_next", "absent"), ("sent", "accepted")]
        assert not story["deliveries"][0]["duplicate_possible"]
    assert (await system.stats("twilio"))["accepted"] == EACH
    await system.check()


@pytest.mark.parametrize(("fault", "block", "code"), [("refuse", 400, "21612"), ("bad_address", 410, "21211")])
async def test_what_twilio_refuses_is_not_tried_again(system: System, fault: str, block: int, code: str):
    await system.fault(fault, "twilio")
    stories = await told(system, await sms_to_some(system, block), "failed")
    assert {tuple(attempts(story)) for story in stories} == {(("refused", code),)}
    await system.check()

"""Push by FCM: one delivery for each live token, none twice and none lost, and dead tokens forgotten."""

from typing import Any

import pytest_asyncio

from tests.acceptance.elsewhere import put
from tests.system import System, until
from tidings.bench.ledger import Rules

PUSH = {"channels": ["push"]}


@pytest_asyncio.fixture
async def pushing(system: System):
    yield system
    await system.heal("fcm")


async def owner(system: System, user: str, *tokens: str) -> str:
    """A user with these tokens."""
    status, said, _ = await system.ask("PUT", f"/users/{user}", {"push_tokens": list(tokens)})
    assert status == 200, said
    return user


async def tokens_of(system: System, user: str) -> list[str]:
    return (await system.ask("GET", f"/users/{user}"))[1]["push_tokens"]


def by_token(shown: dict[str, Any]) -> dict[str, str]:
    return {one["address"]: one["status"] for one in shown["deliveries"]}


async def tried(system: System, id_: str) -> None:
    """Returns once a call for it has been made."""

    async def called() -> bool:
        return any(one["attempts"] for one in (await system.get(id_))["deliveries"])

    await until(called, 30, "a first attempt")


async def pushed(system: System) -> list[str]:
    """The tokens that FCM took something for."""
    return sorted(one["to"] for one in await system.taken() if one["provider"] == "fcm")


async def test_a_user_with_three_tokens_one_of_them_dead_is_reached_on_two_and_the_dead_one_is_forgotten(pushing):
    user = await owner(pushing, "push-three", "tablet", "phone-unregistered", "watch")
    shown = await pushing.becomes(await pushing.send(user=user, **PUSH), "sent")
    assert by_token(shown) == {"tablet": "sent", "phone-unregistered": "failed", "watch": "sent"}
    assert await pushed(pushing) == ["tablet", "watch"]
    assert await tokens_of(pushing, user) == ["tablet", "watch"]
    again = await pushing.becomes(await pushing.send(user=user, **PUSH), "sent")
    assert by_token(again) == {"tablet": "sent", "watch": "sent"}
    await pushing.check()


async def test_when_the_first_and_only_token_is_dead_the_next_push_finds_no_address(pushing):
    user = await owner(pushing, "push-last", "phone-unregistered")
    await pushing.becomes(await pushing.send(user=user, **PUSH), "failed")
    assert await tokens_of(pushing, user) == []
    shown = await pushing.becomes(await pushing.send(user=user, **PUSH), "suppressed")
    assert [one["reason"] for one in shown["deliveries"]] == ["no_address"]
    await pushing.check()


async def test_tokens_given_with_the_call_are_used_for_it_alone(pushing):
    user = await owner(pushing, "push-given", "stored")
    to = {"user": user, "push_tokens": ["one", "two", "one", "no token"]}
    shown = await pushing.becomes(await pushing.send(user=user, to=to, **PUSH), "sent")
    assert by_token(shown) == {"one": "sent", "two": "sent"}
    assert await tokens_of(pushing, user) == ["stored"]
    await pushing.check()


async def test_the_app_gets_the_data_that_was_written_for_it_and_no_other(pushing):
    own = {"data.order": "{{ order }}", "data.screen": "order"}
    await put(pushing, "/templates/push-data", {"content": {"title": "Order {{ order }}", "channels": {"push": own}}})
    user = await owner(pushing, "push-data", "phone")
    data = {"order": 7, "card": "not for the device"}
    id_ = await pushing.send(user=user, template="push-data", data=data, metadata={"shop": "2"}, **PUSH)
    assert (await pushing.becomes(id_, "sent"))["status"] == "sent"
    [taken] = await pushing.taken()
    assert taken["content"]["data"] == {"order": "7", "screen": "order", "ref": taken["reference"]}
    await pushing.check()


async def test_a_worker_that_dies_between_the_fan_out_and_the_send_loses_and_repeats_nothing(pushing):
    user = await owner(pushing, "push-killed", "tablet", "phone", "watch")
    pushing.arm("after_claim")
    id_ = await pushing.send(user=user, **PUSH)
    await pushing.fired()
    shown = await pushing.becomes(id_, "sent", timeout_s=60)
    assert by_token(shown) == {"tablet": "sent", "phone": "sent", "watch": "sent"}
    assert [len(one["attempts"]) for one in shown["deliveries"]] == [1, 1, 1]
    assert await pushed(pushing) == ["phone", "tablet", "watch"]
    await pushing.check()


async def test_a_provider_that_is_away_costs_a_push_nothing_but_time(pushing):
    user = await owner(pushing, "push-away", "tablet", "phone")
    await pushing.fault("down", "fcm")
    id_ = await pushing.send(user=user, **PUSH)
    await tried(pushing, id_)
    await pushing.heal("fcm")
    shown = await pushing.becomes(id_, "sent", timeout_s=60)
    assert by_token(shown) == {"tablet": "sent", "phone": "sent"}
    await pushing.check()


async def test_a_refused_key_makes_a_push_wait_and_uses_up_no_attempt(pushing):
    user = await owner(pushing, "push-refused", "tablet")
    await pushing.fault("unauthorized", "fcm")
    id_ = await pushing.send(user=user, **PUSH)
    await tried(pushing, id_)
    await pushing.heal("fcm")
    shown = await pushing.becomes(id_, "sent", timeout_s=60)
    (delivery,) = shown["deliveries"]
    assert {one["code"] for one in delivery["attempts"]} == {"http_401", "accepted"}
    await pushing.check()


async def test_a_push_that_may_have_gone_is_decided_by_policy_and_its_copy_replaces_it(pushing):
    user = await owner(pushing, "push-doubt", "tablet", "phone")
    await pushing.fault("accept_then_reset", "fcm")
    id_ = await pushing.send(user=user, **PUSH)
    await until(lambda: pushing.took(2, "fcm"), 30, "both to be taken")
    await pushing.heal("fcm")
    shown = await pushing.becomes(id_, "sent", timeout_s=60)
    assert [one["duplicate_possible"] for one in shown["deliveries"]] == [True, True]
    taken = [one for one in await pushing.taken() if one["provider"] == "fcm"]
    tags = [one["content"]["android"]["notification"]["tag"] for one in taken if one["to"] == "tablet"]
    assert len(tags) == 2 and tags[0] == tags[1]
    await pushing.check(Rules(duplicates_allowed=2))

"""FAULTS 37 and 40 to 43: a provider that may have taken it. It is asked for receipts, never sent again blindly; what
nobody can tell follows the category's policy."""

import asyncio
import uuid
from collections.abc import Sequence
from typing import Any

import psutil
import pytest

from tests.acceptance.elsewhere import (
    API_KEY,
    Provider,
    attempts,
    event,
    provider,
    put,
    saying,
    take,
    until_tried,
    webhooks,
)
from tests.system import System, until
from tests.wire_peer import Talk, answer, playing
from tidings.bench.ledger import Rules


@pytest.mark.parametrize(
    "fault",
    [
        {"fault": "accept_then_error", "status": 500},
        {"fault": "accept_then_error", "status": 502},
        {"fault": "accept_then_error", "status": 504},
        {"fault": "accept_then_hang"},
        {"fault": "accept_then_reset"},
        {"fault": "slow", "delay_ms": 4000},
    ],
    ids=lambda fault: "-".join(map(str, fault.values())),
)
async def test_a_lost_answer_is_found_out_from_the_receipt_and_nothing_is_sent_twice(
    system: System, fault: dict[str, Any]
):
    await system.receipts(delay_ms=1200)  # after a second try would have been made
    await system.fault(**fault)
    ids = await asyncio.gather(*(system.send() for _ in range(5)))
    for id_ in ids:
        await system.becomes(id_, "delivered")
    await system.settled()
    for id_ in ids:
        story = await system.get(id_)
        assert attempts(story) in ([("sent", "receipt")], [("unsure", "timeout")])
        assert not story["deliveries"][0]["duplicate_possible"]
    stats = await system.stats()
    assert (stats["accepted"], stats["repeated"]) == (5, 0)
    await system.check()


async def test_a_slow_answer_within_the_time_limit_is_an_answer(system: System):
    await system.fault("slow", delay_ms=500)
    id_ = await system.send()
    assert attempts(await system.becomes(id_, "delivered")) == [("sent", "accepted")]
    await system.check()


async def careful(system: System) -> str:
    """A category whose mail is rather lost than sent twice."""
    name = f"codes-{uuid.uuid4().hex[:8]}"
    await put(
        system, f"/categories/{name}", {"class": "transactional", "channels": ["email"], "in_doubt": "at_most_once"}
    )
    return name


@pytest.mark.parametrize("fault", [{"fault": "garbage"}, {"fault": "error", "status": 500}], ids=["garbage", "500"])
async def test_what_nobody_can_tell_is_sent_again_and_says_so_unless_its_category_forbids_it(
    lone_system: System, fault: dict[str, Any]
):
    await lone_system.fault(**fault)
    again, never = await lone_system.send(), await lone_system.send(category=await careful(lone_system))
    for id_ in (again, never):
        assert attempts(await until_tried(lone_system, id_))[0][0] == "unsure"
        assert (await lone_system.get(id_))["status"] == "in_doubt"
    await lone_system.heal()
    story = await lone_system.becomes(again, "delivered")
    assert story["deliveries"][0]["duplicate_possible"]
    assert [outcome for outcome, _ in attempts(story)] == ["unsure", "sent"]
    story = await lone_system.becomes(never, "unknown")
    assert (story["deliveries"][0]["reason"], len(attempts(story))) == ("in_doubt", 1)
    assert (await lone_system.stats())["accepted"] == 1
    await lone_system.check()


async def test_without_a_receipt_the_policy_decides_and_a_late_one_still_counts(lone_system: System):
    await lone_system.receipts(share_delivered=0)
    await lone_system.fault("accept_then_error", status=500)
    again, never = await lone_system.send(), await lone_system.send(category=await careful(lone_system))
    for id_ in (again, never):
        await until_tried(lone_system, id_)
    await lone_system.heal()
    story = await lone_system.becomes(again, "sent")
    assert story["deliveries"][0]["duplicate_possible"]
    await lone_system.becomes(never, "unknown")
    references = [item["reference"] for item in await lone_system.taken()]
    assert len(references) == 3, "one of them twice, the other once"

    async with webhooks(lone_system) as calls:
        await calls.tell(*(event(reference) for reference in references))
    for id_, outcomes in ((again, ["sent", "sent"]), (never, ["sent"])):
        story = await lone_system.becomes(id_, "delivered")
        assert [outcome for outcome, _ in attempts(story)] == outcomes
    await lone_system.check(Rules(duplicates_allowed=1))


async def drip(talk: Talk, _provider: Provider, _reference: str) -> None:
    """A byte a second."""
    for byte in answer(202, headers="X-Message-Id: m\r\n"):
        await talk.say(bytes([byte]))
        await asyncio.sleep(1)


async def endless(talk: Talk, _provider: Provider, _reference: str) -> None:
    await talk.say(b"HTTP/1.1 202 Accepted\r\nX-Message-Id: m\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        await talk.say(b"4000\r\n" + b"x" * 0x4000 + b"\r\n")


async def nothing(talk: Talk, _provider: Provider, _reference: str) -> None:
    await talk.gone()


async def half(talk: Talk, _provider: Provider, _reference: str) -> None:
    await talk.say(b"HTTP/1.1 202 Accepted\r\nX-Message-Id: m\r\nContent-Length: 100\r\n\r\nhalf of i")
    talk.reset()


NEVER_SENT = b'{"errors": [{"message": "no", "field": null}]}'
ANSWERS = {
    "drip": (drip, "unsure", "timeout"),
    "silence": (nothing, "unsure", "timeout"),
    "endless": (endless, "unsure", "too_large"),
    "half": (half, "unsure", "truncated"),
    "large": (saying(answer(200, b'{"a": "' + b"x" * 10_000_000 + b'"}')), "unsure", "too_large"),
    "page": (saying(answer(200, b"<html>It works!</html>", "Content-Type: text/html\r\n")), "unsure", "http_200"),
    "nameless": (saying(answer(202)), "unsure", "no_message_id"),
    "noise": (saying(b"\x00\xff\x16\x03\x01" * 50), "unsure", "garbled"),
    "ok-false": (saying(answer(200, b'{"ok": false}')), "unsure", "http_200"),
    "refusal": (saying(answer(400, NEVER_SENT)), "refused", "http_400"),
    "odd-type": (take, "sent", "accepted"),
}


async def test_every_way_to_answer_badly_becomes_an_outcome_and_leaves_nothing_open(lone_system: System):
    category = await careful(lone_system)
    faults_before = len(lone_system.events("work", "AdapterFault"))
    async with provider(lone_system, {name: act for name, (act, _, _) in ANSWERS.items()}) as peer:
        pid = lone_system.pids("worker")
        ids = await asyncio.gather(*(lone_system.send(user=name, category=category) for name in ANSWERS))
        bystanders = await asyncio.gather(*(lone_system.send() for _ in range(5)))
        for id_ in bystanders:
            await lone_system.becomes(id_, "sent", timeout_s=10)
        for id_, (_, outcome, code) in zip(ids, ANSWERS.values(), strict=True):
            end = {"unsure": "unknown", "refused": "failed", "sent": "sent"}[outcome]
            story = await lone_system.becomes(id_, end)
            said = story["deliveries"][0]["attempts"][0]
            assert (said["code"] == code) or outcome == "unsure", story
            assert len(attempts(story)) == 1
        assert all(peer.heard.count(name) == 1 for name in ANSWERS)
        broken = sum(code in ("timeout", "too_large", "truncated", "garbled") for *_, code in ANSWERS.values())
        answered = len(ANSWERS) - broken + len(bystanders)
        await until(lambda: connections(pid, peer.peer.port) <= answered, 20, "connections to close")
    assert lone_system.pids("worker") == pid
    assert len(lone_system.events("work", "AdapterFault")) == faults_before
    await lone_system.check(elsewhere=peer.taken)


def connections(pids: Sequence[int], port: int) -> int:
    found = [one for pid in pids for one in psutil.Process(pid).net_connections()]
    return sum(1 for one in found if one.raddr and one.raddr.port == port and one.status == psutil.CONN_ESTABLISHED)


async def test_a_redirect_is_not_followed_and_credentials_go_nowhere_else(lone_system: System):
    async def listening(talk: Talk) -> None:
        await talk.request()

    async with playing(listening) as stranger:

        async def redirect(talk: Talk, one: Provider, _reference: str) -> None:
            status = (301, 302, 307, 308)[one.heard.count("led-astray") - 1]
            await talk.say(answer(status, headers=f"Location: {stranger.origin}/v3/mail/send\r\n"))
            if status == 307:
                one.acts["led-astray"] = take

        async with provider(lone_system, {"led-astray": redirect}) as peer:
            id_ = await lone_system.send(user="led-astray")
            story = await lone_system.becomes(id_, "sent")
            said = [("try_next", f"http_{status}") for status in (301, 302, 307)]
            assert attempts(story) == [*said, ("sent", "accepted")]
            assert not story["deliveries"][0]["duplicate_possible"]
        assert all(f"Bearer {API_KEY}".encode() in head for head in peer.heads)
    assert (stranger.seen, stranger.most_open) == ([], 0)
    await lone_system.check(elsewhere=peer.taken)


@pytest.mark.parametrize(
    "settings",
    [
        {"timeout_s": "soon"},
        {"timeout_s": "nan"},
        {"pause_s": "-1"},
        {"connections": "many"},
        {"connections": "0"},
        {"url": "ftp://127.0.0.1"},
        {"url": "http://127.0.0.1/a b"},
        {"api_key": "SG.secret\r\nX: y"},
        {"webhook_public_key": "AAAA"},
    ],
    ids=str,
)
async def test_settings_that_cannot_be_used_are_refused(system: System, settings: dict[str, str]):
    body = {"kind": "sendgrid", "settings": {"api_key": "SG.secret", **settings}}
    status, said, _ = await system.ask("PUT", "/providers/broken", body)
    assert (status, [one["pointer"] for one in said["errors"]]) == (422, ["/settings"]), said
    assert "SG.secret" not in str(said)
    assert (await system.ask("GET", "/providers/broken"))[0] == 404

"""The ledger and the control API, the lean mode, the page."""

import re
from datetime import UTC, datetime
from typing import Any

import pytest
from sandbox_rig import LETTER, sandbox

from tidings.sandbox.app import SandboxConfig
from tidings.sandbox.ledger import Ledger, Wanted
from tidings.sandbox.standin import Message

ITEM = {"provider", "to", "reference", "content", "accepted_at", "answered"}


def letter(ref: str, email: str = "ada@example.com", **more: Any) -> dict[str, Any]:
    return LETTER | {"personalizations": [{"to": [{"email": email}], "custom_args": {"ref": ref}}]} | more


def message(ref: str | None, size: int = 100) -> Message:
    return Message(("a@x.org",), ref, {}, "id", {}, None, size)


async def test_the_ledger_shows_what_was_taken_and_what_was_told() -> None:
    async with sandbox() as rig:
        before = datetime.now(UTC)
        html = {"type": "text/html", "value": "<p>Hi"}
        await rig.send(letter("r-1", content=[*LETTER["content"], html], headers={"List-Unsubscribe": "<x>"}))
        (item,) = await rig.messages()
    assert set(item) == ITEM
    assert (item["provider"], item["to"], item["reference"]) == ("sendgrid", "ada@example.com", "r-1")
    assert item["answered"] == "202"
    content = item["content"]
    assert (content["subject"], content["text"], content["html"]) == ("Hello", "Hello Ada", "<p>Hi")
    assert (content["from"]["email"], content["headers"]) == ("shop@example.org", {"List-Unsubscribe": "<x>"})
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", item["accepted_at"])
    assert abs((datetime.fromisoformat(item["accepted_at"]) - before).total_seconds()) < 5


async def test_the_ledger_can_be_searched_and_paged() -> None:
    async with sandbox() as rig:
        for n in range(5):
            await rig.send(letter(f"r-{n}", f"u{n % 2}@x.org"))
        assert [m["reference"] for m in await rig.messages("?to=u1@x.org")] == ["r-1", "r-3"]
        assert [m["reference"] for m in await rig.messages("?reference=r-4")] == ["r-4"]
        assert await rig.messages("?provider=twilio") == []
        seen, after = [], 0
        while after is not None:
            _, page = await rig.call("GET", f"/_sandbox/messages?limit=2&after={after}")
            seen += [m["reference"] for m in page["items"]]
            after = page["next"]
    assert seen == [f"r-{n}" for n in range(5)]


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "after=x"])
async def test_a_page_that_makes_no_sense_is_refused(query: str) -> None:
    async with sandbox() as rig:
        assert (await rig.call("GET", f"/_sandbox/messages?{query}"))[0] == 422


async def test_stats_count_requests_references_and_what_came_twice() -> None:
    async with sandbox() as rig:
        for ref in ("a", "b", "a", "a"):
            await rig.send(letter(ref))
        await rig.send({})
        stats = await rig.stats()
    counts = {name: stats[name] for name in ("requests", "accepted", "refused", "references", "repeated")}
    assert counts == {"requests": 5, "accepted": 4, "refused": 1, "references": 2, "repeated": 1}


async def test_forgetting_empties_the_ledger_and_the_counts() -> None:
    async with sandbox() as rig:
        await rig.send(letter("a"))
        assert (await rig.call("DELETE", "/_sandbox/messages"))[0] == 204
        assert await rig.messages() == []
        stats = await rig.stats()
        assert (stats["requests"], stats["accepted"], stats["references"]) == (0, 0, 0)
        await rig.send(letter("a"))
        assert (await rig.stats())["repeated"] == 0
        assert len(await rig.messages()) == 1


async def test_a_lean_sandbox_keeps_counts_and_references_alone() -> None:
    async with sandbox(lean=True) as rig:
        for ref in ("a", "b", "c", "a"):
            await rig.send(letter(ref))
        assert await rig.messages() == []
        stats = await rig.stats()
        assert (stats["accepted"], stats["references"], stats["repeated"]) == (4, 3, 1)
        assert await rig.call("GET", "/_sandbox/references?limit=2") == (200, {"items": ["a", "b"], "next": 2})
        assert await rig.call("GET", "/_sandbox/references?limit=2&after=2") == (200, {"items": ["c"], "next": None})


def test_the_ledger_forgets_the_oldest_but_counts_all() -> None:
    ledger = Ledger(["sendgrid"], keep=3)
    for n in range(5):
        ledger.take("sendgrid", [message(str(n))], "202")
    found, next_ = ledger.find(Wanted(), 0, 10)
    assert ([entry.message.reference for entry in found], next_) == (["2", "3", "4"], None)
    ledger.take("sendgrid", [message("0")], "202")
    stats = ledger.books["sendgrid"].stats()
    assert (stats.accepted, stats.references, stats.repeated) == (6, 5, 1)


def test_the_ledger_is_bounded_in_bytes_too_and_keeps_the_newest_whatever_its_size() -> None:
    ledger = Ledger(["sendgrid"], keep_bytes=250)
    for n in range(4):
        ledger.take("sendgrid", [message(str(n))], "202")
    assert [entry.message.reference for entry in ledger.find(Wanted(), 0, 10)[0]] == ["2", "3"]
    ledger.take("sendgrid", [message("large", 10_000)], "202")
    assert [entry.message.reference for entry in ledger.find(Wanted(), 0, 10)[0]] == ["large"]


def test_ids_go_on_after_forgetting_so_that_a_cursor_stays_true() -> None:
    ledger = Ledger(["sendgrid"])
    ledger.take("sendgrid", [message("a")], "202")
    ledger.forget()
    ledger.take("sendgrid", [message("b")], "202")
    assert [entry.id for entry in ledger.find(Wanted(), 1, 10)[0]] == [2]


def test_a_provider_that_nobody_knows_stops_the_start() -> None:
    with pytest.raises(ValueError, match="no stand-in for pigeon"):
        SandboxConfig(provider_ports={"pigeon": 0})


async def test_an_address_in_use_stops_the_start() -> None:
    async with sandbox() as rig:
        with pytest.raises(OSError, match="in use"):
            async with sandbox(provider_ports={"sendgrid": rig.port}):
                pytest.fail("two at one address")


async def test_the_page_and_its_files_come_with_a_strict_policy() -> None:
    async with sandbox() as rig:
        for path, type_ in (("/", "text/html"), ("/_page/page.css", "text/css"), ("/_page/page.js", "text/javascript")):
            async with rig.http.get(rig.url + path) as answer:
                assert (answer.status, answer.content_type) == (200, type_)
                policy = answer.headers["Content-Security-Policy"]
                assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
                assert "unsafe" not in policy
                text = await answer.text()
            assert "https://" not in text
            assert not re.search(r"innerHTML|<script>|<style| on\w+=", text)


async def test_an_email_is_shown_without_scripts_requests_or_an_origin() -> None:
    html = "<p>Hi</p><script>alert(1)</script>"
    async with sandbox() as rig:
        await rig.send(letter("r", content=[{"type": "text/html", "value": html}]))
        async with rig.http.get(rig.url + "/_page/messages/1/html") as answer:
            policy = answer.headers["Content-Security-Policy"]
            assert await answer.text() == html
        assert policy.startswith("sandbox; default-src 'none'; ")
        assert "script-src" not in policy and "http" not in policy


async def test_the_feed_tells_what_is_new_and_how_the_provider_does() -> None:
    async with sandbox() as rig:
        await rig.send(letter("r-1"))
        await rig.fault("slow", delay_ms=0)
        _, feed = await rig.call("GET", "/_page/feed")
        assert [(item["id"], item["title"], item["snippet"]) for item in feed["items"]] == [(1, "Hello", "Hello Ada")]
        assert feed["providers"][0]["fault"]["fault"] == "slow"
        await rig.send(letter("r-2"))
        _, feed = await rig.call("GET", f"/_page/feed?after={feed['last']}")
        assert [item["id"] for item in feed["items"]] == [2]
        assert (await rig.call("GET", "/_page/messages/2"))[1]["reference"] == "r-2"
        assert (await rig.call("GET", "/_page/messages/3"))[0] == 404

"""What Mailgun's stand-in takes and refuses, what it remembers, and that our adapter and it understand each other."""

import base64
import json
import time
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
import pytest_asyncio
from sandbox_rig import Rig, receiver, sandbox, until

from tidings.domain.catalog import Account
from tidings.domain.ids import TenantId
from tidings.domain.lanes import Channel
from tidings.domain.notification import Content
from tidings.domain.outcome import Engagement, Gone, Outcome, Refused, Sent, TryLater, TryNext, Unsure
from tidings.ports import Message, WebhookCall
from tidings.providers.mailgun import Mailgun
from tidings.sandbox.mailgun import Mailgun as StandIn
from tidings.sandbox.signing import SigningKey

PATH = "/v3/mg.example.com/messages"
EVENTS = "/v3/mg.example.com/events"
LETTER = {"from": "Shop <shop@example.org>", "to": "ada@example.com", "subject": "Hello", "text": "Hello Ada"}


@pytest_asyncio.fixture(scope="module")
async def rig() -> AsyncIterator[Rig]:
    async with sandbox("mailgun", api_keys={"mailgun": "key-1"}) as rig:
        yield rig


def basic(credential: str = "api:key-1") -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(credential.encode()).decode()}"}


Fields = dict[str, Any] | list[tuple[str, str]]


async def post(rig: Rig, fields: Fields, path: str = PATH, headers: dict[str, str] | None = None) -> tuple[int, str]:
    """Status, and what the message of the answer is, or all of it when it is no JSON."""
    async with rig.http.post(rig.host + path, data=fields, headers=headers or basic()) as answer:
        body = await answer.text()
        return answer.status, json.loads(body)["message"] if answer.content_type == "application/json" else body


async def events(rig: Rig, headers: dict[str, str] | None = None, **query: str) -> tuple[int, Any]:
    query = {"ascending": "yes"} | {name.replace("_", "-"): value for name, value in query.items()}
    async with rig.http.get(rig.host + EVENTS, params=query, headers=headers or basic()) as answer:
        body = await answer.text()
        return answer.status, json.loads(body) if answer.content_type == "application/json" else body


def letter(**changes: Any) -> dict[str, Any]:
    """The smallest letter with these changes; None takes a field out."""
    return {name: value for name, value in (LETTER | changes).items() if value is not None}


BAD = "parameter is not a valid address. please check documentation"
REFUSED: dict[str, tuple[Fields, str]] = {
    "no from": (letter(**{"from": None}), "from parameter is missing"),
    "no to": (letter(to=None), "to parameter is missing"),
    "no subject": (letter(subject=None), "subject parameter is missing"),
    "bad from": (letter(**{"from": "Shop"}), f"from {BAD}"),
    "two from": (letter(**{"from": "a@x.org, b@x.org"}), f"from {BAD}"),
    "bad to": (letter(to="ada@"), f"to {BAD}"),
    "bad second to": (letter(to="ada@example.com, bob"), f"to {BAD}"),
    "bad cc": (letter(cc="bob"), f"cc {BAD}"),
    "bad bcc": (letter(bcc="bob"), f"bcc {BAD}"),
    "no body": (letter(text=None), "Need at least one of 'text', 'html', 'amp-html' or 'template'"),
    "two bodies": (letter(html="x", template="y"), "Only one parameters 'html' or 'template' is allowed."),
    "options too large": (letter(**{"v:a": "x" * 9000, "h:X-B": "x" * 9000}), "are limited to 16KB total"),
    "1,001 recipients": (letter(to=", ".join(f"u{n}@x.org" for n in range(1001))), "limited to 1000 recipients"),
    "bad recipient variables": (letter(**{"recipient-variables": "{"}), "recipient-variables parameter is not a valid"),
    "no date": (letter(**{"o:deliverytime": "soon"}), "o:deliverytime parameter is not a valid date"),
    "far ahead": (
        letter(**{"o:deliverytime": format_datetime(datetime.now(UTC) + timedelta(days=8))}),
        "o:deliverytime is too far in the future",
    ),
    "long tag": (letter(**{"o:tag": "t" * 129}), "o:tag parameter is limited to 128 characters"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_what_is_wrong_is_refused(rig: Rig, name: str) -> None:
    fields, words = REFUSED[name]
    before = await rig.stats()
    status, message = await post(rig, fields)
    assert status == 400
    assert words in message
    assert (await rig.stats())["accepted"] == before["accepted"]


TAKEN: dict[str, Fields] = {
    "the smallest": letter(),
    "html alone": letter(text=None, html="<p>x</p>"),
    "two in to": [*letter(to=None).items(), ("to", "ada@example.com"), ("to", "Bob <bob@example.com>")],
    "options below the limit": letter(**{"v:a": "x" * 8000, "h:X-B": "x" * 8000}),
    "soon": letter(**{"o:deliverytime": format_datetime(datetime.now(UTC) + timedelta(days=3))}),
    "variables": letter(**{"recipient-variables": '{"ada@example.com": {"name": "Ada"}}'}),
}


@pytest.mark.parametrize("name", TAKEN)
async def test_what_is_right_is_taken(rig: Rig, name: str) -> None:
    assert await post(rig, TAKEN[name]) == (200, "Queued. Thank you.")


@pytest.mark.parametrize("credential", ["api:key-2", "user:key-1", "api:", "api", "", "é"])
async def test_a_wrong_credential_gets_one_word(rig: Rig, credential: str) -> None:
    assert await post(rig, LETTER, headers=basic(credential)) == (401, "Forbidden")
    assert await events(rig, headers=basic(credential)) == (401, "Forbidden")


async def test_no_credential_and_no_domain_are_refused(rig: Rig) -> None:
    assert await post(rig, LETTER, headers={"X-No": "credential"}) == (401, "Forbidden")
    assert await post(rig, LETTER, "/v3/nowhere/messages") == (404, "Domain not found: nowhere")


async def test_a_mail_in_test_mode_is_answered_and_not_taken(rig: Rig) -> None:
    before = await rig.stats()
    assert (await post(rig, letter(**{"o:testmode": "yes"})))[0] == 200
    assert (await rig.stats())["accepted"] == before["accepted"]


async def test_a_message_id_of_the_right_form_is_kept_and_another_replaced(rig: Rig) -> None:
    for asked, kept in (("<mine-1@mg.example.com>", True), ("mine-2@mg.example.com", True), ("mine", False)):
        async with rig.http.post(rig.host + PATH, data=letter(**{"h:Message-Id": asked}), headers=basic()) as answer:
            id_ = (await answer.json())["id"]
        assert (id_.strip("<>") == asked.strip("<>")) == kept
        assert id_.startswith("<") and id_.endswith("@mg.example.com>")


async def found(rig: Rig, **query: str) -> list[str]:
    status, body = await events(rig, **query)
    assert status == 200, body
    return [one["recipient"] for one in body["items"]]


async def test_events_are_filtered(rig: Rig) -> None:
    for n in range(2):
        await post(rig, letter(to=f"find{n}@example.com", subject="Find me", **{"h:Message-Id": f"<find{n}@x.org>"}))
    both, begin = ["find0@example.com", "find1@example.com"], str(time.time() - 60)
    assert await found(rig, subject="Find me") == both
    assert await found(rig, subject="Find me", ascending="no") == both[::-1]
    assert await found(rig, message_id="find0@x.org") == both[:1]
    assert await found(rig, recipient="find1@example.com") == both[1:]
    assert await found(rig, recipient="find0@example.com OR find1@example.com") == both
    assert await found(rig, subject="Find me", event="delivered") == []
    assert await found(rig, subject="Find me", begin=begin) == both
    assert await found(rig, subject="Find me", begin=begin, end=str(time.time() + 60)) == both
    assert await found(rig, subject="Find me", begin=str(time.time() + 60), end=begin) == both[::-1]
    assert await found(rig, subject="Find me", end=begin) == []
    assert await found(rig, subject="Find me", limit="1") == both[:1]
    async with rig.http.get(rig.host + "/v3/other.org/events?ascending=yes", headers=basic()) as answer:
        assert (await answer.json())["items"] == []


@pytest.mark.parametrize(
    "query", [{"ascending": ""}, {"begin": "soon"}, {"limit": "301"}, {"limit": "0"}, {"limit": "x"}]
)
async def test_a_query_that_cannot_be_answered_is_refused(rig: Rig, query: dict[str, str]) -> None:
    status, _ = await events(rig, **query)
    assert status == 400


def account(url: str, key: SigningKey | None = None, **settings: str) -> Account:
    """A customer as the sandbox makes it."""
    customer = StandIn.customer(url, key or SigningKey.fresh(), "live")
    return Account(1, TenantId(1), "main", "mailgun", Channel.email, {**customer, **settings}, "token")


def message(reference: str, to: str = "ada@example.com") -> Message:
    content = Content(subject="Hello", text="Grüße,\nAda\n", html="<p>Hello")
    return Message(reference, to, content, {"email": "shop@example.com", "name": "Shop"}, {"X-Campaign": "1"})


async def said(rig: Rig, reference: str, **settings: str) -> Outcome:
    provider = Mailgun(account(rig.host, **settings))
    try:
        return await provider.send(message(reference), lambda: True)
    finally:
        await provider.close()


@pytest_asyncio.fixture(scope="module")
async def open_rig() -> AsyncIterator[Rig]:
    async with sandbox("mailgun") as rig:
        yield rig


async def test_what_our_adapter_sends_is_taken_as_it_was_meant(open_rig: Rig) -> None:
    assert await said(open_rig, "ref-1") == Sent("ref-1@mg.example.com")
    (item,) = await open_rig.messages("?reference=ref-1")
    content = item["content"]
    assert (item["to"], content["subject"], content["text"]) == ("ada@example.com", "Hello", "Grüße,\nAda\n")
    assert content["from"] == {"email": "shop@example.com", "name": "Shop"}
    assert content["headers"] == {"Message-Id": "<ref-1@mg.example.com>", "X-Campaign": "1"}
    assert content["variables"] == {"ref": "ref-1"}


FAULTS: dict[str, Outcome] = {
    "refuse": Refused("http_400", "Bad request"),
    "bad_address": Refused("http_400", f"to {BAD}"),
    "unauthorized": TryLater("http_401", "", 60.0, account=True),
    "error": TryNext("http_503", "Service Unavailable"),
    "accept_then_error": Unsure("http_500", "Internal Server Error"),
    "garbage": Unsure("no_message_id", "accepted, but without an id that events could name"),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_is_what_our_adapter_takes_it_for(open_rig: Rig, fault: str) -> None:
    await open_rig.fault(fault)
    assert await said(open_rig, "ref-2") == FAULTS[fault]
    await open_rig.call("DELETE", "/_sandbox/faults/mailgun")


async def test_a_limit_says_for_how_long(open_rig: Rig) -> None:
    await open_rig.fault("rate_limit", retry_after_s=7)
    outcome = await said(open_rig, "ref-3")
    await open_rig.call("DELETE", "/_sandbox/faults/mailgun")
    assert isinstance(outcome, TryLater)
    assert (outcome.after_s, outcome.account) == (7.0, True)


@pytest.mark.parametrize("fault", ["accept_then_hang", "accept_then_reset", "accept_then_error"])
async def test_a_doubt_is_ended_by_looking_it_up(open_rig: Rig, fault: str) -> None:
    reference = f"doubt-{fault}"
    await open_rig.fault(fault)
    assert isinstance(await said(open_rig, reference, timeout_s="1"), Unsure)
    await open_rig.call("DELETE", "/_sandbox/faults/mailgun")
    provider, before = Mailgun(account(open_rig.host)), datetime.now(UTC) - timedelta(seconds=5)
    assert await provider.look_up(reference, "ada@example.com", before) == Sent(
        f"{reference}@mg.example.com", "look_up"
    )
    assert isinstance(await provider.look_up("never-sent", "ada@example.com", before), TryNext)
    await open_rig.fault("down")
    assert await provider.look_up(reference, "ada@example.com", before) is None
    await open_rig.call("DELETE", "/_sandbox/faults/mailgun")
    await provider.close()


def told(provider: Mailgun, calls: Iterable[tuple[dict[str, str], bytes]]) -> list[tuple[Any, ...]]:
    """What our adapter reads in these calls."""
    receipts = [provider.receipts(WebhookCall("https://example.com/hook", headers, body)) for headers, body in calls]
    assert None not in receipts, "a signature was not believed"
    return sorted(
        (one.kind, one.reference, one.status, one.gone, one.engagement) for few in receipts for one in few or ()
    )


FATES = {
    "share_delivered": [("accepted", "sent", None, None), ("delivered", "delivered", None, None)],
    "share_bounced": [("accepted", "sent", None, None), ("failed", "undelivered", Gone.hard_bounce, None)],
}


@pytest.mark.parametrize("share", FATES)
async def test_webhooks_say_what_became_of_a_message_and_our_adapter_believes_them(share: str, tmp_path: Any) -> None:
    key = SigningKey.kept_in(tmp_path / "key")
    async with (
        receiver() as hook,
        sandbox("mailgun", receipts_urls={"mailgun": hook.url}, signing_key_file=tmp_path / "key") as rig,
    ):
        await rig.receipts(**{"share_delivered": 0, share: 1, "delay_ms": 0, "repeat": 2, "shuffle": True})
        provider = Mailgun(account(rig.host, key))
        assert isinstance(await provider.send(message("ref-1"), lambda: True), Sent)
        await hook.heard(4)
        expected = [(kind, "ref-1", *rest) for kind, *rest in FATES[share] for _ in range(2)]
        assert told(provider, hook.calls) == sorted(expected)
        stranger = Mailgun(account(rig.host))
        assert stranger.receipts(WebhookCall("https://example.com/hook", {}, hook.calls[0][1])) is None
        keys = {json.loads(body)["event-data"]["id"] for _, body in hook.calls}
        assert len(keys) == 2, "an event that is repeated keeps its id"
        await provider.close()


async def test_what_people_do_is_told_as_engagement_or_as_the_end_of_an_address(tmp_path: Any) -> None:
    key = SigningKey.kept_in(tmp_path / "key")
    ends = {"opened": Engagement.opened, "clicked": Engagement.clicked}
    gone = {"complained": Gone.complaint, "unsubscribed": Gone.unsubscribe}
    async with (
        receiver() as hook,
        sandbox("mailgun", receipts_urls={"mailgun": hook.url}, signing_key_file=tmp_path / "key") as rig,
    ):
        await rig.receipts(delay_ms=0, **{f"share_{fate}": 1 for fate in (*ends, *gone)})
        provider = Mailgun(account(rig.host, key))
        await provider.send(message("ref-1"), lambda: True)
        await hook.heard(6)
        heard = {kind: (gone_, engagement) for kind, _, _, gone_, engagement in told(provider, hook.calls)}
        assert heard == {
            "accepted": (None, None),
            "delivered": (None, None),
            **{kind: (None, engagement) for kind, engagement in ends.items()},
            **{kind: (why, None) for kind, why in gone.items()},
        }
        await provider.close()


async def test_the_test_customer_has_webhooks_of_its_own() -> None:
    key = SigningKey.fresh()
    async with (
        receiver() as live,
        receiver() as test,
        sandbox("mailgun", receipts_urls={"mailgun": live.url, "mailgun.test": test.url}) as rig,
    ):
        await rig.receipts(delay_ms=0)
        for who in ("live", "test"):
            settings = StandIn.customer(rig.host, key, who)
            provider = Mailgun(Account(1, TenantId(1), "main", "mailgun", Channel.email, settings, "token"))
            await provider.send(message(f"ref-{who}"), lambda: True)
            await provider.close()
        for hook, who in ((live, "live"), (test, "test")):
            await hook.heard(2)
            references = {json.loads(body)["event-data"]["user-variables"]["ref"] for _, body in hook.calls}
            assert references == {f"ref-{who}"}


async def test_what_was_told_by_webhook_is_found_among_the_events() -> None:
    async with receiver() as hook, sandbox("mailgun", receipts_urls={"mailgun": hook.url}) as rig:
        await rig.receipts(delay_ms=0)
        await post(rig, letter(**{"h:Message-Id": "<told@x.org>"}), headers=basic("api:any"))
        await hook.heard(2)

        async def both() -> bool:
            _, body = await events(rig, message_id="told@x.org", headers=basic("api:any"))
            return [one["event"] for one in body["items"]] == ["accepted", "delivered"]

        await until(both)

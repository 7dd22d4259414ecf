"""What is Mailgun's alone: the form that is sent, the waits that are asked for, what a token may say, looking up."""

import hashlib
import hmac
import time
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire_peer import Talk, answer, playing

from tidings.domain.catalog import Account
from tidings.domain.ids import TenantId
from tidings.domain.lanes import Channel
from tidings.domain.notification import Content
from tidings.domain.outcome import Outcome, Refused, Sent, TryLater, TryNext
from tidings.ports import Message
from tidings.providers.mailgun import Mailgun, asked_wait_s
from tidings.providers.mailgun_events import Events
from tidings.providers.wire import Answer
from tidings.runtime.ports import free_port

REFERENCE = "0192f0c0000070008000000000000000-1"
MESSAGE = Message(
    reference=REFERENCE,
    to="ada@example.com",
    content=Content(subject="Bestellung für Ada", text="Thank you.\r\n--\r\n", html="<p>Grüße</p>"),
    sender={"email": "shop@example.com", "name": 'The "Shop"'},
    headers={"List-Unsubscribe": "<https://example.com/u/1>", 'X-"Odd"': "1"},
    reply_to="help@example.com",
)
TAKEN = answer(200, b'{"id": "<m1@mg.example.com>", "message": "Queued. Thank you."}')
SIGNING_KEY = "signing-key"


def account(**settings: str) -> Account:
    usual = {"api_key": "key-secret", "domain": "mg.example.com"}
    return Account(1, TenantId(1), "main", "mailgun", Channel.email, {**usual, **settings}, "token")


async def request(message: Message, path: str = "") -> tuple[bytes, list[tuple[str, str]]]:
    """The head, and the fields of the form that a message becomes."""
    requests = []

    async def script(talk: Talk) -> None:
        requests.append(await talk.request())
        await talk.say(TAKEN)

    async with playing(script) as peer:
        provider = Mailgun(account(url=peer.origin + path))
        assert await provider.send(message, lambda: True) == Sent("m1@mg.example.com")
        await provider.close()
    head, _, body = requests[0].partition(b"\r\n\r\n")
    kind = head.split(b"Content-Type: ")[1].split(b"\r\n")[0]
    parts = message_from_bytes(b"Content-Type: " + kind + b"\r\n\r\n" + body).get_payload()
    return head, [(part.get_param("name", header="content-disposition"), _text(part)) for part in parts]


def _text(part: Any) -> str:
    return part.get_payload(decode=True).decode()


async def test_a_message_becomes_a_form() -> None:
    head, fields = await request(MESSAGE)
    assert head.startswith(b"POST /v3/mg.example.com/messages HTTP/1.1\r\n")
    assert b"\r\nAuthorization: Basic YXBpOmtleS1zZWNyZXQ=\r\n" in head
    assert fields == [
        ("from", '"The \\"Shop\\"" <shop@example.com>'),
        ("to", "ada@example.com"),
        ("subject", "Bestellung für Ada"),
        ("text", "Thank you.\r\n--\r\n"),
        ("html", "<p>Grüße</p>"),
        ("v:ref", REFERENCE),
        ("o:suppress-headers", "X-Mailgun-Variables"),
        ("h:Message-Id", f"<{REFERENCE}@mg.example.com>"),
        ("h:Reply-To", "help@example.com"),
        ("h:List-Unsubscribe", "<https://example.com/u/1>"),
        ("h:X-%22Odd%22", "1"),
    ]


async def test_what_a_message_does_not_have_is_left_out() -> None:
    bare = Message("ref-1", "ada@example.com", Content(subject="s", html="<p>x</p>"), {"email": "a@example.com"}, {})
    _, fields = await request(bare)
    assert dict(fields).keys() == {"from", "to", "subject", "html", "v:ref", "o:suppress-headers", "h:Message-Id"}
    assert dict(fields)["from"] == "a@example.com"


async def test_the_url_may_have_a_path_of_its_own() -> None:
    head, _ = await request(MESSAGE, "/mailgun/")
    assert head.startswith(b"POST /mailgun/v3/mg.example.com/messages HTTP/1.1\r\n")


async def test_the_form_is_what_mailguns_own_description_asks_for(providers_data: Path) -> None:
    yaml = pytest.importorskip("yaml", reason="not tested: yaml is not installed")
    api = yaml.load((providers_data / "specs" / "mailgun" / "openapi.yaml").read_text(), Loader=yaml.CSafeLoader)
    wanted = api["paths"]["/v3/{domain_name}/messages"]["post"]["requestBody"]["content"]["multipart/form-data"]
    schema = api["components"]["schemas"][wanted["schema"]["$ref"].strip().rpartition("/")[2]]
    _, fields = await request(MESSAGE)
    names = [name for name, _ in fields]
    assert set(schema["required"]) <= set(names)
    assert {name for name in names if name[:2] not in ("h:", "v:")} <= schema["properties"].keys()


@given(st.text(max_size=60))
async def test_no_text_can_leave_its_part_of_the_form(text: str) -> None:
    provider = Mailgun(account())
    content = Content(subject="s", text=text + "x")
    body = provider._form.body(provider._fields(msgspec.structs.replace(MESSAGE, content=content)))
    assert body.count(b"Content-Disposition: form-data; name=") == 10


@pytest.mark.parametrize(
    ("words", "headers", "wait_s"),
    [
        ("", {}, None),
        ("limit exceeded, try again after 120 seconds", {}, 120.0),
        ("limit exceeded, try again in 7 seconds", {}, 7.0),
        ("try again after 0 seconds", {}, 1.0),
        ("try again after 999999999 seconds", {}, 300.0),
        ("try again after 9999999999999999999 seconds", {b"Retry-After": b"30"}, 30.0),
        ("try again after Sun, 22 Nov 2026 12:00:31 UTC", {b"Date": b"Sun, 22 Nov 2026 12:00:00 GMT"}, 31.0),
        ("try again after Sun, 22 Nov 2026 12:00:31", {b"Date": b"Sun, 22 Nov 2026 12:00:00 GMT"}, 31.0),
        ("try again after Sun, 22 Nov 2026 13:00:31 +0100", {b"Date": b"Sun, 22 Nov 2026 12:00:00 GMT"}, 31.0),
        ("try again after Sun, 22 Nov 1926 12:00:31 UTC", {b"Date": b"yesterday \xff"}, 1.0),
        ("try again after the holidays", {}, None),
        ("try again after the holidays", {b"Retry-After": b"30"}, 30.0),
        ("try again after Sun, 22 Nov 99999 12:00:31 UTC", {}, None),
        ("no", {b"Retry-After": b"30"}, 30.0),
    ],
)
def test_waits_are_read_from_the_words_by_the_providers_clock_and_bounded(
    words: str, headers: dict[bytes, bytes], wait_s: float | None
) -> None:
    assert asked_wait_s(Answer(429, headers, b""), words) == wait_s


async def _said(raw: bytes, **settings: str) -> Outcome:
    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.say(raw)

    async with playing(script) as peer:
        provider = Mailgun(account(url=peer.origin, **settings))
        outcome = await provider.send(MESSAGE, lambda: True)
        await provider.close()
        return outcome


async def test_the_detail_is_in_printable_words_without_keys_and_no_longer_than_needed() -> None:
    words = "too\x00 long\r\n for key-secret YXBpOmtleS1zZWNyZXQ= " + "x" * 999
    outcome = await _said(answer(400, msgspec.json.encode({"message": words})))
    assert isinstance(outcome, Refused)
    assert outcome.detail.startswith("too long for *** *** xxx")
    assert len(outcome.detail) == 300


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"message": 5}', b"\xff", b"[" * 100_000, b"Forbidden"])
async def test_an_error_that_is_no_error_object_is_still_classified(body: bytes) -> None:
    assert isinstance(await _said(answer(400, body)), Refused)


async def test_how_long_an_account_pauses_is_a_setting() -> None:
    said = [await _said(answer(status), pause_s="7", slow_down_s="8") for status in (401, 429)]
    assert [one.after_s for one in said if isinstance(one, TryLater)] == [7.0, 8.0]


@pytest.mark.parametrize("domain", ["", "example", "mg.example.com/../x", "a b.com", "mg.example.com?x", "é.com"])
def test_a_domain_is_a_domain(domain: str) -> None:
    with pytest.raises(ValueError):
        Mailgun(account(domain=domain))


def call(event: object, token: str = "t1", *, ago_s: float = 0.0, key: str = SIGNING_KEY) -> bytes:
    timestamp = str(int(time.time() - ago_s))
    signature = hmac.new(key.encode(), (timestamp + token).encode(), hashlib.sha256).hexdigest()
    return msgspec.json.encode(
        {"signature": {"timestamp": timestamp, "token": token, "signature": signature}, "event-data": event}
    )


def event(kind: str = "delivered", ref: str = REFERENCE) -> dict[str, object]:
    return {"event": kind, "id": "e1", "timestamp": 1529701969.5, "user-variables": {"ref": ref}}


def test_a_call_that_is_repeated_says_the_same_again() -> None:
    events = Events(SIGNING_KEY)
    first = events.receipts(call(event()))
    assert first
    reordered = dict(reversed(event().items()))
    again = events.receipts(call(reordered))
    assert again
    assert [msgspec.structs.replace(one, raw=b"") for one in again] == [
        msgspec.structs.replace(one, raw=b"") for one in first
    ]


def test_a_token_that_was_overheard_cannot_say_anything_else() -> None:
    events = Events(SIGNING_KEY)
    assert events.receipts(call(event()))
    assert events.receipts(call(event("complained"))) is None
    assert events.receipts(call(event(ref="0192f0c0000070008000000000000001-1"))) is None
    assert events.receipts(call({})) is None
    assert events.receipts(call(event("complained"), "t2"))


def test_tokens_are_remembered_in_bounded_memory() -> None:
    events = Events(SIGNING_KEY)
    for n in range(10_050):
        assert events.receipts(call(event(), f"t{n}"))
    assert len(events._said) <= 10_000
    assert events.receipts(call(event("complained"), "t10049")) is None


@pytest.mark.parametrize(("ago_s", "believed"), [(0, True), (8 * 3600, True), (10 * 3600, False), (-900, False)])
def test_a_signature_is_believed_for_as_long_as_mailgun_repeats_a_call(ago_s: float, believed: bool) -> None:
    assert (Events(SIGNING_KEY).receipts(call(event(), ago_s=ago_s)) is not None) == believed


def test_without_a_key_nobody_is_believed() -> None:
    assert Events(None).receipts(call(event(), key="")) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
NAMES = st.sampled_from(["event", "id", "timestamp", "reason", "severity", "delivery-status", "message", "reject"])


@given(st.dictionaries(NAMES, JSON | st.sampled_from(["failed", "permanent", "delivered"])))
def test_whatever_an_event_holds_never_raises(told: dict[str, object]) -> None:
    for receipt in Events(SIGNING_KEY).receipts(call(told)) or ():
        assert receipt.occurred_at.tzinfo is not None
        assert "\0" not in f"{receipt.reference}{receipt.event_key}{receipt.kind}{receipt.reason}{receipt.message_id}"


async def looked_up(raw: bytes, ago: timedelta, **settings: str) -> tuple[Outcome | None, bytes]:
    """The outcome, and the first line of the request."""
    requests = []

    async def script(talk: Talk) -> None:
        requests.append(await talk.request())
        await talk.say(raw)

    async with playing(script) as peer:
        provider = Mailgun(account(url=peer.origin, **settings))
        outcome = await provider.look_up(REFERENCE, "ada@example.com", datetime.now(UTC) - ago)
        await provider.close()
    return outcome, requests[0].split(b"\r\n")[0]


FOUND = answer(200, b'{"items": [{"event": "accepted"}], "paging": {"next": "https://x/next"}}')
NONE = answer(200, b'{"items": [], "paging": {"next": "https://x/next"}}')


async def test_an_event_proves_that_the_message_was_taken() -> None:
    outcome, line = await looked_up(FOUND, timedelta(seconds=1))
    assert outcome == Sent(f"{REFERENCE}@mg.example.com", "look_up")
    method, target, _ = line.decode().split(" ")
    query = parse_qs(urlsplit(target).query)
    assert (method, urlsplit(target).path) == ("GET", "/v3/mg.example.com/events")
    assert query["message-id"] == [f"{REFERENCE}@mg.example.com"]
    assert query["ascending"] == ["yes"]
    assert time.time() - 3700 < int(query["begin"][0]) < time.time() - 3500


@pytest.mark.parametrize(
    ("ago", "believed"),
    [
        (timedelta(minutes=1), False),
        (timedelta(minutes=29), False),
        (timedelta(minutes=31), True),
        (timedelta(hours=19), True),
        (timedelta(hours=21), False),
    ],
)
async def test_no_event_proves_something_only_when_events_are_complete_and_still_kept(
    ago: timedelta, believed: bool
) -> None:
    outcome, _ = await looked_up(NONE, ago)
    assert (isinstance(outcome, TryNext), outcome is None) == (believed, not believed)


async def test_when_absence_proves_something_is_a_setting() -> None:
    outcome, _ = await looked_up(NONE, timedelta(seconds=5), absence_s="2")
    assert isinstance(outcome, TryNext)


@pytest.mark.parametrize(
    "raw",
    [
        answer(500),
        answer(401, b"Forbidden"),
        answer(404, b'{"items": []}'),
        answer(429, b'{"items": []}'),
        answer(302, headers="Location: https://example.com/\r\n"),
        answer(200, b"<html>It works!</html>"),
        answer(200, b"{}"),
        answer(200, b'{"items": 5}'),
        answer(200, b"[" * 100_000),
        answer(200, b'{"items": []}')[:-3],
        b"garbage\r\n\r\n",
    ],
)
async def test_whatever_is_not_a_complete_answer_proves_nothing(raw: bytes) -> None:
    outcome, _ = await looked_up(raw, timedelta(hours=1), timeout_s="5")
    assert outcome is None


async def test_a_provider_that_is_away_proves_nothing() -> None:
    provider = Mailgun(account(url=f"http://127.0.0.1:{free_port()}"))
    assert await provider.look_up(REFERENCE, "ada@example.com", datetime.now(UTC) - timedelta(hours=1)) is None

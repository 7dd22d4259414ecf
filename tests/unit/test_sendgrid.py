"""What is SendGrid's alone: the letter that is sent, the waits that are asked for, the events that come back."""

import base64
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from wire_peer import Talk, answer, playing

from tidings.domain.catalog import Account
from tidings.domain.ids import TenantId
from tidings.domain.lanes import Channel
from tidings.domain.notification import Content
from tidings.domain.outcome import Refused, Sent, TryLater
from tidings.ports import Message
from tidings.providers.sendgrid import SendGrid, asked_wait_s
from tidings.providers.sendgrid_events import Events
from tidings.providers.wire import Answer

KEY = ec.generate_private_key(ec.SECP256R1())
PUBLIC = base64.b64encode(KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()
MESSAGE = Message(
    reference="0192f0c0000070008000000000000000-1",
    to="ada@example.com",
    content=Content(subject="Order", text="Thank you.", html="<p>Thank you.</p>"),
    sender={"email": "shop@example.com", "name": "The Shop"},
    headers={"List-Unsubscribe": "<https://example.com/u/1>"},
    reply_to="help@example.com",
)


def account(**settings: str) -> Account:
    return Account(1, TenantId(1), "main", "sendgrid", Channel.email, {"api_key": "SG.secret", **settings}, "token")


async def letter(message: Message, path: str = "") -> tuple[bytes, dict[str, Any]]:
    """The head and the JSON of the request that a message becomes."""
    requests = []

    async def script(talk: Talk) -> None:
        requests.append(await talk.request())
        await talk.say(answer(202, headers="X-Message-Id: m1\r\n"))

    async with playing(script) as peer:
        provider = SendGrid(account(url=peer.origin + path))
        assert await provider.send(message, lambda: True) == Sent("m1")
        await provider.close()
    head, _, body = requests[0].partition(b"\r\n\r\n")
    return head, msgspec.json.decode(body)


async def test_a_message_becomes_a_letter() -> None:
    head, body = await letter(MESSAGE)
    assert head.startswith(b"POST /v3/mail/send HTTP/1.1\r\n")
    assert b"\r\nAuthorization: Bearer SG.secret\r\n" in head and b"\r\nContent-Type: application/json\r\n" in head
    assert body == {
        "personalizations": [
            {
                "to": [{"email": "ada@example.com"}],
                "custom_args": {"ref": "0192f0c0000070008000000000000000-1"},
            }
        ],
        "from": {"email": "shop@example.com", "name": "The Shop"},
        "reply_to": {"email": "help@example.com"},
        "subject": "Order",
        "content": [
            {"type": "text/plain", "value": "Thank you."},
            {"type": "text/html", "value": "<p>Thank you.</p>"},
        ],
        "headers": {"List-Unsubscribe": "<https://example.com/u/1>"},
    }


async def test_what_a_message_does_not_have_is_left_out() -> None:
    bare = Message("ref-1", "ada@example.com", Content(subject="s", html="<p>x</p>"), {"email": "a@example.com"}, {})
    _, body = await letter(bare)
    assert set(body) == {"personalizations", "from", "subject", "content"}
    assert body["from"] == {"email": "a@example.com"}
    assert body["content"] == [{"type": "text/html", "value": "<p>x</p>"}]


async def test_the_url_may_have_a_path_of_its_own() -> None:
    head, _ = await letter(MESSAGE, "/sendgrid/")
    assert head.startswith(b"POST /sendgrid/v3/mail/send HTTP/1.1\r\n")


async def test_a_letter_is_what_sendgrids_own_description_asks_for(providers_data: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema_rs", reason="not tested: jsonschema_rs is not installed")
    api = msgspec.json.decode((providers_data / "specs" / "sendgrid" / "tsg_mail_v3.json").read_bytes())
    schema = api["components"]["requestBodies"]["PostMailSend"]["content"]["application/json"]["schema"]
    validator = jsonschema.validator_for({**schema, "components": api["components"]}, validate_formats=True)
    for message in (MESSAGE, msgspec.structs.replace(MESSAGE, reply_to=None, headers={})):
        _, body = await letter(message)
        validator.validate(body)
        del body["from"]
        assert not validator.is_valid(body), "a description that takes anything proves nothing"


async def _said(raw: bytes, **settings: str) -> object:
    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.say(raw)

    async with playing(script) as peer:
        provider = SendGrid(account(url=peer.origin, **settings))
        outcome = await provider.send(MESSAGE, lambda: True)
        await provider.close()
        return outcome


async def test_the_detail_is_the_first_error_in_printable_words_and_no_longer_than_needed() -> None:
    errors = [{"field": "subject", "message": "too\x00 long\r\n for SG.secret " + "x" * 999}, {"message": "second"}]
    outcome = await _said(answer(400, msgspec.json.encode({"errors": errors})))
    assert isinstance(outcome, Refused)
    assert outcome.detail.startswith("subject: too long for *** xxx")
    assert len(outcome.detail) == 300


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b'{"errors": 5}', b'{"errors": [5]}', b'{"errors": []}', b"\xff", b"[" * 100_000]
)
async def test_an_error_that_is_no_error_object_is_still_classified(body: bytes) -> None:
    assert isinstance(await _said(answer(400, body)), Refused)


async def test_how_long_an_account_pauses_is_a_setting() -> None:
    said = [await _said(answer(status), pause_s="7", slow_down_s="8") for status in (401, 429)]
    assert [one.after_s for one in said if isinstance(one, TryLater)] == [7.0, 8.0]


@pytest.mark.parametrize("name", ["pause_s", "slow_down_s", "timeout_s", "connect_timeout_s", "connections"])
@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "soon"])
def test_a_number_among_the_settings_is_above_0(name: str, value: str) -> None:
    SendGrid(account(**{name: "2"}))
    with pytest.raises(ValueError):
        SendGrid(account(**{name: value}))


async def test_a_reference_cannot_be_looked_up() -> None:
    assert await SendGrid(account()).look_up("ref", "ada@example.com", None) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({}, None),
        ({b"Retry-After": b"30"}, 30.0),
        ({b"Retry-After": b"Sun, 22 Nov 2026 12:00:00 GMT"}, None),
        ({b"Retry-After": b"-5"}, 1.0),
        ({b"Retry-After": b"9" * 5000}, None),
        ({b"Retry-After": b"9" * 30}, 300.0),
        ({b"X-RateLimit-Reset": b"1795348830", b"Date": b"Sun, 22 Nov 2026 12:00:00 GMT"}, 30.0),
        ({b"X-RateLimit-Reset": b"99999999999", b"Date": b"\xff\x00 yesterday"}, 300.0),
        ({b"X-RateLimit-Reset": b"soon"}, None),
        ({b"X-RateLimit-Reset": b"0", b"Retry-After": b"30"}, 1.0),
    ],
)
def test_waits_are_read_by_the_providers_clock_and_bounded(headers: dict[bytes, bytes], wait_s: float | None) -> None:
    assert asked_wait_s(Answer(429, headers, b"")) == wait_s


def signed(body: bytes) -> dict[str, str]:
    signature = base64.b64encode(KEY.sign(b"1600112502" + body, ec.ECDSA(SHA256()))).decode()
    names = ("Signature", "Timestamp")
    return {f"X-Twilio-Email-Event-Webhook-{n}": v for n, v in zip(names, (signature, "1600112502"), strict=True)}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
EVENT = st.fixed_dictionaries(
    {},
    optional={
        name: JSON | st.sampled_from(["delivered", "bounce", "blocked", "1600112492"])
        for name in ("event", "type", "timestamp", "reason", "ref", "sg_event_id", "sg_message_id")
    },
)


@given(st.lists(EVENT | JSON, max_size=4))
def test_no_signed_json_whatever_breaks_the_reading(events: list[Any]) -> None:
    try:
        body = msgspec.json.encode(events)
    except (OverflowError, ValueError):
        return
    found = Events(PUBLIC).receipts(signed(body), body)
    assert found is not None
    assert len(found) <= len(events)
    assert all(one.status in ("sent", "delivered", "undelivered", None) for one in found)


@given(st.binary(max_size=200))
def test_no_signed_bytes_whatever_break_the_reading(body: bytes) -> None:
    assert Events(PUBLIC).receipts(signed(body), body) is not None


@given(st.text(), st.text(), st.binary(max_size=50))
def test_nothing_unsigned_is_believed(signature: str, timestamp: str, body: bytes) -> None:
    headers = {
        "X-Twilio-Email-Event-Webhook-Signature": signature,
        "X-Twilio-Email-Event-Webhook-Timestamp": timestamp,
    }
    assert Events(PUBLIC).receipts(headers, body) is None
    assert Events(None).receipts(signed(body), body) is None


def test_an_event_without_an_id_has_the_same_key_whenever_it_comes() -> None:
    bodies = [b'[{"event":"open","timestamp":1},{"event":"open","timestamp":2}]', b'[{"event":"open","timestamp":1}]']
    first, again = (Events(PUBLIC).receipts(signed(body), body) or [] for body in bodies)
    assert first[0].event_key == again[0].event_key != first[1].event_key


def test_an_event_without_a_time_happened_when_the_call_was_signed() -> None:
    body = b'[{"event":"delivered"}]'
    (receipt,) = Events(PUBLIC).receipts(signed(body), body) or []
    assert receipt.occurred_at.timestamp() == 1600112502
    assert receipt.raw == b'{"event":"delivered"}'


@pytest.mark.parametrize(
    "key",
    [
        "not base64!",
        "AAAA",
        base64.b64encode(
            ec.generate_private_key(ec.SECP384R1())
            .public_key()
            .public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        ).decode(),
    ],
)
def test_only_a_p256_key_is_taken(key: str) -> None:
    with pytest.raises(ValueError):
        Events(key)
    with pytest.raises(ValueError, match="api_key"):
        SendGrid(account(api_key=""))

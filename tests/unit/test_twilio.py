"""What is Twilio's alone: the form that is sent, whose word is believed, what its list can tell."""

import base64
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any
from urllib.parse import parse_qsl, urlencode

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from twilio.request_validator import RequestValidator
from wire_peer import Talk, answer, playing

from tidings.domain.catalog import Account
from tidings.domain.ids import TenantId
from tidings.domain.lanes import Channel
from tidings.domain.notification import Content
from tidings.domain.outcome import Outcome, Sent, TryNext
from tidings.ports import Message, WebhookCall
from tidings.providers.twilio import CLOCKS_APART, Twilio
from tidings.providers.twilio_webhooks import Webhooks

SID = "AC" + "0" * 32
KEY = "SK" + "1" * 32
SERVICE = "MG" + "2" * 32
REPORTS = "https://tidings.example.com/api/v1/receipts/twilio/token"
REFERENCE = "0192f0c0000070008000000000000000-1"
ADA = "+12025550143"
MESSAGE = Message(REFERENCE, ADA, Content(text="Grüße & 100 %\n+1 🎉"), {"number": "+15005550006"}, {})


def account(**settings: str) -> Account:
    usual = {"account_sid": SID, "auth_token": "secret", "timeout_s": "5"}
    return Account(1, TenantId(1), "main", "twilio", Channel.sms, usual | settings, "token")


async def asked(
    raw: bytes, message: Message | None, path: str = "", **settings: str
) -> tuple[Outcome | None, str, dict[str, str]]:
    """What comes of sending a message, or of asking about one, that is answered with this; the head, and the form."""
    requests = list[bytes]()

    async def script(talk: Talk) -> None:
        requests.append(await talk.request())
        await talk.say(raw)

    async with playing(script) as peer:
        provider = Twilio(account(**settings, url=peer.origin + path))
        if message is not None:
            said = await provider.send(message, lambda: True)
        else:
            said = await provider.look_up(REFERENCE, ADA, STARTED)
        await provider.close()
    head, _, body = requests[0].decode().partition("\r\n\r\n")
    return said, head, dict(parse_qsl(body, strict_parsing=bool(body), keep_blank_values=True))


async def form(message: Message, **settings: str) -> tuple[str, dict[str, str]]:
    said, head, fields = await asked(answer(201, b'{"sid": "SM1"}'), message, **settings)
    assert said == Sent("SM1")
    return head, fields


async def test_a_message_becomes_a_form_and_its_reference_the_end_of_the_callback() -> None:
    head, fields = await form(MESSAGE, receipts_url=REPORTS)
    assert head.startswith(f"POST /2010-04-01/Accounts/{SID}/Messages.json HTTP/1.1\r\n")
    basic = base64.b64encode(f"{SID}:secret".encode()).decode()
    assert f"\r\nAuthorization: Basic {basic}\r\n" in head
    assert "\r\nContent-Type: application/x-www-form-urlencoded\r\n" in head
    assert fields == {
        "To": ADA,
        "From": "+15005550006",
        "Body": "Grüße & 100 %\n+1 🎉",
        "StatusCallback": f"{REPORTS}?ref={REFERENCE}",
    }


async def test_a_messaging_service_takes_the_sender_s_place() -> None:
    _, fields = await form(msgspec.structs.replace(MESSAGE, sender={"messaging_service": SERVICE}))
    assert fields["MessagingServiceSid"] == SERVICE
    assert "From" not in fields


@pytest.mark.parametrize(
    ("counted", "units"),
    [(b'"1"', 1), (b'"10"', 10), *[(other, None) for other in (
        b'"0"', b'"00"', b'"-1"', b'"1.5"', b'"1e3"', b'""',
        b'"\\u0663"', b'"' + b"9" * 9_000 + b'"',
        b"null", b"3", b"true", b'["1"]',
    )]],
)  # fmt: skip
async def test_what_twilio_counted_is_believed_where_it_is_a_count_and_never_makes_a_doubt(counted, units) -> None:
    said, _, _ = await asked(answer(201, b'{"sid": "SM1", "num_segments": ' + counted + b"}"), MESSAGE)
    assert said == Sent("SM1", units=units)


async def test_without_an_address_for_reports_none_are_asked_for() -> None:
    assert "StatusCallback" not in (await form(MESSAGE))[1]


async def test_an_api_key_takes_the_token_s_place() -> None:
    head, _ = await form(MESSAGE, api_key_sid=KEY, api_key_secret="of the key".replace(" ", "-"), auth_token="")
    assert f"Authorization: Basic {base64.b64encode(f'{KEY}:of-the-key'.encode()).decode()}\r\n" in head
    assert f"/Accounts/{SID}/" in head


async def test_the_api_may_begin_at_another_path() -> None:
    assert (await form(MESSAGE, path="/twilio/"))[0].startswith(f"POST /twilio/2010-04-01/Accounts/{SID}/")


BAD = [
    ({"account_sid": ""}, "account_sid"),
    ({"account_sid": "AC123"}, "account_sid"),
    ({"account_sid": KEY}, "account_sid"),
    ({"account_sid": SID + "\n"}, "account_sid"),
    ({"auth_token": ""}, "auth_token"),
    ({"auth_token": "two words"}, "auth_token"),
    ({"auth_token": "ü"}, "auth_token"),
    ({"webhook_key": "a\nb"}, "webhook_key"),
    ({"api_key_sid": KEY}, "api_key_secret"),
    ({"api_key_sid": KEY, "api_key_secret": "two words"}, "api_key_secret"),
    ({"api_key_sid": SID, "api_key_secret": "secret"}, "api_key_sid"),
    ({"receipts_url": "ftp://example.com"}, "receipts_url"),
    ({"receipts_url": "https://example.com/a b"}, "receipts_url"),
    ({"pause_s": "0"}, "pause_s"),
]


@pytest.mark.parametrize(("settings", "named"), BAD)
def test_a_setting_that_cannot_be_used_is_named(settings: Mapping[str, str], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        Twilio(account(**settings))


def callback(url: str, key: str, algorithm: str | None = None, signed: str | None = None) -> WebhookCall:
    """A status callback, signed by Twilio's own library."""
    fields = {"MessageSid": "SM1", "MessageStatus": "delivered", "To": ADA}
    headers = {"x-twilio-signature": RequestValidator(key).compute_signature(signed or url, fields, algorithm)}
    if algorithm is not None:
        headers["x-twilio-webhooks-signature-settings"] = f"key=webhooks_sharedkey_1,algorithm={algorithm}"
    return WebhookCall(url, headers, urlencode(fields).encode())


def test_who_has_no_key_believes_nobody() -> None:
    for key in ("", "secret"):
        assert Webhooks(None).receipts(callback(REPORTS, key)) is None
        assert Webhooks(None, None).receipts(callback(REPORTS, key, "HMAC_SHA256")) is None


def test_each_way_of_signing_has_a_key_of_its_own() -> None:
    both = Webhooks("token", "shared")
    assert both.receipts(callback(REPORTS, "token"))
    assert both.receipts(callback(REPORTS, "token", "HMAC_SHA1"))
    assert both.receipts(callback(REPORTS, "shared", "HMAC_SHA256"))
    for key, algorithm in (("shared", None), ("shared", "HMAC_SHA1"), ("token", "HMAC_SHA256")):
        assert both.receipts(callback(REPORTS, key, algorithm)) is None
    unknown = callback(REPORTS, "token")
    for settings in ("algorithm=NONE", "algorithm=", "algorithm=HMAC_MD5,key=1"):
        headers = {**unknown.headers, "x-twilio-webhooks-signature-settings": settings}
        assert both.receipts(msgspec.structs.replace(unknown, headers=headers)) is None


PORTS = [
    ("https://example.com/r?ref=1", "https://example.com:443/r?ref=1"),
    ("http://example.com/r?ref=1", "http://example.com:80/r?ref=1"),
    ("https://example.com:8443/r?ref=1", "https://example.com/r?ref=1"),
    ("http://h/", "http://h:80/"),
    ("https://example.com", "https://example.com:443"),
]


@pytest.mark.parametrize(("url", "other"), PORTS)
def test_an_address_may_be_signed_with_its_port_or_without(url: str, other: str) -> None:
    hooks = Webhooks("token")
    assert hooks.receipts(callback(url, "token"))
    assert hooks.receipts(callback(url, "token", signed=other))
    assert hooks.receipts(callback(url, "token", signed=url.replace("http", "ftp"))) is None


def test_a_body_that_is_covered_by_its_digest_cannot_be_another() -> None:
    """As Twilio signs what is no form: the address alone, with the digest of the body in it."""
    digest = "0a1ff7634d9ab3b95db5c9a2dfe9416e41502b283a80c7cf19632632f96e6620"
    url = f"{REPORTS}?bodySHA256={digest}"
    headers = {"x-twilio-signature": RequestValidator("token").compute_signature(url, {})}
    hooks = Webhooks("token")
    assert hooks.receipts(WebhookCall(url, headers, b'{"property": "value", "boolean": true}')) == []
    assert hooks.receipts(WebhookCall(url, headers, b"MessageSid=SM1&MessageStatus=delivered")) is None


class Fields(dict[str, list[str]]):
    """Fields that may come more than once, as Twilio's validator wants them."""

    def getlist(self, name: str) -> list[str]:
        return self[name]


WORDS = st.text(alphabet=st.characters(codec="utf-8"), max_size=20)


@given(st.lists(st.tuples(WORDS.filter(bool), WORDS), max_size=12))
def test_whatever_the_fields_are_both_sides_cover_the_same(pairs: list[tuple[str, str]]) -> None:
    fields = Fields()
    for name, value in pairs:
        fields.setdefault(name, []).append(value)
    signature = RequestValidator("token").compute_signature(REPORTS, fields)
    call = WebhookCall(REPORTS, {"x-twilio-signature": signature}, urlencode(pairs).encode())
    assert Webhooks("token").receipts(call) is not None
    assert Webhooks("tokem").receipts(call) is None


@given(st.binary(max_size=200), st.text(max_size=50), st.text(max_size=50))
def test_whatever_comes_is_refused_without_an_exception(body: bytes, signature: str, settings: str) -> None:
    headers = {"x-twilio-signature": signature.encode("utf-8", "replace").decode("latin-1")}
    headers["x-twilio-webhooks-signature-settings"] = settings.encode("utf-8", "replace").decode("latin-1")
    for url in (REPORTS, "", "https://[", "https://h:99999999/?ref=%ff&ref=", signature):
        assert Webhooks("token", "shared").receipts(WebhookCall(url, headers, body)) is None


STARTED = datetime(2026, 11, 22, 12, tzinfo=UTC)
LONG_BEFORE = STARTED - CLOCKS_APART - timedelta(seconds=1)


def listed(*created_at: Any, **more: Any) -> bytes:
    found = [{"sid": "SM1", "date_created": one, "to": ADA} for one in created_at]
    return msgspec.json.encode({"messages": found, "next_page_uri": None, **more})


NOT_LISTED = {
    "an empty list": listed(),
    "an old one": listed(format_datetime(LONG_BEFORE)),
    "two old ones, one in another zone": listed(
        format_datetime(LONG_BEFORE), format_datetime(LONG_BEFORE).replace("+0000", "-0000")
    ),
}
CANNOT_TELL = {
    "one that is as old as the call": listed(format_datetime(STARTED)),
    "one that may be, as clocks are": listed(format_datetime(STARTED - CLOCKS_APART + timedelta(seconds=1))),
    "a younger one among old ones": listed(
        format_datetime(STARTED + timedelta(seconds=9)), format_datetime(LONG_BEFORE)
    ),
    "one that does not say when": listed(None),
    "one that says nonsense": listed("yesterday"),
    "one with a number": listed(5),
    "a further page": listed(format_datetime(LONG_BEFORE), next_page_uri="/2010-04-01/next"),
    "no list": b"{}",
    "a list without an end": b'{"messages": []}',
    "another kind of list": b'{"messages": {}, "next_page_uri": null}',
    "a page": b"<html>",
    "nothing": b"",
    "nesting": b"[" * 100_000,
}


@pytest.mark.parametrize("name", NOT_LISTED)
async def test_what_twilio_does_not_list_was_surely_not_taken(name: str) -> None:
    said, head, fields = await asked(answer(200, NOT_LISTED[name]), None)
    assert isinstance(said, TryNext)
    assert said.code == "absent"
    assert head.startswith(f"GET /2010-04-01/Accounts/{SID}/Messages.json?To=%2B12025550143&PageSize=200 HTTP/1.1\r\n")
    assert "Authorization: Basic " in head
    assert fields == {}


@pytest.mark.parametrize("name", CANNOT_TELL)
async def test_whatever_else_it_lists_cannot_tell(name: str) -> None:
    assert (await asked(answer(200, CANNOT_TELL[name]), None))[0] is None


@pytest.mark.parametrize("status", [201, 204, 301, 400, 401, 404, 429, 500, 503])
async def test_an_error_is_no_empty_list(status: int) -> None:
    assert (await asked(answer(status, NOT_LISTED["an empty list"]), None))[0] is None


async def test_a_list_that_cannot_be_had_tells_nothing() -> None:
    provider = Twilio(account(url="http://127.0.0.1:1"))
    assert await provider.look_up(REFERENCE, ADA, STARTED) is None
    await provider.close()


@pytest.mark.parametrize("to", ["+5215512345678", "+5491123456789"])
async def test_a_number_that_twilio_may_list_under_another_form_is_not_looked_up(to: str) -> None:
    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.say(answer(200, listed()))

    async with playing(script) as peer:
        provider = Twilio(account(url=peer.origin))
        assert await provider.look_up(REFERENCE, to, STARTED) is None
        await provider.close()
    assert peer.seen == []

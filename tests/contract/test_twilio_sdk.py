"""The official SDK against the stand-in: what it sends is taken, what it lists and verifies holds."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
import pytest_asyncio
from sandbox_rig import Rig, receiver, sandbox
from twilio.base.exceptions import TwilioRestException
from twilio.http.http_client import TwilioHttpClient
from twilio.http.response import Response
from twilio.request_validator import RequestValidator, compare
from twilio.rest import Client
from twilio.rest.api.v2010.account.message import MessageInstance

from tidings.sandbox.signing import SigningKey
from tidings.sandbox.standin import LIVE
from tidings.sandbox.twilio import Twilio

ADA, SHOP = "+12025550143", "+15005550006"


class Elsewhere(TwilioHttpClient):
    """Sends the calls of the SDK to the stand-in."""

    def __init__(self, url: str) -> None:
        super().__init__(timeout=10)
        self._url = url

    def request(self, method: str, url: str, *rest: Any, **more: Any) -> Response:
        assert url.startswith("https://api.twilio.com/")
        return super().request(method, url.replace("https://api.twilio.com", self._url), *rest, **more)


def customer(key: SigningKey) -> Mapping[str, str]:
    return Twilio.customer("", key, LIVE)


def client(rig: Rig, token: str = "", key: SigningKey | None = None) -> Client:
    account = customer(key or SigningKey.fresh())
    return Client(account["account_sid"], token or account["auth_token"], http_client=Elsewhere(f"{rig.url}/twilio"))


async def send(to_whom: Client, **more: Any) -> MessageInstance:
    usual = {"to": ADA, "from_": SHOP, "body": "Hello Ada"}
    return await asyncio.to_thread(to_whom.messages.create, **(usual | more))


@pytest_asyncio.fixture(scope="module")
async def rig() -> AsyncIterator[Rig]:
    async with sandbox(api_keys={"twilio": "token"}) as rig:
        yield rig


async def test_a_message_of_the_sdk_is_taken(rig: Rig) -> None:
    made = await send(client(rig, "token"), status_callback="http://127.0.0.1:1/hook?ref=sdk-1", body="Grüße 🎉")
    assert made.sid.startswith("SM") and len(made.sid) == 34
    assert (made.status, made.num_segments, made.error_code, made.to, made.from_) == ("queued", "1", None, ADA, SHOP)
    (item,) = await rig.messages("?reference=sdk-1")
    assert (item["provider"], item["to"]) == ("twilio", ADA)
    assert item["content"] == {"from": SHOP, "text": "Grüße 🎉", "segments": 1, "encoding": "UCS-2"}


async def test_a_messaging_service_takes_the_place_of_a_number(rig: Rig) -> None:
    service = "MG" + "0" * 32
    made = await asyncio.to_thread(
        client(rig, "token").messages.create, to=ADA, messaging_service_sid=service, body="Hello"
    )
    assert (made.status, made.from_, made.messaging_service_sid, made.num_segments) == ("accepted", None, service, "0")


async def test_the_sdk_finds_its_messages_in_the_list_and_one_by_one(rig: Rig) -> None:
    mine = client(rig, "token")
    sids = [(await send(mine, to="+12025550199", body=f"number {n}")).sid for n in range(5)]
    assert await asyncio.to_thread(lambda: mine.messages(sids[2]).fetch().body) == "number 2"
    listed = await asyncio.to_thread(mine.messages.list, to="+12025550199", page_size=2)
    assert [one.sid for one in listed] == sids[::-1]
    assert await asyncio.to_thread(mine.messages.list, to="+12025550198") == []
    others = client(rig, "token")
    assert await asyncio.to_thread(others.messages.list, to="+12025550199") == []
    with pytest.raises(TwilioRestException) as caught:
        await asyncio.to_thread(others.messages(sids[2]).fetch)
    assert (caught.value.status, caught.value.code) == (404, 20404)


async def test_a_wrong_token_is_the_sdks_error(rig: Rig) -> None:
    with pytest.raises(TwilioRestException) as caught:
        await send(client(rig, "wrong"))
    assert (caught.value.status, caught.value.code) == (401, 20003)


async def test_the_sdk_is_told_how_the_account_is(rig: Rig) -> None:
    mine = client(rig, "token")
    own = await asyncio.to_thread(mine.api.v2010.accounts(mine.account_sid).fetch)
    assert (own.sid, own.status) == (mine.account_sid, "active")
    with pytest.raises(TwilioRestException) as caught:
        await asyncio.to_thread(client(rig, "wrong").api.v2010.accounts(mine.account_sid).fetch)
    assert (caught.value.status, caught.value.code) == (401, 20003)


async def test_a_key_may_list_messages_and_not_see_the_account(rig: Rig) -> None:
    sid = customer(SigningKey.fresh())["account_sid"]
    by_key = Client("SK" + "0" * 32, "token", account_sid=sid, http_client=Elsewhere(f"{rig.url}/twilio"))
    assert await asyncio.to_thread(by_key.messages.list, page_size=1) == []
    with pytest.raises(TwilioRestException) as caught:
        await asyncio.to_thread(by_key.api.v2010.accounts(sid).fetch)
    assert (caught.value.status, caught.value.code) == (401, 20003)


MAGIC = {
    21211: {"to": "+15005550001"},
    21612: {"to": "+15005550002"},
    21408: {"to": "+15005550003"},
    21610: {"to": "+15005550004"},
    21614: {"to": "+15005550009"},
    21212: {"from_": "+15005550001"},
    21606: {"from_": "+15005550007"},
    21611: {"from_": "+15005550008"},
}


@pytest.mark.parametrize("code", MAGIC)
async def test_the_test_numbers_of_twilio_meet_with_their_errors(rig: Rig, code: int) -> None:
    with pytest.raises(TwilioRestException) as caught:
        await send(client(rig, "token"), **MAGIC[code])
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ("rate_limit", 429, 20429),
        ("error", 503, 20503),
        ("unauthorized", 401, 20003),
        ("bad_address", 400, 21211),
        ("refuse", 400, 21612),
        ("accept_then_error", 500, 20500),
    ],
)
async def test_a_fault_is_the_error_that_the_sdk_has_for_it(rig: Rig, fault: str, status: int, code: int) -> None:
    await rig.call("PUT", "/_sandbox/faults/twilio", {"fault": fault})
    try:
        with pytest.raises(TwilioRestException) as caught:
            await send(client(rig, "token"))
    finally:
        await rig.call("DELETE", "/_sandbox/faults/twilio")
    assert (caught.value.status, caught.value.code) == (status, code)


async def test_the_sdk_verifies_the_callbacks_and_knows_what_became_of_the_message(tmp_path: Path) -> None:
    key = SigningKey.kept_in(tmp_path / "key.pem")
    async with receiver() as hook, sandbox(signing_key_file=tmp_path / "key.pem") as rig:
        await rig.call("PUT", "/_sandbox/receipts/twilio", {"delay_ms": 0, "share_delivered": 0, "share_bounced": 1})
        mine, url = client(rig, key=key), f"{hook.url}?ref=sdk-2"
        made = await send(mine, status_callback=url)
        await hook.heard(2)
        later = await asyncio.to_thread(mine.messages(made.sid).fetch)
    verifier = RequestValidator(customer(key)["auth_token"])
    told = []
    for headers, body in hook.calls:
        form = dict(parse_qsl(body.decode()))
        assert verifier.validate(url, form, headers["x-twilio-signature"])
        assert not verifier.validate(url + "0", form, headers["x-twilio-signature"])
        assert not verifier.validate(url, form | {"MessageStatus": "read"}, headers["x-twilio-signature"])
        assert (form["MessageSid"], form["To"], form["AccountSid"]) == (made.sid, ADA, customer(key)["account_sid"])
        told.append((form["MessageStatus"], form.get("ErrorCode")))
    assert sorted(told) == [("sent", None), ("undelivered", "30005")]
    assert (later.status, later.error_code) == ("undelivered", 30005)
    assert later.date_sent is not None


def test_the_validator_of_the_sdk_agrees_with_the_recorded_vectors(providers_data: Path) -> None:
    vectors = json.loads((providers_data / "vectors" / "twilio_request_validator.json").read_text())
    verifier = RequestValidator(vectors["auth_token"])
    for case in vectors["cases"]:
        if "body" in case:
            assert compare(verifier.compute_hash(case["body"]), case["body_sha256"])
            continue
        form = dict[str, Any](case["params"])
        many = {name: [value for other, value in case["params"] if other == name] for name in form}
        if all(len(values) == 1 for values in many.values()):
            assert verifier.validate(case["url"], form, case["signature"]) == case["valid"], case["name"]

"""What Twilio's stand-in takes and refuses beside what the SDK shows, what it tells, and what people reply to it."""

import base64
import hmac
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
import pytest_asyncio
from sandbox_rig import Receiver, Rig, receiver, sandbox

from tidings.sandbox.signing import SigningKey
from tidings.sandbox.standin import LIVE, TEST
from tidings.sandbox.twilio import Twilio

KEY = SigningKey.fresh()
SID = "AC" + "0" * 32
ADA, SHOP = "+12025550143", "+15005550006"
GOOD = {"To": ADA, "From": SHOP, "Body": "Hello Ada"}


@pytest_asyncio.fixture(scope="module")
async def rig():
    async with sandbox() as rig:
        yield rig


async def send(rig: Rig, form: Mapping[str, str], sid: str = SID, **headers: str) -> tuple[int, Any]:
    basic = base64.b64encode(f"{sid}:token".encode()).decode()
    url = f"{rig.url}/twilio/2010-04-01/Accounts/{sid}/Messages.json"
    async with rig.http.post(url, data=form, headers={"Authorization": f"Basic {basic}", **headers}) as answer:
        return answer.status, await answer.json()


async def reply(rig: Rig, body: str, **more: str) -> tuple[int, Any]:
    async with rig.http.post(f"{rig.url}/twilio/_replies", json={"from": ADA, "body": body, **more}) as answer:
        return answer.status, await answer.json(content_type=None) if answer.status == 200 else await answer.text()


REFUSED = {
    "no number": ({"To": ""}, 21604),
    "a number that is none": ({"To": "12025550143"}, 21211),
    "no sender": ({"From": ""}, 21603),
    "a sender that is none": ({"From": "Much too long a name"}, 21212),
    "a service that is none": ({"MessagingServiceSid": "MG1"}, 21705),
    "no text": ({"Body": ""}, 21602),
    "too much text": ({"Body": "a" * 1601}, 21617),
    "a callback without a host": ({"StatusCallback": "https:///hook"}, 21609),
    "a callback by another protocol": ({"StatusCallback": "ftp://example.com/hook"}, 21609),
    "a callback with an underscore": ({"StatusCallback": "https://a_b.example.com/hook"}, 21609),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_what_the_real_one_refuses_is_refused_in_its_words(rig: Rig, name: str) -> None:
    changes, code = REFUSED[name]
    before = (await rig.call("GET", "/_sandbox/stats"))[1]["twilio"]
    status, said = await send(rig, GOOD | changes)
    assert (status, said["status"], said["code"]) == (400, 400, code)
    assert said["more_info"].endswith(str(code)) and said["message"]
    after = (await rig.call("GET", "/_sandbox/stats"))[1]["twilio"]
    assert (after["accepted"], after["refused"]) == (before["accepted"], before["refused"] + 1)


@pytest.mark.parametrize("sender", [SHOP, "12345", "The Shop"])
async def test_a_sender_may_be_a_number_a_short_code_or_a_name(rig: Rig, sender: str) -> None:
    assert (await send(rig, GOOD | {"From": sender}))[0] == 201


async def test_the_longest_text_is_counted_in_segments(rig: Rig) -> None:
    for text, segments in (("a" * 1600, "11"), ("ж" * 70, "1"), ("ж" * 71, "2"), ("a" * 159 + "€", "2")):
        status, said = await send(rig, GOOD | {"Body": text})
        assert (status, said["num_segments"]) == (201, segments)


@pytest.mark.parametrize("authorization", ["", "Basic", "Basic !!!", "Basic QUM=", "Bearer token", "Basic /////w=="])
async def test_who_brings_no_credentials_is_turned_away(rig: Rig, authorization: str) -> None:
    status, said = await send(rig, GOOD, Authorization=authorization)
    assert (status, said["code"]) == (401, 20003)


async def test_an_account_that_does_not_exist_is_not_found(rig: Rig) -> None:
    status, said = await send(rig, GOOD, "AC123")
    assert (status, said["code"]) == (404, 20404)


async def test_the_list_is_filtered_by_number_and_by_day_of_sending() -> None:
    async with receiver() as hook, sandbox() as rig:
        await rig.call("PUT", "/_sandbox/receipts/twilio", {"delay_ms": 0})
        _, sent = await send(rig, GOOD | {"StatusCallback": f"{hook.url}?ref=1"})
        await hook.heard(2)
        _, waiting = await send(rig, GOOD)
        basic = {"Authorization": "Basic " + base64.b64encode(f"{SID}:token".encode()).decode()}
        url = f"{rig.url}/twilio/2010-04-01/Accounts/{SID}/Messages.json"

        async def listed(**query: str) -> list[str]:
            async with rig.http.get(url, params=query, headers=basic) as answer:
                return [one["sid"] for one in (await answer.json())["messages"]]

        assert await listed() == [waiting["sid"], sent["sid"]]
        assert await listed(To=ADA, From=SHOP) == [waiting["sid"], sent["sid"]]
        assert await listed(To=SHOP) == []
        assert await listed(From="12345") == []
        assert await listed(**{"DateSent>": "2000-01-01"}) == [sent["sid"]]
        assert await listed(**{"DateSent<": "2000-01-01"}) == []
        assert await listed(DateSent="2000-01-01") == []
        assert await listed(PageSize="1") == [waiting["sid"]]
        assert await listed(PageSize="1", Page="1") == [sent["sid"]]
        assert await listed(PageSize="many", Page="-1") == [waiting["sid"], sent["sid"]]
        async with rig.http.get(url) as answer:
            assert answer.status == 401


def told(hook: Receiver) -> list[dict[str, str]]:
    return [dict(parse_qsl(body.decode())) for _, body in hook.calls]


async def test_every_status_is_a_call_of_its_own_to_the_callback_of_the_message() -> None:
    async with receiver() as hook, sandbox() as rig:
        await rig.call("PUT", "/_sandbox/receipts/twilio", {"delay_ms": 0, "repeat": 3, "shuffle": True})
        _, made = await send(rig, GOOD | {"StatusCallback": f"{hook.url}?ref=r-1"})
        await send(rig, GOOD)
        await hook.heard(6)
        (item,) = await rig.messages("?reference=r-1")
    assert sorted(one["MessageStatus"] for one in told(hook)) == ["delivered"] * 3 + ["sent"] * 3
    assert {(one["MessageSid"], one["From"], one["To"]) for one in told(hook)} == {(made["sid"], SHOP, ADA)}
    assert item["to"] == ADA


async def test_who_replies_stop_is_heard_of_and_gets_nothing_until_a_start(tmp_path: Path) -> None:
    key = SigningKey.kept_in(tmp_path / "key.pem")
    account = Twilio.customer("", key, LIVE)
    async with receiver() as hook:
        urls = {"twilio": hook.url, "twilio.test": f"{hook.url}?test"}
        async with sandbox(receipts_urls=urls, signing_key_file=tmp_path / "key.pem") as rig:
            assert await reply(rig, "What is this?") == (200, {"answered": [200]})
            assert (await send(rig, GOOD, account["account_sid"]))[0] == 201
            assert await reply(rig, " stop ") == (200, {"answered": [200]})
            status, said = await send(rig, GOOD, account["account_sid"])
            assert (status, said["code"]) == (400, 21610)
            assert (await send(rig, GOOD | {"To": "+12025550144"}, account["account_sid"]))[0] == 201
            test = Twilio.customer("", key, TEST)["account_sid"]
            assert (await send(rig, GOOD, test))[0] == 201, "the two customers have lists of their own"
            assert await reply(rig, "START") == (200, {"answered": [200]})
            assert (await send(rig, GOOD, account["account_sid"]))[0] == 201
    assert [one["Body"] for one in told(hook)] == ["What is this?", " stop ", "START"]
    headers, _ = hook.calls[1]
    form = told(hook)[1]
    assert (form["From"], form["To"], form["SmsStatus"]) == (ADA, SHOP, "received")
    covered = hook.url + "".join(name + value for name, value in sorted(form.items()))
    mac = hmac.digest(account["auth_token"].encode(), covered.encode(), "sha1")
    assert headers["x-twilio-signature"] == base64.b64encode(mac).decode()


async def test_a_person_who_unsubscribes_does_so_by_a_reply() -> None:
    async with receiver() as hook, sandbox(receipts_urls={"twilio": hook.url}) as rig:
        await rig.call("PUT", "/_sandbox/receipts/twilio", {"delay_ms": 0, "share_unsubscribed": 1, "repeat": 2})
        await send(rig, GOOD | {"StatusCallback": f"{hook.url}?ref=r-2"})
        await hook.heard(6)
        assert (await send(rig, GOOD))[0] == 400
    replies = [one for one in told(hook) if "MessageStatus" not in one]
    assert [(one["From"], one["Body"]) for one in replies] == [(ADA, "STOP")] * 2
    assert replies[0]["MessageSid"] == replies[1]["MessageSid"]


async def test_a_reply_that_cannot_be_read_or_passed_on_is_told_apart(rig: Rig) -> None:
    assert (await reply(rig, "STOP", colour="red"))[0] == 422
    assert (await reply(rig, "STOP", customer="nobody"))[0] == 422
    assert await reply(rig, "hello") == (200, {"answered": []})
    async with sandbox(receipts_urls={"twilio": "http://127.0.0.1:1/hook"}) as lonely:
        assert (await reply(lonely, "STOP"))[0] == 502


async def test_it_says_how_long_to_wait_only_when_told_to(rig: Rig) -> None:
    for fault, wanted in (({"fault": "rate_limit"}, None), ({"fault": "rate_limit", "retry_after_s": 2.5}, "3")):
        await rig.call("PUT", "/_sandbox/faults/twilio", fault)
        basic = {"Authorization": "Basic " + base64.b64encode(f"{SID}:token".encode()).decode()}
        url = f"{rig.url}/twilio/2010-04-01/Accounts/{SID}/Messages.json"
        async with rig.http.post(url, data=GOOD, headers=basic) as answer:
            assert (answer.status, answer.headers.get("Retry-After")) == (429, wanted)
    await rig.call("DELETE", "/_sandbox/faults/twilio")

"""SMS by Twilio, from the API to the telephone and back."""

import asyncio
import sys
from asyncio.subprocess import PIPE

import aiohttp

from tests.acceptance.elsewhere import attempts
from tests.system import System, until

SHOP = "+15005550006"
LONG = "Your order has left our house. " * 8  # 248 characters, all of them in GSM-7


async def sms(system: System, to: object, text: str, **more: object) -> str:
    """Insists on one SMS, and gives its id."""
    key, body = system.wanted(**{"content": {"text": text}, "channels": ["sms"], **more})
    del body["template"], body["data"]
    body["to"] = {**body["to"], **to} if isinstance(to, dict) else {"user": to}
    return (await system.insist(key, body))[0]


async def in_the_ledger(system: System, id_: str) -> dict:
    """What Twilio took of it."""
    (delivery,) = (await system.get(id_))["deliveries"]
    reference = f"{delivery['id'].replace('-', '')}-{len(delivery['attempts'])}"
    (item,) = (await system.sandbox("GET", f"/messages?provider=twilio&reference={reference}"))["items"]
    return item


async def test_an_sms_to_a_number_in_the_call_is_delivered(system: System):
    id_ = await sms(system, {"phone": "+1 (202) 555-0143"}, "Your code is 12345")
    story = await system.becomes(id_, "delivered")
    (delivery,) = story["deliveries"]
    assert (delivery["channel"], delivery["address"]) == ("sms", "+12025550143")
    assert attempts(story) == [("sent", "accepted")]
    assert {one["kind"] for one in delivery["receipts"]} >= {"delivered"}
    item = await in_the_ledger(system, id_)
    assert item["to"] == "+12025550143"
    assert item["content"] == {"from": SHOP, "text": "Your code is 12345", "segments": 1, "encoding": "GSM-7"}
    await system.check()


async def test_an_sms_to_a_known_user_goes_to_the_first_of_their_numbers(system: System):
    numbers = ["+44 20 7946 0958", "+33 6 12 34 56 78"]
    status, said, _ = await system.ask("PUT", "/users/sms-ada", {"phones": numbers})
    assert (status, said["phones"]) == (200, ["+442079460958", "+33612345678"])
    ids = [await sms(system, "sms-ada", text) for text in (LONG, "Grüße 🎉" * 20)]
    shown = []
    for id_ in ids:
        await system.becomes(id_, "delivered")
        item = await in_the_ledger(system, id_)
        assert item["to"] == "+442079460958"
        shown.append((item["content"]["segments"], item["content"]["encoding"]))
    assert shown == [(2, "GSM-7"), (3, "UCS-2")]
    await system.check()


async def test_an_sms_in_doubt_is_settled_by_the_callback_that_names_it(system: System):
    await system.fault("accept_then_hang", "twilio")
    ids = await asyncio.gather(*(sms(system, {"phone": f"+1202555010{n}"}, "Hello") for n in range(5)))
    for id_ in ids:
        await system.becomes(id_, "delivered")
    await system.settled()
    for id_ in ids:
        (attempt,) = attempts(await system.get(id_))
        assert attempt in {("unsure", "timeout"), ("sent", "receipt")}
    assert (await system.stats("twilio"))["accepted"] == 5
    await system.check()


async def test_an_sms_that_twilio_did_not_take_is_found_missing_in_its_list_and_sent_again(system: System):
    await system.fault("error", "twilio", status=500)
    id_ = await sms(system, {"phone": "+12025550177"}, "Hello")
    await system.becomes(id_, "in_doubt")
    await system.heal("twilio")
    story = await system.becomes(id_, "delivered", timeout_s=60)
    assert attempts(story) == [("try_next", "absent"), ("sent", "accepted")]
    assert [one["duplicate_possible"] for one in story["deliveries"]] == [False]
    assert (await system.stats("twilio"))["accepted"] == 1
    await system.check()


async def test_who_is_refused_for_good_fails_and_says_why(system: System):
    id_ = await sms(system, {"phone": "+15005550009"}, "Hello")
    story = await system.becomes(id_, "failed")
    assert attempts(story) == [("refused", "21614")]
    await system.check()


async def test_text_that_is_too_long_is_refused_when_it_comes(system: System):
    body = {"to": {"phone": "+12025550143"}, "channels": ["sms"], "content": {"text": "a" * 1531}}
    status, said, _ = await system.ask("POST", "/notifications", body)
    assert (status, said["errors"][0]["pointer"]) == (422, "/content/text")
    assert "11 segments of GSM-7" in said["errors"][0]["detail"]


async def reply(system: System, number: str, body: str) -> None:
    """Returns once the reply was heard."""
    async with aiohttp.ClientSession() as session:
        url, said = f"{system.sandbox_url}/twilio/_replies", {"from": number, "body": body}
        async with session.post(url, json=said) as answer:
            assert (answer.status, await answer.json()) == (200, {"answered": [204]})


async def test_who_replies_stop_gets_no_more_and_is_back_with_a_start(system: System):
    number = "+12025550188"

    async def held() -> bool:
        return (await system.ask("GET", f"/suppressions/sms/{number}"))[0] == 200

    async def free() -> bool:
        return not await held()

    await system.becomes(await sms(system, {"phone": number}, "Hello"), "delivered")
    await reply(system, number, "stop")
    await until(held, 20, "the number to be suppressed")
    for _ in range(3):  # whoever is meant
        story = await system.becomes(await sms(system, {"phone": number}, "Hello again"), "suppressed")
        assert [one["reason"] for one in story["deliveries"]] == ["suppressed"]
    await reply(system, number, "START")
    await until(free, 20, "the number to be free again")
    await system.becomes(await sms(system, {"phone": number}, "Welcome back"), "delivered")
    await system.check()


async def test_a_number_that_does_not_exist_is_not_tried_again(system: System):
    number = "+12025550189"
    to = {"user": "moved-away", "phone": number}
    await system.receipts("twilio", share_delivered=0, share_bounced=1)
    story = await system.becomes(await sms(system, to, "Hello"), "undelivered")
    assert [one["reason"] for one in story["deliveries"]] == ["30005"]

    async def held() -> bool:
        return (await system.ask("GET", f"/suppressions/sms/{number}"))[0] == 200

    await until(held, 20, "the number to be suppressed")
    await system.becomes(await sms(system, to, "Hello again"), "suppressed")
    await system.check()


async def test_a_test_key_sends_to_the_sandbox_and_hears_of_it_by_callbacks_of_its_own(system: System):
    words = ("keys", "create", "sms-twin", "--test", "--data-dir", str(system.data_dir))
    command = await asyncio.create_subprocess_exec(sys.executable, "-m", "tidings", *words, stdout=PIPE)
    key = {"Authorization": f"Bearer {(await command.communicate())[0].decode().strip()}"}
    body = {"to": {"phone": "+12025550166"}, "channels": ["sms"], "content": {"text": "A try"}}

    async def accepted() -> str | None:
        status, said, _ = await system.ask("POST", "/notifications", body, **key)
        return said["id"] if status == 202 else None

    id_ = await until(accepted, 30, "the new key to work")

    async def delivered() -> bool:
        return (await system.ask("GET", f"/notifications/{id_}", **key))[1]["status"] == "delivered"

    await until(delivered, 30, "the SMS of the twin to be delivered")
    assert (await system.ask("GET", f"/notifications/{id_}"))[0] == 404

"""SMS by Twilio, from the API to the telephone and back."""

import asyncio

from tests.acceptance.elsewhere import attempts
from tests.system import System

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
    await system.heal("twilio")
    assert (await system.stats("twilio"))["accepted"] == 5
    await system.check()


async def test_an_sms_that_twilio_did_not_take_is_found_missing_in_its_list_and_sent_again(system: System):
    await system.fault("error", "twilio", status=500)
    id_ = await sms(system, {"phone": "+12025550177"}, "Hello")
    await system.becomes(id_, "in_doubt")
    await system.heal("twilio")
    story = await system.becomes(id_, "delivered", timeout_s=60)
    assert attempts(story) == [("try_next", "not_listed"), ("sent", "accepted")]
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

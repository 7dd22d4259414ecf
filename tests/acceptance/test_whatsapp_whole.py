"""WhatsApp, from the API to the telephone and back."""

import time

import aiohttp

from tests.acceptance.elsewhere import attempts
from tests.system import System, until

ADA = "+12025550143"
TEMPLATE = {"template": "order_update", "language": "en", "body.1": "Ada", "body.2": "59E0C2"}


async def say(system: System, to: object, content: object, **more: object) -> str:
    """Insists on one message, and gives its id."""
    key, body = system.wanted(**{"content": content, "channels": ["whatsapp"], **more})
    del body["template"], body["data"]
    body["to"] = {**body["to"], **to} if isinstance(to, dict) else {"user": to}
    return (await system.insist(key, body))[0]


async def writes(system: System, body: str, from_: str) -> None:
    """A person writes: from then on they may be answered in text."""
    async with aiohttp.ClientSession() as http:
        path = f"{system.sandbox_url}/whatsapp/_replies"
        async with http.post(path, json={"from": from_, "body": body}) as answer:
            assert (await answer.json())["answered"] in ([200], [204])


async def in_the_ledger(system: System, id_: str) -> dict:
    """What WhatsApp took of it."""
    (delivery,) = (await system.get(id_))["deliveries"]
    reference = f"{delivery['id'].replace('-', '')}-{len(delivery['attempts'])}"
    (item,) = (await system.sandbox("GET", f"/messages?provider=whatsapp&reference={reference}"))["items"]
    return item


async def test_a_template_is_delivered_to_the_telephone_in_the_call(system: System):
    id_ = await say(system, {"phone": "+1 (202) 555-0143"}, {"channels": {"whatsapp": TEMPLATE}})
    story = await system.becomes(id_, "delivered")
    (delivery,) = story["deliveries"]
    assert (delivery["channel"], delivery["address"]) == ("whatsapp", ADA)
    assert attempts(story) == [("sent", "accepted")]
    item = await in_the_ledger(system, id_)
    assert item["to"] == ADA
    shown = {"name": "order_update", "language": "en", "parameters": {"body": ["Ada", "59E0C2"]}}
    assert item["content"]["template"] == shown
    await system.check()


async def test_a_stored_template_fills_the_parameters_from_the_data(system: System):
    own = TEMPLATE | {"body.1": "{{ name }}", "body.2": "{{ order|upper }}"}
    content = {"subject": "Order {{ order }}", "text": "Hello {{ name }}", "channels": {"whatsapp": own}}
    status, said, _ = await system.ask("PUT", "/templates/chatty", {"content": content})
    assert status == 200, said
    status, said, _ = await system.ask("PUT", "/users/whatsapp-ada", {"phones": ["+33 6 12 34 56 78"]})
    assert (status, said["whatsapp"]) == (200, ["+33612345678"])
    key, body = system.wanted(template="chatty", channels=["whatsapp"], data={"name": "Ada", "order": "x1"})
    id_, _ = await system.insist(key, body | {"to": {"user": "whatsapp-ada"}})
    await system.becomes(id_, "delivered")
    item = await in_the_ledger(system, id_)
    assert (item["to"], item["content"]["template"]["parameters"]) == ("+33612345678", {"body": ["Ada", "X1"]})
    await system.check()


async def test_a_text_goes_to_who_wrote_in_the_last_24_hours_and_to_nobody_else(system: System):
    refused = await system.becomes(await say(system, {"whatsapp": "+12025550144"}, {"text": "Hello"}), "failed")
    assert attempts(refused) == [("refused", "131047")]
    await writes(system, "Where is my order?", "+12025550145")
    await system.receipts("whatsapp", share_opened=1)
    story = await system.becomes(await say(system, {"whatsapp": "+12025550145"}, {"text": "On its way"}), "delivered")
    assert attempts(story) == [("sent", "accepted")]
    await system.receipts("whatsapp")
    await system.check()


async def test_a_message_in_doubt_is_settled_by_the_receipt_that_names_it(system: System):
    await system.fault("accept_then_hang", "whatsapp")
    id_ = await say(system, {"whatsapp": ADA}, {"channels": {"whatsapp": TEMPLATE}})
    await system.becomes(id_, "delivered")
    await system.settled()
    (attempt,) = attempts(await system.get(id_))
    assert attempt in {("unsure", "timeout"), ("sent", "receipt")}
    await system.heal("whatsapp")
    assert (await system.stats("whatsapp"))["accepted"] == 1
    await system.check()


async def test_who_writes_stop_gets_no_more_and_is_back_with_a_start(system: System):
    number, content = "+12025550146", {"channels": {"whatsapp": TEMPLATE}}

    async def held() -> bool:
        return (await system.ask("GET", f"/suppressions/whatsapp/{number}"))[0] == 200

    async def free() -> bool:
        return not await held()

    await system.becomes(await say(system, {"whatsapp": number}, content), "delivered")
    await writes(system, "Stop", number)
    stopped_at_s = int(time.time())
    await until(held, 20, "the number to be suppressed")
    story = await system.becomes(await say(system, {"whatsapp": number}, content), "suppressed")
    assert [one["reason"] for one in story["deliveries"]] == ["suppressed"]
    await until(lambda: time.time() > stopped_at_s + 2, 20, "another second: messages are dated by the second")
    await writes(system, "start", number)
    await until(free, 20, "the number to be free again")
    await system.becomes(await say(system, {"whatsapp": number}, content), "delivered")
    await system.check()

"""The official SDK against the stand-in: what it sends is taken, what it asks for is found."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from mailgun.client import Client
from mailgun.config import RetryPolicy
from mailgun.handlers.error_handler import ApiError
from sandbox_rig import Rig, sandbox

DOMAIN = "mg.example.org"
MAIL = {
    "from": "Shop <shop@example.org>",
    "to": ["Ada <ada@example.com>"],
    "subject": "Hello",
    "text": "Hello Ada",
    "html": "<p>Hello Ada",
}


@pytest_asyncio.fixture(scope="module")
async def rig() -> AsyncIterator[Rig]:
    async with sandbox("mailgun", api_keys={"mailgun": "key-1"}) as rig:
        yield rig


async def ask(rig: Rig, path: str, *, key: str = "key-1", retries: int = 0, **more: Any) -> Any:
    """``path`` names a method of the SDK, such as ``messages.create``."""

    def call() -> Any:
        policy = RetryPolicy(max_retries=retries, base_delay=0.01)
        with Client(auth=("api", key), api_url=rig.host, retry_policy=policy) as client:
            endpoint, method = path.split(".")
            return getattr(getattr(client, endpoint), method)(domain=DOMAIN, **more)

    return await asyncio.to_thread(call)


async def test_a_mail_of_the_sdk_is_taken_and_found_by_its_id(rig: Rig) -> None:
    data = {**MAIL, "v:ref": "sdk-1", "h:Message-Id": "<sdk-1@mg.example.org>", "o:tag": ["a", "b"]}
    answer = await ask(rig, "messages.create", data=data)
    assert answer.json() == {"id": "<sdk-1@mg.example.org>", "message": "Queued. Thank you."}
    (item,) = await rig.messages("?reference=sdk-1")
    assert (item["to"], item["content"]["html"]) == ("ada@example.com", "<p>Hello Ada")
    assert item["content"]["tags"] == ["a", "b"]
    found = await ask(rig, "events.get", filters={"message-id": "sdk-1@mg.example.org", "ascending": "yes"})
    (event,) = found.json()["items"]
    assert (event["event"], event["user-variables"]) == ("accepted", {"ref": "sdk-1"})


async def test_a_file_makes_the_sdk_speak_multipart(rig: Rig) -> None:
    data = {**MAIL, "v:ref": "sdk-2", "text": "Grüße\r\n--\r\n"}
    answer = await ask(rig, "messages.create", data=data, files=[("attachment", ("a.txt", b"abc"))])
    assert answer.status_code == 200
    (item,) = await rig.messages("?reference=sdk-2")
    assert (item["content"]["attachments"], item["content"]["text"]) == (["a.txt"], "Grüße\r\n--\r\n")


async def test_pages_of_events_lead_to_an_empty_one(rig: Rig) -> None:
    begin_s = int(time.time()) - 60
    for n in range(3):
        await ask(rig, "messages.create", data={**MAIL, "to": f"page{n}@example.com", "subject": "Paged"})
    query = {"begin": str(begin_s), "ascending": "yes", "limit": 2, "subject": "Paged"}
    page, seen = (await ask(rig, "events.get", filters=query)).json(), []
    while page["items"]:
        seen += [event["recipient"] for event in page["items"]]
        async with rig.http.get(page["paging"]["next"], headers={"Authorization": "Basic YXBpOmtleS0x"}) as answer:
            page = await answer.json()
    assert seen == ["page0@example.com", "page1@example.com", "page2@example.com"]


async def test_a_wrong_key_is_turned_away(rig: Rig) -> None:
    answer = await ask(rig, "messages.create", key="key-2", data=MAIL)
    assert (answer.status_code, answer.text) == (401, "Forbidden")


async def test_a_bad_address_is_refused_in_the_words_of_the_real_one(rig: Rig) -> None:
    answer = await ask(rig, "messages.create", data={**MAIL, "to": "ada"})
    assert answer.status_code == 400
    assert answer.json() == {"message": "to parameter is not a valid address. please check documentation"}


async def test_an_outage_is_an_error_of_the_sdk_and_nothing_is_taken(rig: Rig) -> None:
    before = (await rig.stats())["accepted"]
    await rig.fault("down")
    with pytest.raises(ApiError):
        await ask(rig, "messages.create", data=MAIL)
    await rig.call("DELETE", "/_sandbox/faults/mailgun")
    assert (await rig.stats())["accepted"] == before


async def test_the_sdk_repeats_by_itself_what_was_taken_already(rig: Rig) -> None:
    """Which is why Tidings sends without it."""
    await rig.fault("accept_then_error", for_s=60)
    await ask(rig, "messages.create", retries=2, data={**MAIL, "v:ref": "sdk-3"})
    await rig.call("DELETE", "/_sandbox/faults/mailgun")
    taken = await rig.messages("?reference=sdk-3")
    assert len(taken) == 3
    assert {item["answered"] for item in taken} == {"500"}


async def test_the_sdk_is_told_how_the_domain_is(rig: Rig) -> None:
    found = await ask(rig, "domains.get")
    domain = found.json()["domain"]
    assert (found.status_code, domain["name"], domain["state"]) == (200, DOMAIN, "active")
    turned_away = await ask(rig, "domains.get", key="key-2")
    assert (turned_away.status_code, turned_away.text) == (401, "Forbidden")

"""The official SDK against the stand-in: what it sends is taken, what it verifies holds."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from python_http_client.exceptions import (
    BadRequestsError,
    ServiceUnavailableError,
    TooManyRequestsError,
    UnauthorizedError,
)
from sandbox_rig import Rig, receiver, sandbox
from sendgrid import SendGridAPIClient
from sendgrid.helpers.eventwebhook import EventWebhook, EventWebhookHeader
from sendgrid.helpers.mail import Attachment, CustomArg, Mail, MailSettings, ReplyTo, SandBoxMode


@pytest_asyncio.fixture(scope="module")
async def rig() -> AsyncIterator[Rig]:
    async with sandbox(api_keys={"sendgrid": "SG.key"}) as rig:
        yield rig


def mail(**more: object) -> Mail:
    usual = {
        "from_email": ("shop@example.org", "Shop"),
        "to_emails": "ada@example.com",
        "subject": "Hello",
        "plain_text_content": "Hello Ada",
        "html_content": "<p>Hello Ada",
    }
    return Mail(**(usual | more))


async def send(rig: Rig, message: Mail, key: str = "SG.key") -> object:
    return await asyncio.to_thread(SendGridAPIClient(key, host=rig.sendgrid).send, message)


async def test_a_mail_of_the_sdk_is_taken(rig: Rig) -> None:
    message = mail()
    message.custom_arg = CustomArg("ref", "sdk-1")
    message.reply_to = ReplyTo("help@example.org")
    message.attachment = Attachment("YWJj", "a.txt", "text/plain", "attachment")
    answer = await send(rig, message)
    assert (answer.status_code, answer.body) == (202, b"")
    assert answer.headers["X-Message-Id"]
    (item,) = await rig.messages("?reference=sdk-1")
    assert (item["to"], item["content"]["html"]) == ("ada@example.com", "<p>Hello Ada")
    assert item["content"]["attachments"] == ["a.txt"]


async def test_sandbox_mode_of_the_sdk_gets_200(rig: Rig) -> None:
    message = mail()
    message.mail_settings = MailSettings(sandbox_mode=SandBoxMode(True))
    assert (await send(rig, message)).status_code == 200


async def test_a_bad_address_is_the_sdks_bad_request(rig: Rig) -> None:
    with pytest.raises(BadRequestsError) as caught:
        await send(rig, mail(to_emails="ada@nowhere"))
    assert caught.value.to_dict["errors"][0]["field"] == "personalizations.0.to.0.email"


async def test_a_wrong_key_is_the_sdks_unauthorized(rig: Rig) -> None:
    with pytest.raises(UnauthorizedError) as caught:
        await send(rig, mail(), key="SG.wrong")
    assert "invalid, expired, or revoked" in caught.value.to_dict["errors"][0]["message"]


@pytest.mark.parametrize(("fault", "error"), [("rate_limit", TooManyRequestsError), ("error", ServiceUnavailableError)])
async def test_a_fault_is_the_error_that_the_sdk_has_for_it(rig: Rig, fault: str, error: type[Exception]) -> None:
    await rig.fault(fault)
    with pytest.raises(error):
        await send(rig, mail())
    await rig.call("DELETE", "/_sandbox/faults/sendgrid")


async def test_the_sdk_fetches_the_public_key_and_verifies_the_receipts_with_it() -> None:
    async with receiver() as hook, sandbox(receipts_urls={"sendgrid": hook.url}) as rig:
        client = SendGridAPIClient("SG.key", host=rig.sendgrid).client
        answer = await asyncio.to_thread(client.user.webhooks.event.settings.signed._("any").get)
        await rig.receipts(delay_ms=0)
        await rig.send()
        await hook.heard(1)
    headers, body = hook.calls[0]
    signature, timestamp = (headers[n.lower()] for n in (EventWebhookHeader.SIGNATURE, EventWebhookHeader.TIMESTAMP))
    verifier = EventWebhook(json.loads(answer.body)["public_key"])
    assert verifier.verify_signature(body.decode(), signature, timestamp)
    assert not verifier.verify_signature(body.decode() + " ", signature, timestamp)


def test_the_verifier_of_the_sdk_agrees_with_the_recorded_vectors(providers_data: Path) -> None:
    vectors = json.loads((providers_data / "vectors" / "sendgrid_event_webhook.json").read_text())
    for case in vectors["cases"]:
        verifier = EventWebhook(case["public_key"])
        got = verifier.verify_signature(case["body"], case["signature"], case["timestamp"])
        assert got == case["valid"], case["name"]


async def test_the_sdk_is_told_what_the_key_may_do(rig: Rig) -> None:
    answer = await asyncio.to_thread(SendGridAPIClient("SG.key", host=rig.sendgrid).client.scopes.get)
    assert "mail.send" in json.loads(answer.body)["scopes"]
    with pytest.raises(UnauthorizedError):
        await asyncio.to_thread(SendGridAPIClient("SG.wrong", host=rig.sendgrid).client.scopes.get)

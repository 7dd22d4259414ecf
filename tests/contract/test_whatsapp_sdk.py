"""An SDK of WhatsApp's Cloud API against the stand-in: what it sends is taken, what it is told it understands."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
import pywa
from pywa import errors
from pywa.handlers import MessageStatusHandler
from pywa.types import MessageStatus, MessageStatusType
from pywa.types.templates import BodyText, TemplateLanguage
from sandbox_rig import Receiver, Rig, receiver, sandbox

from tidings.sandbox.signing import SigningKey
from tidings.sandbox.standin import LIVE
from tidings.sandbox.whatsapp import WhatsApp

ADA, SHOP = "+12025550143", "106540352242922"


class Elsewhere(httpx.HTTPTransport):
    """Sends the calls of the SDK to the stand-in."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = httpx.URL(url)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        assert request.url.host == "graph.facebook.com"
        request.url = self._url.copy_with(path=self._url.path + request.url.path)
        return super().handle_request(request)


class Sdk:
    """Its client, and the stand-in that it talks to."""

    def __init__(self, rig: Rig, session: httpx.Client, key: SigningKey) -> None:
        self.rig, account = rig, WhatsApp.customer("", key, LIVE)
        secrets = {"app_secret": account["app_secret"], "verify_token": account["verify_token"]}
        self.client = pywa.WhatsApp(SHOP, account["token"], session=session, server=None, api_version="23.0", **secrets)

    async def text(self, to: str, text: str, **more: Any) -> Any:
        return await asyncio.to_thread(self.client.send_message, to, text, **more)

    async def person_writes(self, body: str = "Hello", from_: str = ADA) -> dict[str, Any]:
        status, said = await self.rig.call("POST", "/whatsapp/_replies", {"from": from_, "body": body})
        assert status == 200, said
        return said


@pytest_asyncio.fixture
async def hook() -> AsyncIterator[Receiver]:
    async with receiver() as one:
        yield one


@pytest_asyncio.fixture
async def sdk(tmp_path: Path, hook: Receiver) -> AsyncIterator[Sdk]:
    file = tmp_path / "key.pem"
    async with sandbox(signing_key_file=file, receipts_urls={"whatsapp": hook.url}) as rig:
        await rig.call("PUT", "/_sandbox/receipts/whatsapp", {"delay_ms": 0})
        with httpx.Client(transport=Elsewhere(f"{rig.url}/whatsapp"), timeout=10) as session:
            yield Sdk(rig, session, SigningKey.kept_in(file))


async def test_a_text_is_taken_for_24_hours_after_the_person_wrote(sdk: Sdk) -> None:
    with pytest.raises(errors.ReEngagementMessage):
        await sdk.text(ADA, "Hello Ada")
    assert await sdk.person_writes() == {"answered": [200]}
    sent = await sdk.text(ADA, "Grüße 🎉", tracker="sdk-1")
    assert sent.id.startswith("wamid.")
    (item,) = await sdk.rig.messages("?reference=sdk-1")
    assert (item["provider"], item["to"]) == ("whatsapp", ADA)
    assert item["content"] == {"from": SHOP, "text": "Grüße 🎉"}
    with pytest.raises(errors.ReEngagementMessage):
        await sdk.text("+12025550144", "Hello Grace")


async def test_a_template_is_taken_whenever_it_comes(sdk: Sdk) -> None:
    params = [BodyText.params("Ada", "59E0C2")]
    language = TemplateLanguage.ENGLISH_US
    await asyncio.to_thread(sdk.client.send_template, ADA, "order_update", language, params, tracker="sdk-2")
    (item,) = await sdk.rig.messages("?reference=sdk-2")
    named = {"name": "order_update", "language": "en_US", "parameters": {"body": ["Ada", "59E0C2"]}}
    filled = "Hello Ada, there is news of your order 59E0C2."
    assert item["content"] == {"from": SHOP, "text": filled, "template": named}


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("rate_limit", errors.RateLimitHit),
        ("unauthorized", errors.ExpiredAccessToken),
        ("bad_address", errors.MessageUndeliverable),
        ("refuse", errors.TemplateNotExists),
        ("accept_then_error", errors.UnknownError),
        ("error", errors.WhatsAppError),
    ],
)
async def test_a_fault_is_the_error_that_the_sdk_has_for_it(sdk: Sdk, fault: str, error: type[Exception]) -> None:
    await sdk.person_writes()
    await sdk.rig.call("PUT", "/_sandbox/faults/whatsapp", {"fault": fault})
    with pytest.raises(error):
        await sdk.text(ADA, "Hello")


async def test_the_sdk_believes_the_webhooks_and_knows_what_became_of_the_message(sdk: Sdk, hook: Receiver) -> None:
    await sdk.rig.call("PUT", "/_sandbox/receipts/whatsapp", {"delay_ms": 0, "share_opened": 1})
    await sdk.person_writes()
    told = list[MessageStatus]()
    sdk.client.add_handlers(MessageStatusHandler(lambda _, status: told.append(status)))
    sent = await sdk.text(ADA, "Hello", tracker="sdk-3")
    await hook.heard(4)
    for headers, body in hook.calls:
        signature = headers["x-hub-signature-256"]
        assert sdk.client.webhook_update_validator(body, signature) is None
        assert sdk.client.webhook_update_validator(body + b" ", signature) is not None
        assert sdk.client.webhook_update_validator(body, signature[:-1]) is not None
        assert sdk.client.webhook_update_handler(body) == ("ok", 200)
    assert {(one.id, one.tracker) for one in told} == {(sent.id, "sdk-3")}
    assert {one.status for one in told} == {MessageStatusType.SENT, MessageStatusType.DELIVERED, MessageStatusType.READ}


async def test_what_could_not_be_delivered_comes_with_its_error(sdk: Sdk, hook: Receiver) -> None:
    settings = {"delay_ms": 0, "share_delivered": 0, "share_bounced": 1}
    await sdk.rig.call("PUT", "/_sandbox/receipts/whatsapp", settings)
    await sdk.person_writes()
    told = list[MessageStatus]()
    sdk.client.add_handlers(MessageStatusHandler(lambda _, status: told.append(status)))
    await sdk.text(ADA, "Hello")
    await hook.heard(3)
    for _, body in hook.calls:
        sdk.client.webhook_update_handler(body)
    (failed,) = [one for one in told if one.status == MessageStatusType.FAILED]
    assert isinstance(failed.error, errors.MessageUndeliverable)


async def test_the_sdk_is_told_about_the_number(sdk: Sdk) -> None:
    number = await asyncio.to_thread(sdk.client.get_business_phone_number)
    assert (number.id, number.quality_rating, number.code_verification_status) == (SHOP, "GREEN", "VERIFIED")
    await sdk.rig.call("PUT", "/_sandbox/faults/whatsapp", {"fault": "unauthorized"})
    with pytest.raises(errors.ExpiredAccessToken):
        await asyncio.to_thread(sdk.client.get_business_phone_number)

"""What is WhatsApp's alone: the message that is sent, the path it takes, and whose question is answered."""

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from wire_peer import Talk, answer, playing

from tidings.domain.catalog import Account
from tidings.domain.ids import TenantId
from tidings.domain.lanes import Channel
from tidings.domain.notification import Content
from tidings.domain.outcome import Outcome, Refused, Sent
from tidings.ports import Message, WebhookCall
from tidings.providers.whatsapp import WhatsApp
from tidings.providers.whatsapp_webhooks import Webhooks

REFERENCE = "0192f0c0000070008000000000000000-1"
SENDER = {"phone_number_id": "106540352242922", "display": "The Shop"}
TAKEN = answer(200, b'{"messages": [{"id": "wamid.1"}]}')


def account(**settings: str) -> Account:
    usual = {"token": "EAA", "timeout_s": "5"}
    return Account(1, TenantId(1), "main", "whatsapp", Channel.whatsapp, usual | settings, "token")


def message(content: Content, sender: Mapping[str, str] = SENDER) -> Message:
    return Message(REFERENCE, "+12025550143", content, sender, {})


async def asked(of: Message, **settings: str) -> tuple[Outcome, str, dict[str, Any]]:
    """What became of it, the first line of the request, and its body."""

    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.say(TAKEN)

    async with playing(script) as peer:
        provider = WhatsApp(account(**{"url": peer.origin, **settings}))
        outcome = await provider.send(of, lambda: True)
        await provider.close()
        head, _, body = bytes(peer.seen[0] if peer.seen else b"").partition(b"\r\n\r\n")
        return outcome, head.decode().splitlines()[0] if head else "", msgspec.json.decode(body or b"{}")


async def test_a_text_is_sent_as_the_api_wants_it():
    outcome, line, body = await asked(message(Content(text="Grüße 🎉")))
    assert outcome == Sent("wamid.1")
    assert line == "POST /v23.0/106540352242922/messages HTTP/1.1"
    assert body == {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        "to": "+12025550143",
        "type": "text",
        "text": {"body": "Grüße 🎉", "preview_url": False},
        "biz_opaque_callback_data": REFERENCE,
    }


def texts(*given: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": one} for one in given]


async def test_a_template_is_sent_with_its_parameters_in_their_places():
    numbered = {f"body.{n}": f"text {n}" for n in (10, 1, 2, 3, 4, 5, 6, 7, 8, 9)}
    own = {"button.1": "help", "template": "order_update", "language": "pt_BR", **numbered, "header.shop": "Ours"}
    _, _, body = await asked(message(Content(channels={"whatsapp": own})))
    assert (body["type"], "text" in body) == ("template", False)
    assert body["template"] == {
        "name": "order_update",
        "language": {"code": "pt_BR"},
        "components": [
            {"type": "header", "parameters": [{"type": "text", "parameter_name": "shop", "text": "Ours"}]},
            {"type": "body", "parameters": texts(*(f"text {n}" for n in range(1, 11)))},
            {"type": "button", "sub_type": "url", "index": "1", "parameters": texts("help")},
        ],
    }
    _, _, body = await asked(message(Content(channels={"whatsapp": {"template": "t", "language": "en"}})))
    assert body["template"] == {"name": "t", "language": {"code": "en"}}


async def test_the_version_is_a_setting_and_stands_after_the_path_of_the_api():
    for base, path in (("", "/v24.0"), ("/graph", "/graph/v24.0"), ("/graph/", "/graph/v24.0")):

        async def script(talk: Talk) -> None:
            await talk.request()
            await talk.say(TAKEN)

        async with playing(script) as peer:
            provider = WhatsApp(account(url=f"{peer.origin}{base}", version="v24.0"))
            await provider.send(message(Content(text="Hi")), lambda: True)
            await provider.close()
            assert peer.seen[0].startswith(f"POST {path}/106540352242922/messages HTTP/1.1\r\n".encode())


@pytest.mark.parametrize("number", ["1 2", "1\r\nX: y", "\u0661"])
async def test_a_sender_that_cannot_stand_in_a_path_is_refused_unsent(number: str):
    outcome, line, _ = await asked(message(Content(text="Hi"), {"phone_number_id": number}))
    assert (outcome, line) == (Refused("unsafe_header", "phone_number_id"), "")


ASKED = {"hub.mode": "subscribe", "hub.verify_token": "shown", "hub.challenge": "1158201444"}


def test_the_question_whether_the_webhook_is_ours_is_answered_to_who_knows_the_token():
    provider = WhatsApp(account(verify_token="shown"))
    assert provider.challenge(ASKED) == "1158201444"
    for wrong in (
        {**ASKED, "hub.verify_token": "guessed"},
        {**ASKED, "hub.verify_token": "sh\u00f6wn"},
        {**ASKED, "hub.mode": "unsubscribe"},
        {"hub.mode": "subscribe", "hub.challenge": "1"},
        {"hub.mode": "subscribe", "hub.verify_token": "shown"},
        {},
    ):
        assert provider.challenge(wrong) is None
    assert WhatsApp(account()).challenge({**ASKED, "hub.verify_token": ""}) is None


def test_who_has_no_secret_believes_nobody():
    for signature in ("", "sha256=", "sha256=" + "0" * 64):
        assert Webhooks(None).receipts(WebhookCall("https://x", {"x-hub-signature-256": signature}, b"{}")) is None


async def test_nobody_can_be_asked_what_became_of_a_call():
    provider = WhatsApp(account())
    assert await provider.look_up(REFERENCE, "+12025550143", None) is None  # type: ignore[arg-type]

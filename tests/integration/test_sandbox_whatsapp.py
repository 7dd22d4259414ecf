"""The stand-in for WhatsApp: what it refuses, its two customers, and people who want no more."""

import hmac
import json
from pathlib import Path
from typing import Any

import pytest
from sandbox_rig import Rig, receiver, sandbox

from tidings.sandbox.signing import SigningKey
from tidings.sandbox.standin import LIVE, TEST
from tidings.sandbox.whatsapp import WhatsApp

ADA = "+12025550143"
TEMPLATE = {"name": "order_update", "language": {"code": "en"}}
MESSAGE = {"messaging_product": "whatsapp", "to": ADA, "type": "template", "template": TEMPLATE}
TEXT = {"messaging_product": "whatsapp", "to": ADA, "type": "text", "text": {"body": "Hello"}}


async def send(rig: Rig, message: Any, token: str = "EAA-live") -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with rig.http.post(
        f"{rig.url}/whatsapp/v23.0/106540352242922/messages", json=message, headers=headers
    ) as said:
        return said.status, await said.json()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"messaging_product": "sms"}, 100),
        ({"to": "ada"}, 131009),
        ({"to": ""}, 131009),
        ({"biz_opaque_callback_data": "x" * 513}, 100),
        ({"type": "carrier_pigeon"}, 131051),
        ({"template": {"name": "Order Update", "language": {"code": "en"}}}, 132001),
        ({"template": {"name": "order_update", "language": {"code": ""}}}, 132001),
        ({"template": {**TEMPLATE, "components": [{"type": "footer"}]}}, 100),
        ({"template": {**TEMPLATE, "components": [{"type": "button", "sub_type": "url"}]}}, 100),
        ({"template": {**TEMPLATE, "components": [{"type": "body", "parameters": [{"type": "text"}]}]}}, 131008),
        ({"type": "text", "text": {"body": ""}}, 100),
        ({"type": "text", "text": {"body": "x" * 4097}}, 100),
        ({"type": "text", "text": {"body": "Hello"}}, 131047),
        ({"to": 5}, 100),
    ],
)
async def test_what_the_real_one_refuses_is_refused_with_its_number(change: dict[str, Any], code: int) -> None:
    async with sandbox() as rig:
        status, said = await send(rig, MESSAGE | change)
        assert status in (400, 404) and said["error"]["code"] == code, said
        assert await rig.messages() == []


async def test_without_a_token_or_with_a_wrong_one_nobody_gets_in() -> None:
    async with sandbox(api_keys={"whatsapp": "EAA-right"}) as rig:
        for token in ("", "EAA-wrong"):
            status, said = await send(rig, MESSAGE, token)
            assert (status, said["error"]["code"]) == (401, 190)
        assert (await send(rig, MESSAGE, "EAA-right"))[0] == 200


async def test_what_is_no_json_and_what_is_no_path_is_refused() -> None:
    async with sandbox() as rig:
        for body in (b"", b"{", b"[]", b"\xff", b"[" * 100_000):
            path = f"{rig.url}/whatsapp/v23.0/1/messages"
            async with rig.http.post(path, data=body, headers={"Authorization": "Bearer x"}) as said:
                assert (said.status, (await said.json())["error"]["code"]) == (400, 100)
        async with rig.http.get(f"{rig.url}/whatsapp/v23.0/1/messages") as said:
            assert said.status == 405
        async with rig.http.post(f"{rig.url}/whatsapp/v23.0/me/messages") as said:
            assert said.status == 404


async def test_who_wrote_to_one_customer_may_be_answered_in_text_by_that_one() -> None:
    async with sandbox() as rig:
        await rig.call("POST", "/whatsapp/_replies", {"from": ADA, "body": "Hi", "customer": "test"})
        assert (await send(rig, TEXT, "EAA-live"))[0] == 400
        assert (await send(rig, TEXT, "EAA-test"))[0] == 200
        async with rig.http.post(f"{rig.url}/whatsapp/_replies", json={"from": ADA, "nonsense": 1}) as said:
            assert said.status == 422


async def test_each_customers_webhooks_are_signed_with_its_own_secret(tmp_path: Path) -> None:
    key_file = tmp_path / "key.pem"
    async with receiver() as live, receiver() as test:
        urls = {"whatsapp": live.url, "whatsapp.test": test.url}
        async with sandbox(signing_key_file=key_file, receipts_urls=urls) as rig:
            await rig.call("PUT", "/_sandbox/receipts/whatsapp", {"delay_ms": 0, "share_unsubscribed": 1})
            key = SigningKey.kept_in(key_file)
            for who, hook in ((LIVE, live), (TEST, test)):
                account = WhatsApp.customer("", key, who)
                await send(rig, MESSAGE | {"biz_opaque_callback_data": who}, account["token"])
                await hook.heard(3)
                for headers, body in hook.calls:
                    signature = hmac.digest(account["app_secret"].encode(), body, "sha256").hex()
                    assert headers["x-hub-signature-256"] == f"sha256={signature}"
                values = [json.loads(body)["entry"][0]["changes"][0]["value"] for _, body in hook.calls]
                statuses = {one["status"] for value in values for one in value.get("statuses", ())}
                assert statuses == {"sent", "delivered"}
                assert {one["biz_opaque_callback_data"] for v in values for one in v.get("statuses", ())} == {who}
                (chosen,) = [one for value in values for one in value.get("user_preferences", ())]
                assert (chosen["wa_id"], chosen["value"]) == (ADA[1:], "stop")

"""Webhooks of providers over real HTTP, signed as SendGrid signs."""

import base64
import io
import json
import time
import uuid

import pytest_asyncio
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.integration.api.rig import Api

CONTENT = {"subject": "Hi", "text": "Hello"}


class Webhook:
    """SendGrid's side of an account."""

    def __init__(self, api: Api, path: str, key: ec.EllipticCurvePrivateKey) -> None:
        self.api, self.path, self.key = api, path, key

    async def post(self, body: bytes, signed: bytes | None = None, path: str | None = None):
        stamp = str(int(time.time()))
        signature = self.key.sign(stamp.encode() + (body if signed is None else signed), ec.ECDSA(hashes.SHA256()))
        headers = {
            "Content-Type": "application/json",
            "X-Twilio-Email-Event-Webhook-Timestamp": stamp,
            "X-Twilio-Email-Event-Webhook-Signature": base64.b64encode(signature).decode(),
        }
        return await self.api.call("POST", path or self.path, key=None, data=body, headers=headers)

    async def tell(self, *events: dict) -> None:
        said = await self.post(json.dumps(events).encode())
        assert said.status == 204, said.raw


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def webhook(api: Api):
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )  # fmt: skip
    settings = {"api_key": "x", "webhook_public_key": base64.b64encode(public).decode()}
    body = {"kind": "sendgrid", "settings": settings}
    put = await api.call("PUT", "/api/v1/providers/receipts", body)
    return Webhook(api, put.body["receipts_path"], key)


def event(reference: str | None, **more) -> dict:
    return {"event": "delivered", "sg_event_id": uuid.uuid4().hex, "sg_message_id": "m", "timestamp": int(time.time()),
            "email": "a@example.com", "ref": reference, **more}  # fmt: skip


async def sent(api: Api) -> tuple[str, str]:
    said = await api.send({"to": {"user": uuid.uuid4().hex, "email": "a@example.com"}, "content": CONTENT})
    return said.body["id"], uuid.UUID(said.body["deliveries"][0]["id"]).hex + "-1"


async def test_a_signed_receipt_is_filed_and_shown(api: Api, webhook: Webhook):
    id_, reference = await sent(api)
    said = await webhook.post(json.dumps([event(reference)]).encode())
    assert (said.status, said.raw) == (204, b""), said.raw
    story = (await api.call("GET", f"/api/v1/notifications/{id_}")).body
    assert story["status"] == "delivered"
    assert story["deliveries"][0]["receipts"][0]["provider"] == "receipts"


async def test_a_forged_receipt_is_refused_and_changes_nothing(api: Api, webhook: Webhook):
    id_, reference = await sent(api)
    body = json.dumps([event(reference)]).encode()
    unsigned = await api.call("POST", webhook.path, [event(reference)], None)
    for said in (unsigned, await webhook.post(body, signed=body + b" ")):
        assert (said.status, said.code) == (401, "forged")
    assert (await api.call("GET", f"/api/v1/notifications/{id_}")).body["status"] == "queued"


async def test_the_address_of_an_account_is_a_secret(api: Api, webhook: Webhook):
    body = json.dumps([event("x")]).encode()
    kind, token = webhook.path.split("/")[-2:]
    for path in (f"{kind}/{token[:-1]}", f"{kind}/{token}x", f"twilio/{token}", token, "", f"{kind}/", "é/ü"):
        said = await webhook.post(body, path=f"/api/v1/receipts/{path}")
        assert (said.status, said.code) == (404, "not_found"), path


async def test_a_receipt_cannot_touch_another_tenants_delivery(api: Api, webhook: Webhook):
    said = await api.send({"to": {"user": "x", "email": "a@example.com"}, "content": CONTENT}, api.other)
    reference = uuid.UUID(said.body["deliveries"][0]["id"]).hex + "-1"
    assert (await webhook.post(json.dumps([event(reference)]).encode())).status == 204
    story = (await api.call("GET", f"/api/v1/notifications/{said.body['id']}", key=api.other)).body
    assert story["status"] == "queued" and story["deliveries"][0]["receipts"] == []


async def test_receipts_that_name_nothing_of_ours_are_taken_quietly(webhook: Webhook):
    rows = [event("nonsense"), event(uuid.uuid4().hex + "-1"), {"event": "delivered"}, 7]
    assert (await webhook.post(json.dumps(rows).encode())).status == 204
    assert (await webhook.post(b"[]")).status == 204


async def test_more_than_five_megabytes_are_refused(webhook: Webhook):
    said = await webhook.api.call("POST", webhook.path, key=None, data=io.BytesIO(b" " * 5_300_000))
    assert (said.status, said.code) == (413, "too_large")

"""What FCM's stand-in takes and refuses, and in which words."""

import base64
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import msgspec
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from sandbox_rig import Rig, sandbox

from tidings.sandbox.fcm import Fcm
from tidings.sandbox.signing import SigningKey

SEND = "/v1/projects/tidings-live/messages:send"
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


class Customer:
    """One who has a service account there."""

    def __init__(self, rig: Rig, key: SigningKey) -> None:
        self.rig, self.key, self.url = rig, key, f"{rig.url}/fcm"
        self.file = msgspec.json.decode(Fcm.customer(self.url, key, "live")["service_account"])
        self.bearer = ""

    async def post(self, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, Any]:
        async with self.rig.http.post(self.url + path, data=body, headers=headers) as answer:
            return answer.status, await answer.json(content_type=None)

    async def grant(self, head: dict[str, Any] | None = None, **claims: Any) -> tuple[int, Any]:
        now_s = int(time.time())
        scope = "https://www.googleapis.com/auth/firebase.messaging"
        usual = {"iss": self.file["client_email"], "scope": scope, "aud": self.file["token_uri"]}
        parts = (head or {"alg": "RS256"}, {**usual, "iat": now_s, "exp": now_s + 3600, **claims})
        signed = b".".join(base64.urlsafe_b64encode(msgspec.json.encode(part)).rstrip(b"=") for part in parts)
        signature = base64.urlsafe_b64encode(self.key.customers.sign(signed, PKCS1v15(), SHA256())).rstrip(b"=")
        assertion = (signed + b"." + signature).decode()
        return await self.post("/token", urlencode({"grant_type": GRANT, "assertion": assertion}).encode(), FORM)

    async def send(self, message: Any, path: str = SEND, bearer: str | None = None, **call: Any) -> tuple[int, Any]:
        if not self.bearer:
            self.bearer = (await self.grant())[1]["access_token"]
        headers = {"Authorization": f"Bearer {self.bearer if bearer is None else bearer}"}
        return await self.post(path, msgspec.json.encode({"message": message, **call}), headers)


@pytest_asyncio.fixture(scope="module")
async def fcm(tmp_path_factory) -> AsyncIterator[Customer]:
    path: Path = tmp_path_factory.mktemp("sandbox") / "key"
    async with sandbox(signing_key_file=path) as rig:
        yield Customer(rig, SigningKey.kept_in(path))


def message(**changes: Any) -> dict[str, Any]:
    usual = {"token": "d-Zy:APA91bE", "notification": {"title": "Hello", "body": "Ada"}, "data": {"ref": "ref-1"}}
    return {name: value for name, value in (usual | changes).items() if value is not None}


def code(body: Any) -> str | None:
    """FCM's own word."""
    return next((detail["errorCode"] for detail in body["error"]["details"] if "errorCode" in detail), None)


def field(body: Any) -> str | None:
    violations = (detail["fieldViolations"] for detail in body["error"]["details"] if "fieldViolations" in detail)
    return next((one["field"] for few in violations for one in few), None)


async def test_a_good_message_gets_a_name_and_stands_in_the_ledger(fcm: Customer) -> None:
    status, body = await fcm.send(message(android={"notification": {"tag": "t"}}))
    assert (status, set(body)) == (200, {"name"})
    assert body["name"].startswith("projects/tidings-live/messages/0:")
    item = (await fcm.rig.messages("?provider=fcm&reference=ref-1"))[-1]
    assert (item["to"], item["content"]["app"]) == ("d-Zy:APA91bE", "tidings-live")
    assert (item["content"]["title"], item["content"]["body"], item["content"]["data"]) == (
        "Hello",
        "Ada",
        {"ref": "ref-1"},
    )


async def test_a_message_to_be_validated_is_not_taken(fcm: Customer) -> None:
    for spelling in ("validate_only", "validateOnly"):
        status, body = await fcm.send(message(data={"ref": "dry"}), **{spelling: True})
        assert (status, body) == (200, {"name": "projects/tidings-live/messages/fake_message_id"})
    assert await fcm.rig.messages("?reference=dry") == []


@pytest.mark.parametrize(
    ("changes", "word", "where"),
    [
        ({"token": None}, "INVALID_ARGUMENT", "message"),
        ({"topic": "news"}, None, "message"),
        ({"token": "no token"}, "INVALID_ARGUMENT", None),
        ({"token": "x" * 4097}, "INVALID_ARGUMENT", None),
        ({"token": 5}, None, "message.token"),
        ({"notification": {"title": 5}}, None, "message.notification.title"),
        ({"notification": {"colour": "red"}}, None, "message.notification"),
        ({"data": {"n": 5}}, None, "message.data[...]"),
        ({"data": {"from": "x"}}, "INVALID_ARGUMENT", "message.data"),
        ({"data": {"google.x": "x"}}, "INVALID_ARGUMENT", "message.data"),
        ({"data": {"body": "x" * 4097}}, "INVALID_ARGUMENT", "message"),
        ({"apns": {"headers": {"apns-collapse-id": "x" * 65}}}, "INVALID_ARGUMENT", "message.apns.headers"),
        ({"to": "somebody"}, None, "message"),
    ],
)
async def test_what_the_real_one_would_not_take_is_refused(
    fcm: Customer, changes: dict[str, Any], word: str | None, where: str | None
) -> None:
    status, body = await fcm.send(message(**changes))
    assert (status, body["error"]["status"]) == (400, "INVALID_ARGUMENT")
    assert (code(body), field(body)) == (word, where)


async def test_an_app_that_is_no_longer_there_is_unregistered(fcm: Customer) -> None:
    status, body = await fcm.send(message(token="phone-unregistered"))
    assert (status, body["error"]["status"], code(body)) == (404, "NOT_FOUND", "UNREGISTERED")


async def test_a_body_that_is_no_json_is_refused(fcm: Customer) -> None:
    await fcm.send(message())
    for body in (b"", b"{", b"[]", b"\xff", b"[" * 100_000):
        status, said = await fcm.post(SEND, body, {"Authorization": f"Bearer {fcm.bearer}"})
        assert (status, said["error"]["status"]) == (400, "INVALID_ARGUMENT")


async def test_the_size_limit_counts_keys_and_values(fcm: Customer) -> None:
    fits = {"ref": "r", "x": "y" * (4096 - len("refrx") - len("titleHellobodyAda"))}
    assert (await fcm.send(message(data=fits)))[0] == 200
    assert (await fcm.send(message(data=fits | {"x": fits["x"] + "y"})))[0] == 400


@pytest.mark.parametrize("bearer", ["", "ya29.", "ya29.9999999999.tidings-live.AAAA", "\u00e9", "x" * 5000])
async def test_a_token_that_was_not_given_out_here_gets_401(fcm: Customer, bearer: str) -> None:
    status, body = await fcm.send(message(), bearer=bearer)
    assert (status, body["error"]["status"]) == (401, "UNAUTHENTICATED")


async def test_a_token_that_has_run_out_or_was_tampered_with_gets_401(fcm: Customer) -> None:
    await fcm.send(message())
    head, until_s, rest = fcm.bearer.split(".", 2)
    for bearer in (f"{head}.{int(until_s) - 9999}.{rest}", fcm.bearer[:-3], fcm.bearer.replace("live", "test")):
        assert (await fcm.send(message(), bearer=bearer))[0] == 401


async def test_another_customers_project_is_forbidden(fcm: Customer) -> None:
    status, body = await fcm.send(message(), path=SEND.replace("live", "test"))
    assert (status, body["error"]["status"]) == (403, "PERMISSION_DENIED")


async def test_a_grant_gives_a_token_for_an_hour(fcm: Customer) -> None:
    status, body = await fcm.grant()
    assert (status, body["expires_in"], body["token_type"]) == (200, 3599, "Bearer")


@pytest.mark.parametrize(
    ("claims", "error"),
    [
        ({"iss": "eve@example.com"}, "invalid_grant"),
        ({"aud": "https://example.com/"}, "invalid_grant"),
        ({"scope": "https://www.googleapis.com/auth/drive"}, "invalid_scope"),
        ({"exp": int(time.time()) - 1}, "invalid_grant"),
        ({"exp": int(time.time()) + 9999}, "invalid_grant"),
        ({"iat": int(time.time()) + 600}, "invalid_grant"),
        ({"exp": "soon"}, "invalid_grant"),
        ({"head": {"alg": "none"}}, "invalid_grant"),
    ],
)
async def test_a_grant_that_google_would_refuse_is_refused(fcm: Customer, claims: dict[str, Any], error: str) -> None:
    status, body = await fcm.grant(**claims)
    assert (status, body["error"]) == (400, error)


@pytest.mark.parametrize(
    "form", [{}, {"grant_type": "password"}, {"grant_type": GRANT}, {"grant_type": GRANT, "assertion": "a.b.\u00e9"}]
)
async def test_what_is_no_grant_is_refused(fcm: Customer, form: dict[str, str]) -> None:
    assert (await fcm.post("/token", urlencode(form).encode(), FORM))[0] == 400


@pytest.mark.parametrize(
    ("fault", "status", "word"),
    [
        ({"fault": "refuse"}, 400, None),
        ({"fault": "bad_address"}, 404, "UNREGISTERED"),
        ({"fault": "unauthorized"}, 401, None),
        ({"fault": "rate_limit"}, 429, "QUOTA_EXCEEDED"),
        ({"fault": "error"}, 503, "UNAVAILABLE"),
        ({"fault": "error", "status": 500}, 500, "INTERNAL"),
    ],
)
async def test_a_fault_has_the_words_of_the_real_one(
    fcm: Customer, fault: dict[str, Any], status: int, word: str | None
) -> None:
    await fcm.rig.call("PUT", "/_sandbox/faults/fcm", fault)
    try:
        got, body = await fcm.send(message())
    finally:
        await fcm.rig.call("DELETE", "/_sandbox/faults/fcm")
    assert (got, code(body), body["error"]["code"]) == (status, word, status)


async def test_the_customers_key_outlives_a_restart_and_is_the_owners_alone(tmp_path: Path) -> None:
    first = SigningKey.kept_in(tmp_path / "key").customers_pem
    assert SigningKey.kept_in(tmp_path / "key").customers_pem == first
    assert (tmp_path / "key.rsa").stat().st_mode & 0o777 == 0o600
    (tmp_path / "key.rsa").write_bytes(SigningKey.fresh().pem)
    with pytest.raises(ValueError, match="holds no RSA private key"):
        _ = SigningKey.kept_in(tmp_path / "key").customers

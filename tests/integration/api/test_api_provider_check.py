"""An account's credentials are tried by call, and what comes of it is a fact, no error."""

from uuid import uuid4

import pytest
import pytest_asyncio
from wire_peer import answer, answering, playing

from tests.integration.api.rig import Api
from tidings.runtime.ports import free_port

SECRET = "SG.this-must-never-be-shown"
GOOD = answer(200, b'{"scopes": ["mail.send"]}')
TROUBLES = {
    "a revoked key": (answer(401, b'{"errors": [{"message": "revoked"}]}'), "HTTP 401: revoked", "make another"),
    "a key that may not send": (answer(200, b'{"scopes": []}'), "the key may not send mail", "permission"),
    "somebody else": (answer(200, b"<html>"), "not the provider's", "`url`"),
}


@pytest_asyncio.fixture
async def name(api: Api) -> str:
    """Of an account where nobody listens."""
    name = f"account-{uuid4()}"
    await put(api, name, f"http://127.0.0.1:{free_port()}")
    return name


async def put(api: Api, name: str, url: str) -> None:
    settings = {"api_key": SECRET, "url": url}
    said = await api.call("PUT", f"/api/v1/providers/{name}", {"kind": "sendgrid", "settings": settings})
    assert said.status == 200, said.body


async def check(api: Api, name: str, key: str = ""):
    return await api.call("POST", f"/api/v1/providers/{name}/check", key=key)


async def test_an_account_that_can_send_is_told_so(api: Api, name: str):
    async with playing(answering(GOOD)) as peer:
        await put(api, name, peer.origin)
        said = await check(api, name)
    assert (said.status, said.body) == (200, {"ok": True, "detail": None})


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_what_is_wrong_is_told_with_what_to_do(api: Api, name: str, trouble: str):
    raw, found, advice = TROUBLES[trouble]
    async with playing(answering(raw)) as peer:
        await put(api, name, peer.origin)
        said = await check(api, name)
    assert (said.status, said.body["ok"]) == (200, False)
    assert found in said.body["detail"] and advice in said.body["detail"]
    assert SECRET not in said.raw.decode()


async def test_a_provider_that_does_not_answer_is_no_error_of_ours(api: Api, name: str):
    said = await check(api, name)
    assert (said.status, said.body["ok"]) == (200, False)
    assert "connect_refused" in said.body["detail"]


async def test_settings_that_could_be_used_once_are_told(api: Api, name: str):
    """They were stored when an operator allowed what is not allowed any more."""
    settings = {"api_key": SECRET, "url": "http://10.0.0.1"}
    mine = next(one for one in api.edge.catalogs().accounts.values() if one.name == name)
    await api.system.control.put_account(api.system.tenant, name, "sendgrid", mine.channel, settings)
    await api.edge.reload()
    said = await check(api, name)
    assert (said.status, said.body["ok"]) == (200, False)
    assert "not public" in said.body["detail"] and "correct" in said.body["detail"]


async def test_only_ones_own_accounts_are_tried_and_only_by_who_may_manage(api: Api, name: str):
    assert (await check(api, name, api.other)).status == 404
    assert (await check(api, f"absent-{name}")).status == 404
    looks = await api.system.control.create_key(api.system.tenant, "looks", ["read", "send"])
    await api.edge.reload()
    assert (await check(api, name, looks)).code == "scope"


async def test_the_document_describes_the_call(api: Api):
    document = (await api.call("GET", "/api/v1/openapi.json", key=None)).body
    call = document["paths"]["/api/v1/providers/{name}/check"]["post"]
    assert "200" in call["responses"] and "404" in call["responses"]
    assert document["components"]["schemas"]["ProviderChecked"]["required"] == ["ok", "detail"]

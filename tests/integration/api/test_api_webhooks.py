"""Webhooks of tenants over real HTTP: their secrets, their addresses, and a receiver that checks the signature."""

import json
from datetime import UTC, datetime, timedelta

import pytest
import standardwebhooks
from msgspec.structs import replace

from tests.integration.api.rig import Api
from tests.wire_peer import Talk, answer, playing
from tidings.domain.callback import NAMES, PREFIX, Disabled

URL = "https://hooks.example.com/tidings?shop=1"


async def put(api: Api, name: str, key: str = "", **body):
    said = await api.call("PUT", f"/api/v1/webhooks/{name}", {"url": URL, **body}, key)
    assert said.status == 200, said.raw
    return said.body


async def get(api: Api, name: str, key: str = ""):
    return await api.call("GET", f"/api/v1/webhooks/{name}", key=key)


async def test_a_secret_is_shown_when_it_is_made_and_never_again(api: Api):
    made = await put(api, "secret")
    assert made["secret"].startswith(PREFIX) and len(made["secret"]) > 40
    assert (made["enabled"], made["events"]) == (True, list(NAMES))
    changed = await put(api, "secret", events=["delivery.dead"])
    assert (changed["secret"], changed["events"]) == (None, ["delivery.dead"])
    assert (await get(api, "secret")).body["secret"] is None
    assert made["secret"] not in str((await api.call("GET", "/api/v1/webhooks")).body)
    rotated = await put(api, "secret", rotate_secret=True)
    assert rotated["secret"] not in (None, made["secret"])


async def test_the_database_holds_no_secret_in_clear(api: Api):
    made = await put(api, "sealed")
    row = await stored(api, "sealed")
    assert made["secret"].encode() not in row["secrets"]


async def stored(api: Api, name: str):
    async with api.system.control._connection() as connection:
        (row,) = await connection.fetch("SELECT * FROM webhook WHERE name = $1", name)
    return row


async def test_another_tenants_webhook_does_not_exist(api: Api):
    await put(api, "mine")
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/test")):
        said = await api.call(method, f"/api/v1/webhooks/mine{path}", {} if method == "POST" else None, api.other)
        assert (said.status, said.code) == (404, "not_found"), method
    await put(api, "mine", api.other, url="https://theirs.example.com")
    assert (await get(api, "mine")).body["url"] == URL
    names = [one["name"] for one in (await api.call("GET", "/api/v1/webhooks", key=api.other)).body["items"]]
    assert names == ["mine"]


async def test_who_may_only_read_changes_nothing(api: Api):
    key = (await api.call("POST", "/api/v1/keys", {"name": "reader", "scopes": ["read"]})).body["key"]
    await put(api, "kept")
    for method, path, body in (("PUT", "", {"url": URL}), ("DELETE", "", None), ("POST", "/test", {})):
        said = await api.call(method, f"/api/v1/webhooks/kept{path}", body, key)
        assert (said.status, said.code) == (403, "scope")
    assert (await get(api, "kept", key)).status == 200


async def test_a_deleted_webhook_is_gone_and_no_shard_listens_for_it(api: Api):
    await put(api, "gone")
    id_ = (await stored(api, "gone"))["id"]
    count = "SELECT webhook FROM listener WHERE webhook = $1"
    assert len(await api.system.rows(count, id_)) == 2
    assert (await api.call("DELETE", "/api/v1/webhooks/gone")).status == 204
    assert (await get(api, "gone")).status == 404
    assert await api.system.rows(count, id_) == []
    assert (await api.call("DELETE", "/api/v1/webhooks/gone")).status == 404


async def test_one_that_is_disabled_hears_nothing_until_it_is_put_again(api: Api):
    off = await put(api, "off", enabled=False)
    assert (off["enabled"], off["disabled_because"]) == (False, "by_request")
    id_ = (await stored(api, "off"))["id"]
    listening = "SELECT webhook FROM listener WHERE webhook = $1"
    assert await api.system.rows(listening, id_) == []
    on = await put(api, "off")
    assert (on["enabled"], on["disabled_because"], on["disabled_at"]) == (True, None, None)
    assert len(await api.system.rows(listening, id_)) == 2


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com",
        "example.com",
        "https://",
        "https://user:password@example.com",
        "https://example.com/#fragment",
        "https://exa mple.com",
        "https://example.com:0x50",
        "https://10.0.0.8/hook",
        "https://[::1]/",
    ],
)
async def test_addresses_that_cannot_be_called_are_refused(api: Api, url: str):
    said = await api.call("PUT", "/api/v1/webhooks/bad", {"url": url})
    assert (said.status, said.pointers) == (422, ["/url"]), said.body


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"url": URL, "events": ["delivery.lost"]}, "unknown_event"),
        ({"url": URL, "secret": "whsec_mine"}, "unknown_field"),
        ({"events": []}, "missing_field"),
    ],
)
async def test_bodies_that_cannot_be_used_are_refused(api: Api, body, code: str):
    said = await api.call("PUT", "/api/v1/webhooks/bad", body)
    assert (said.status, said.code) == (422, code)


async def test_a_tenant_has_a_bounded_number_of_them(api: Api):
    for n in range(20):
        said = await api.call("PUT", f"/api/v1/webhooks/many-{n}", {"url": URL})
        if said.status != 200:
            break
    assert (said.status, said.code) == (422, "invalid")
    for n in range(20):
        await api.call("DELETE", f"/api/v1/webhooks/many-{n}")


async def test_a_test_call_is_signed_with_both_secrets_while_one_takes_the_place_of_the_other(api: Api):
    heard = []

    async def receiver(talk: Talk) -> None:
        while True:
            heard.append(await talk.request())
            await talk.say(answer(204))

    async with playing(receiver) as peer:
        first = await put(api, "tried", url=f"{peer.origin}/hook?shop=1")
        second = await put(api, "tried", url=f"{peer.origin}/hook?shop=1", rotate_secret=True)
        said = await api.call("POST", "/api/v1/webhooks/tried/test", {})
    assert said.body == {"told": True, "code": "http_204"}
    head, _, body = heard[0].decode().partition("\r\n\r\n")
    request, *lines = head.split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    assert request == "POST /hook?shop=1 HTTP/1.1"
    for secret in (first["secret"], second["secret"]):
        assert standardwebhooks.Webhook(secret).verify(body, headers)["type"] == "webhook.test"
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook((await put(api, "other-secret"))["secret"]).verify(body, headers)
    await api.call("DELETE", "/api/v1/webhooks/tried")


async def test_a_test_call_says_what_went_wrong(api: Api):
    async with playing(lambda talk: talk.say(b"nonsense\r\n\r\n")) as peer:
        await put(api, "broken", url=peer.origin)
        said = await api.call("POST", "/api/v1/webhooks/broken/test", {})
    assert said.body["told"] is False and said.body["code"] in ("garbled", "truncated", "reset")
    said = await api.call("POST", "/api/v1/webhooks/broken/test", {})
    assert said.body == {"told": False, "code": "connect_refused"}


async def test_how_long_one_has_been_failing_is_shown(api: Api):
    await put(api, "failing")
    id_ = (await stored(api, "failing"))["id"]
    await api.edge.webhooks.failed(id_, "http_500")
    await api.edge.webhooks.failed(id_, "timeout")
    shown = (await get(api, "failing")).body["failing"]
    assert shown["code"] == "timeout"
    assert datetime.fromisoformat(shown["since"]) > datetime.now(UTC) - timedelta(minutes=1)
    assert not await api.edge.webhooks.disable_failing(id_, 3600.0), "not for that long yet"
    assert await api.edge.webhooks.disable_failing(id_, 0.0)
    assert not await api.edge.webhooks.disable_failing(id_, 0.0), "once"
    await api.edge.reload()
    body = (await get(api, "failing")).body
    assert (body["enabled"], body["disabled_because"]) == (False, "failing")
    again = await put(api, "failing")
    assert (again["enabled"], again["failing"]) == (True, None)


async def test_an_old_address_that_is_gone_does_not_disable_the_new_one(api: Api):
    await put(api, "moved")
    id_ = (await stored(api, "moved"))["id"]
    assert not await api.edge.webhooks.disable_gone(id_, "https://old.example.com")
    assert await api.edge.webhooks.disable_gone(id_, URL)


async def test_secrets_never_show_themselves(api: Api):
    made = await put(api, "quiet")
    (known,) = [one for one in api.edge.catalogs().webhooks.values() if one.name == "quiet"]
    assert known.signing[0].secret == made["secret"]
    assert made["secret"] not in repr(known) and made["secret"] not in json.dumps(repr(api.edge.catalogs().webhooks))


async def untold(api: Api) -> list[Disabled]:
    return [one for one in await api.edge.webhooks.untold() if one.name == "watched"]


async def test_that_one_was_disabled_is_untold_until_somebody_says_so(api: Api):
    await put(api, "watched")
    row = await stored(api, "watched")
    await api.edge.webhooks.failed(row["id"], "http_500")
    assert await api.edge.webhooks.disable_failing(row["id"], 0.0)
    (one,) = await untold(api)
    at = (await stored(api, "watched"))["disabled_at"]
    assert one == Disabled(row["id"], row["tenant"], "watched", at, "failing")
    await api.edge.webhooks.told(replace(one, at=at - timedelta(seconds=1)))
    assert await untold(api) == [one], "what was told is another time that it was disabled"
    await api.edge.webhooks.told(one)
    assert await untold(api) == []
    await put(api, "watched")
    assert await api.edge.webhooks.disable_gone(row["id"], URL)
    assert [one.because for one in await untold(api)] == ["gone"]
    await put(api, "watched", enabled=False)
    assert await untold(api) == [], "whoever puts it knows"

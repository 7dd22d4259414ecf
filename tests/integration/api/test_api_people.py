"""Users and their addresses."""

import asyncio
import uuid

import pytest

from tests.integration.api.rig import Api
from tidings.domain.ids import ShardNumber, UserId, slot_of
from tidings.domain.lanes import Channel

ADA = {
    "emails": ["ada@example.com", "ada@work.example"],
    "phones": ["+33123456789"],
    "whatsapp": [],
    "push_tokens": ["token-1"],
    "zone": "Europe/Paris",
    "locale": "fr-FR",
    "attributes": {"name": "Ada", "vip": True, "n": {"a": [1, 2.5, None]}},
}


def path(user: str | None = None) -> str:
    return f"/api/v1/users/{user or 'user-' + uuid.uuid4().hex}"


async def test_what_was_put_comes_back(api: Api):
    user = path()
    put = await api.call("PUT", user, ADA)
    got = await api.call("GET", user)
    assert (put.status, got.status) == (200, 200), put.body
    assert put.body == got.body
    assert {name: got.body[name] for name in ADA} == ADA
    assert put.headers["etag"] == got.headers["etag"] == '"1"'


async def test_put_replaces_and_patch_merges(api: Api):
    user = path()
    await api.call("PUT", user, ADA)
    change = {"emails": ["new@example.com"], "zone": None, "attributes": {"vip": None, "n": {"b": 1}}}
    patched = await api.call("PATCH", user, change)
    assert patched.body["emails"] == ["new@example.com"] and patched.body["phones"] == ADA["phones"]
    assert patched.body["zone"] is None
    assert patched.body["attributes"] == {"name": "Ada", "n": {"a": [1, 2.5, None], "b": 1}}
    assert patched.headers["etag"] == '"2"'
    put = await api.call("PUT", user, {"emails": ["only@example.com"]})
    assert (put.body["emails"], put.body["phones"], put.body["attributes"]) == (["only@example.com"], [], {})
    assert put.body == (await api.call("GET", user)).body


async def test_whatsapp_is_like_the_telephone_until_somebody_says_otherwise(api: Api):
    user, first, second = path(), "+33123456789", "+33198765432"

    async def after(method: str, body: dict) -> tuple[list[str], list[str]]:
        said = await api.call(method, user, body)
        assert said.body == (await api.call("GET", user)).body
        return said.body["phones"], said.body["whatsapp"]

    assert await after("PUT", {"phones": [first]}) == ([first], [first])
    assert await after("PATCH", {"phones": [second]}) == ([second], [second])
    assert await after("PATCH", {"whatsapp": [first]}) == ([second], [first])
    assert await after("PATCH", {"phones": [first, second]}) == ([first, second], [first])
    assert await after("PATCH", {"whatsapp": []}) == ([first, second], [])
    assert await after("PATCH", {"zone": "UTC"}) == ([first, second], [])
    assert await after("PATCH", {"whatsapp": None}) == ([first, second], [first, second])
    assert await after("PUT", {"phones": [first], "whatsapp": []}) == ([first], [])


async def test_a_patch_may_be_declared_as_a_merge_patch(api: Api):
    user, raw = path(), b'{"emails": ["new@example.com"]}'
    await api.call("PUT", user, ADA)
    declared = {"Content-Type": "application/merge-patch+json; charset=utf-8"}
    said = await api.call("PATCH", user, data=raw, headers=declared)
    assert (said.status, said.body["emails"]) == (200, ["new@example.com"]), said.body
    assert (await api.call("PUT", user, data=raw, headers=declared)).status == 415


async def test_addresses_take_their_normal_form(api: Api):
    said = await api.call("PUT", path(), {"emails": ["Ada@EXAMPLE.com", "x@bücher.example"]})
    assert said.body["emails"] == ["Ada@example.com", "x@xn--bcher-kva.example"]


async def test_a_change_nobody_saw_is_not_overwritten(api: Api):
    user = path()
    first = await api.call("PUT", user, ADA)
    await api.call("PUT", user, {})
    stale = {"If-Match": first.headers["etag"]}
    for method, body in (("PUT", ADA), ("PATCH", {"zone": "UTC"}), ("DELETE", None)):
        said = await api.call(method, user, body, headers=stale)
        assert (said.status, said.code) == (412, "precondition_failed"), method
    assert (await api.call("PUT", user, ADA, headers={"If-Match": '"2"'})).status == 200
    assert (await api.call("PUT", path(), ADA, headers={"If-Match": '"1"'})).status == 412
    assert (await api.call("PUT", path(), ADA, headers={"If-Match": "nonsense"})).status == 412


async def test_patches_at_the_same_time_all_count(api: Api):
    user = path()
    await api.call("PUT", user, {})
    patches = [api.call("PATCH", user, {"attributes": {str(n): n}}) for n in range(4)]
    assert {one.status for one in await asyncio.gather(*patches)} == {200}
    assert (await api.call("GET", user)).body["attributes"] == {str(n): n for n in range(4)}


async def test_a_deleted_user_is_gone_with_the_addresses(api: Api):
    name = f"user-{uuid.uuid4().hex}"
    await api.call("PUT", path(name), ADA)
    gone = await api.call("DELETE", path(name))
    assert (gone.status, gone.raw) == (204, b"")
    for method in ("GET", "DELETE", "PATCH"):
        assert (await api.call(method, path(name), {} if method == "PATCH" else None)).status == 404
    assert await api.system.rows("SELECT 1 FROM address WHERE user_id = $1", name) == []


async def test_a_batch_of_users_goes_to_both_shards(api: Api):
    names = [f"batch-{uuid.uuid4().hex}" for _ in range(50)]
    users = [{"id": name, "emails": [f"{name}@example.com"], "attributes": {"n": n}} for n, name in enumerate(names)]
    said = await api.call("POST", "/api/v1/users/batch", {"users": users})
    assert (said.status, said.body) == (200, {"stored": 50})
    shards = {api.system.catalog.shard(slot_of(api.system.tenant, UserId(name))) for name in names}
    assert shards == {ShardNumber(0), ShardNumber(1)}
    for n in (0, 49):
        assert (await api.call("GET", path(names[n]))).body["attributes"] == {"n": n}
    assert (await api.call("POST", "/api/v1/users/batch", {"users": []})).body == {"stored": 0}


async def test_a_bad_user_of_a_batch_is_named_and_nobody_is_stored(api: Api):
    name = f"batch-{uuid.uuid4().hex}"
    for bad, pointer in (
        ({"id": "x", "emails": ["no"]}, "/users/1/emails/0"),
        ({"id": "~x"}, "/users/1/id"),
        ({"id": "x", "zone": "Nowhere"}, "/users/1/zone"),
        ({"id": name}, "/users/1/id"),
        ({"id": "x", "mails": []}, "/users/1/mails"),
        ({}, "/users/1/id"),
    ):
        said = await api.call("POST", "/api/v1/users/batch", {"users": [{"id": name}, bad]})
        assert (said.status, said.pointers) == (422, [pointer]), said.body
    assert (await api.call("GET", path(name))).status == 404


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"emails": "ada@example.com"}, "/emails"),
        ({"emails": [1]}, "/emails/0"),
        ({"emails": ["a@b.example"] * 21}, "/emails"),
        ({"emails": ["a@b.example\nBcc: c@d.example"]}, "/emails/0"),
        ({"zone": "Europe"}, "/zone"),
        ({"zone": 1}, "/zone"),
        ({"attributes": []}, "/attributes"),
        ({"attributes": {"a": "\0"}}, "/attributes/a"),
        ({"nonsense": 1}, "/nonsense"),
    ],
)
async def test_an_unusable_field_of_a_user_is_named(api: Api, body, pointer):
    user = path()
    await api.call("PUT", user, {})
    for method in ("PUT", "PATCH"):
        said = await api.call(method, user, body)
        assert (said.status, said.pointers) == (422, [pointer]), said.body


async def test_a_notification_goes_to_the_address_that_the_user_has(api: Api):
    name = f"user-{uuid.uuid4().hex}"
    await api.call("PUT", path(name), {"emails": ["now@example.com"]})
    rows = await api.system.rows("SELECT value, hash FROM address WHERE user_id = $1", name)
    assert [(row["value"], len(row["hash"])) for row in rows] == [("now@example.com", 16)]
    assert bytes(rows[0]["hash"]) == api.core.address_hash(api.system.tenant, Channel.email, "NOW@example.com")

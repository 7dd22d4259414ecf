"""Categories, templates, senders, providers, routes, keys: what one call writes the next one uses."""

import uuid

import pytest

from tests.integration.api.rig import Api


def named(of: str) -> str:
    return f"/api/v1/{of}/name-{uuid.uuid4().hex[:12]}"


async def test_a_category_is_put_and_used_at_once(api: Api):
    path = named("categories")
    body = {"class": "promotional", "channels": ["email"], "in_doubt": "at_most_once", "expires_after_s": 60}
    put = await api.call("PUT", path, body)
    assert put.status == 200, put.body
    assert put.body == (await api.call("GET", path)).body
    assert put.body == {**body, "name": path.rpartition("/")[2], "required": False}
    content = {"subject": "a", "text": "b"}
    said = await api.send({"to": "ada", "content": content, "category": put.body["name"]})
    assert said.status == 202
    story = await api.call("GET", f"/api/v1/notifications/{said.body['id']}")
    assert story.body["expires_at"] is not None


async def test_a_template_is_compiled_stored_and_used_at_once(api: Api):
    path = named("templates")
    name = path.rpartition("/")[2]
    first = await api.call("PUT", path, {"content": {"subject": "Hi {{ name }}", "text": "x"}})
    second = await api.call("PUT", path, {"content": {"subject": "Hello {{ name }}", "text": "y"}, "category": "news"})
    assert (first.status, second.status) == (200, 200), first.body
    assert second.body["version"] != first.body["version"] and second.body["category"] == "news"
    got = await api.call("GET", path)
    assert got.body == second.body
    assert {part for part, text in got.body["content"].items() if text} == {"subject", "text"}
    said = await api.send({"to": "ada", "template": name, "data": {"name": "Ada"}})
    story = await api.call("GET", f"/api/v1/notifications/{said.body['id']}")
    assert (story.body["category"], story.body["template_version"]) == ("news", second.body["version"])


@pytest.mark.parametrize(
    ("body", "code", "pointer"),
    [
        ({"content": {"subject": "{{ name", "text": "x"}}, "template_fault", "/content/subject"),
        ({"content": {}}, "template_fault", "/content"),
        ({"content": {"text": "a", "channels": {"fax": {"text": "x"}}}}, "template_fault", "/content/channels/fax"),
        ({"content": {"subjects": "a"}}, "unknown_field", "/content/subjects"),
        ({"content": {"subject": "a", "text": "b"}, "category": "absent"}, "unknown_category", "/category"),
        ({}, "missing_field", "/content"),
    ],
)  # fmt: skip
async def test_a_faulty_template_is_not_stored(api: Api, body, code, pointer):
    path = named("templates")
    said = await api.call("PUT", path, body)
    assert (said.status, said.code, said.pointers) == (422, code, [pointer]), said.body
    assert (await api.call("GET", path)).status == 404


async def test_a_sender_is_put_for_each_channel(api: Api):
    path = named("senders")
    body = {"channels": {"email": {"email": "Shop@EXAMPLE.com", "name": "The Shop"}}}
    put = await api.call("PUT", path, body)
    assert put.status == 200, put.body
    assert put.body["channels"] == {"email": {"email": "Shop@example.com", "name": "The Shop"}}
    assert put.body == (await api.call("GET", path)).body
    content = {"subject": "a", "text": "b"}
    assert (await api.send({"to": "ada", "content": content, "sender": put.body["name"]})).status == 202


@pytest.mark.parametrize(
    ("identity", "pointer"),
    [
        ({"email": "no"}, "/channels/email/email"),
        ({"email": "a@b.example", "name": "a\r\nBcc: x@y.example"}, "/channels/email/name"),
        ({"email": "a@b.example", "name": "=?utf-8?q?=0A?="}, "/channels/email/name"),
        ({"email": "a@b.example", "nonsense": "x"}, "/channels/email/nonsense"),
    ],
)
async def test_a_sender_that_could_forge_headers_is_refused(api: Api, identity, pointer):
    said = await api.call("PUT", named("senders"), {"channels": {"email": identity}})
    assert (said.status, said.pointers) == (422, [pointer])


async def test_a_senders_unknown_channel_is_refused(api: Api):
    said = await api.call("PUT", named("senders"), {"channels": {"pigeon": {}}})
    assert (said.status, said.code) == (422, "unknown_channel")


async def test_credentials_are_written_and_never_shown(api: Api):
    path = named("providers")
    name = path.rpartition("/")[2]
    put = await api.call("PUT", path, {"kind": "sendgrid", "settings": {"api_key": "SG.canary"}})
    assert put.status == 200, put.body
    more = await api.call("PUT", path, {"kind": "sendgrid", "settings": {"url": "http://127.0.0.1:1"}})
    got, listed = await api.call("GET", path), await api.call("GET", "/api/v1/providers")
    assert got.body["settings"] == ["api_key", "url"] and more.body == got.body
    assert got.body["receipts_path"].startswith("/api/v1/receipts/sendgrid/")
    assert name in [one["name"] for one in listed.body["items"]]
    assert all(b"SG." not in one.raw for one in (put, more, got, listed))


async def test_a_route_names_providers_of_its_channel_in_order(api: Api):
    names = []
    for _ in range(2):
        path = named("providers")
        await api.call("PUT", path, {"kind": "sendgrid", "settings": {"api_key": "x"}})
        names.append(path.rpartition("/")[2])
    before = (await api.call("GET", "/api/v1/routes/email")).body["providers"]
    put = await api.call("PUT", "/api/v1/routes/email", {"providers": names})
    assert put.body == {"channel": "email", "providers": names, "rules": []}
    assert put.body == (await api.call("GET", "/api/v1/routes/email")).body
    bad = await api.call("PUT", "/api/v1/routes/email", {"providers": [names[0], "absent"]})
    assert (bad.code, bad.pointers) == ("unknown_provider", ["/providers/1"])
    assert (await api.call("GET", "/api/v1/routes/pigeon")).status == 404
    await api.call("PUT", "/api/v1/routes/email", {"providers": before})


async def test_an_unknown_kind_of_provider_is_refused(api: Api):
    said = await api.call("PUT", named("providers"), {"kind": "pigeon", "settings": {}})
    assert (said.status, said.code, said.pointers) == (422, "unknown_provider", ["/kind"])


async def test_a_new_key_works_at_once_and_is_listed_without_its_secret(api: Api):
    made = await api.call("POST", "/api/v1/keys", {"name": "web", "scopes": ["read", "read"]})
    assert (made.status, made.body["scopes"]) == (201, ["read"])
    key = made.body["key"]
    assert (await api.call("GET", "/api/v1/users/nobody", key=key)).status == 404
    listed = await api.call("GET", "/api/v1/keys")
    assert key.split("_")[2] in [one["public_id"] for one in listed.body["items"]] and listed.body["next"] is None
    assert key.rpartition("_")[2].encode() not in listed.raw
    unknown = await api.call("POST", "/api/v1/keys", {"name": "web", "scopes": ["all"]})
    assert (unknown.status, unknown.code) == (422, "unknown_scope")


async def test_a_key_gives_no_more_than_it_has(api: Api):
    limited = (await api.call("POST", "/api/v1/keys", {"name": "m", "scopes": ["manage"]})).body["key"]
    said = await api.call("POST", "/api/v1/keys", {"name": "x", "scopes": ["send"]}, limited)
    assert (said.status, said.code) == (403, "scope")


@pytest.mark.parametrize("of", ["categories", "templates", "senders", "providers", "users"])
async def test_what_is_not_there_is_a_404(api: Api, of):
    said = await api.call("GET", named(of))
    assert (said.status, said.code) == (404, "not_found")


async def test_settings_that_no_adapter_can_use_are_refused_before_they_are_stored(api: Api):
    path = named("providers")
    said = await api.call("PUT", path, {"kind": "sendgrid", "settings": {"api_key": "SG.canary", "url": "ftp://x"}})
    assert (said.status, said.pointers) == (422, ["/settings"]), said.body
    assert b"canary" not in said.raw
    assert (await api.call("GET", path)).status == 404

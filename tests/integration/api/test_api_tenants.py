"""Two tenants, every endpoint, every id swapped: what belongs to another does not exist."""

from tests.integration.api.rig import Api

CONTENT = {"subject": "Hi", "text": "Hello"}


async def test_nothing_of_another_tenant_can_be_seen_or_changed(api: Api):
    mine = (await api.send({"to": "shared-user", "content": CONTENT, "reference": "shared-ref"})).body
    await api.call("PUT", "/api/v1/users/shared-user", {"emails": ["mine@example.com"]})
    await api.call("PUT", "/api/v1/categories/private", {"class": "promotional", "channels": ["email"]})
    await api.call("PUT", "/api/v1/senders/private", {"channels": {"email": {"email": "me@example.com"}}})
    await api.call("PUT", "/api/v1/providers/private", {"kind": "sendgrid", "settings": {"api_key": "x"}})
    await api.call("PUT", "/api/v1/suppressions/email/held@example.com")
    id_, delivery = mine["id"], mine["deliveries"][0]["id"]
    swapped = [
        ("GET", f"/notifications/{id_}", None),
        ("POST", f"/notifications/{id_}/cancel", None),
        ("GET", "/users/shared-user", None),
        ("PATCH", "/users/shared-user", {"emails": []}),
        ("DELETE", "/users/shared-user", None),
        ("GET", "/categories/private", None),
        ("GET", "/templates/order_confirmation", None),
        ("GET", "/senders/private", None),
        ("GET", "/providers/private", None),
        ("GET", "/suppressions/email/held@example.com", None),
        ("DELETE", "/suppressions/email/held@example.com", None),
    ]
    for method, path, body in swapped:
        said = await api.call(method, "/api/v1" + path, body, api.other)
        assert (said.status, said.code) == (404, "not_found"), (method, path, said.body)
    for path in ("/users/shared-user/notifications", "/notifications?user=shared-user",
                 "/notifications?reference=shared-ref"):  # fmt: skip
        assert (await api.call("GET", "/api/v1" + path, key=api.other)).body["items"] == [], path
    recent = (await api.call("GET", "/api/v1/notifications?limit=200", key=api.other)).body["items"]
    assert id_ not in [one["id"] for one in recent]
    assert delivery not in str((await api.call("GET", "/api/v1/dead-letters", key=api.other)).body)
    story = (await api.call("GET", f"/api/v1/notifications/{id_}")).body
    assert story["status"] == "queued"
    assert (await api.call("GET", "/api/v1/users/shared-user")).body["emails"] == ["mine@example.com"]


async def test_another_tenants_names_cannot_be_used(api: Api):
    await api.call("PUT", "/api/v1/providers/private", {"kind": "sendgrid", "settings": {"api_key": "x"}})
    await api.call("PUT", "/api/v1/senders/private", {"channels": {"email": {"email": "me@example.com"}}})
    for body, code in (
        ({"to": "x", "template": "order_confirmation"}, "unknown_template"),
        ({"to": "x", "content": CONTENT, "category": "news"}, "unknown_category"),
        ({"to": "x", "content": CONTENT, "sender": "private"}, "unknown_sender"),
    ):
        assert (await api.send(body, api.other)).code == code
    said = await api.call("PUT", "/api/v1/routes/email", {"providers": ["private"]}, api.other)
    assert said.code == "unknown_provider"


async def test_one_name_of_two_tenants_is_two_things(api: Api):
    for key, address in (("", "mine@example.com"), (api.other, "theirs@example.com")):
        await api.call("PUT", "/api/v1/users/both", {"emails": [address]}, key)
        await api.call("PUT", "/api/v1/senders/both", {"channels": {"email": {"email": address}}}, key)
    for key, address in (("", "mine@example.com"), (api.other, "theirs@example.com")):
        assert (await api.call("GET", "/api/v1/users/both", key=key)).body["emails"] == [address]
        assert (await api.call("GET", "/api/v1/senders/both", key=key)).body["channels"]["email"]["email"] == address


async def test_lists_hold_only_what_is_ones_own(api: Api):
    await api.call("PUT", "/api/v1/providers/private", {"kind": "sendgrid", "settings": {"api_key": "x"}})
    keys = (await api.call("GET", "/api/v1/keys", key=api.other)).body["items"]
    assert [one["public_id"] for one in keys] == [api.other.split("_")[2]]
    providers = (await api.call("GET", "/api/v1/providers", key=api.other)).body["items"]
    assert [one["name"] for one in providers] == ["sendgrid"]


async def test_dead_letters_of_another_tenant_stay_where_they_are(api: Api):
    said = await api.send({"to": "x", "content": CONTENT}, api.other)
    delivery = said.body["deliveries"][0]["id"]
    update = "UPDATE dispatch SET state = 4, lane = 3, reason = 'theirs' WHERE id = $1"
    await api.system.rows(update, delivery)
    for act in ("replay", "discard"):
        for chosen in ({"ids": [delivery]}, {"reason": "theirs"}):
            said = await api.call("POST", f"/api/v1/dead-letters/{act}", chosen)
            assert (said.body["ids"], said.body["more"]) == ([], False)
    assert (await api.call("PATCH", f"/api/v1/dead-letters/{delivery}", {"address": "a@b.example"})).status == 404
    assert delivery not in str((await api.call("GET", "/api/v1/dead-letters/each?reason=theirs")).body)
    done = await api.call("POST", "/api/v1/dead-letters/replay", {"reason": "theirs"}, api.other)
    assert done.body["ids"] == [delivery]

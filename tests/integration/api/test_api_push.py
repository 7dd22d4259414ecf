"""Push tokens in the API: those of a user, and those that come with a call."""

import uuid

from tests.integration.api.rig import Api

CONTENT = {"title": "Hi", "body": "Hello"}


async def addresses(api: Api, said) -> list[str | None]:
    """Where the notification's deliveries go, as far as it is known."""
    assert said.status == 202, said.body
    story = await api.call("GET", f"/api/v1/notifications/{said.body['id']}")
    return [one["address"] for one in story.body["deliveries"]]


def push(to, **more):
    return {"to": to, "content": CONTENT, "channels": ["push"], **more}


async def test_each_token_of_a_call_has_a_delivery_of_its_own(api: Api):
    said = await api.send(push({"user": "ada", "push_tokens": ["phone", "tablet", "phone"]}))
    assert [one["channel"] for one in said.body["deliveries"]] == ["push", "push"]
    assert {one["status"] for one in said.body["deliveries"]} == {"queued"}
    assert sorted(await addresses(api, said)) == ["phone", "tablet"]


async def test_without_tokens_the_users_own_are_looked_up_when_it_is_sent(api: Api):
    for to in ("ada", {"user": "ada", "push_tokens": []}):
        assert await addresses(api, await api.send(push(to))) == [None]


async def test_a_repeated_key_answers_with_all_of_them(api: Api):
    body = push({"user": f"u-{uuid.uuid4().hex}", "push_tokens": ["phone", "tablet"]})
    first, again = [await api.send(body, Idempotency_Key="push-1") for _ in range(2)]
    assert again.headers["idempotent-replayed"] == "true"
    assert {one["id"] for one in first.body["deliveries"]} == {one["id"] for one in again.body["deliveries"]}


async def test_a_hundred_tokens_are_taken_and_one_more_is_refused(api: Api):
    tokens = [f"token-{n}" for n in range(101)]
    assert len(await addresses(api, await api.send(push({"push_tokens": tokens[:100]})))) == 100
    refused = await api.send(push({"push_tokens": tokens}))
    assert (refused.status, refused.pointers) == (422, ["/to/push_tokens"])


async def test_a_recipient_without_a_user_is_known_by_the_first_usable_token(api: Api):
    said = [await api.send(push({"push_tokens": tokens})) for tokens in (["a b", "phone", "tablet"], ["phone"])]
    users = [(await api.call("GET", f"/api/v1/notifications/{one.body['id']}")).body["user"] for one in said]
    assert users[0] == users[1] and users[0].startswith("~")
    assert sorted(await addresses(api, said[0])) == ["phone", "tablet"]


async def test_where_no_token_is_usable_the_first_flaw_is_named(api: Api):
    refused = await api.send(push({"push_tokens": ["a b", "\u00e9"]}))
    assert (refused.status, refused.pointers) == (422, ["/to/push_tokens/0"])
    beside = await api.send(push({"user": "ada", "push_tokens": ["a b"]}))
    assert await addresses(api, beside) == [None]


async def test_a_users_tokens_are_checked_when_they_are_stored(api: Api):
    refused = await api.call("PUT", "/api/v1/users/grace", {"push_tokens": ["fine", "not fine"]})
    assert (refused.status, refused.pointers) == (422, ["/push_tokens/1"])


async def test_content_that_is_too_large_for_a_push_is_refused_where_it_stands(api: Api):
    refused = await api.send({"to": "ada", "channels": ["push"], "content": {"title": "T", "text": "x" * 4000}})
    assert (refused.status, refused.pointers) == (422, ["/content/text"])

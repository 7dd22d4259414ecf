import pytest_asyncio

from tests.integration.api_rig import Api, serving


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def api(postgres, tmp_path_factory):
    async with serving(postgres, tmp_path_factory.mktemp("api")) as running:
        yield running


HELLO = {"to": {"user": "ada", "email": "ada@example.com"}, "content": {"subject": "Hi", "text": "Hello"}}


async def test_an_accepted_notification_is_in_the_shard_before_the_answer(api: Api) -> None:
    said = await api.send(HELLO)
    assert said.status == 202, said.body
    assert said.body["status"] == "queued"
    assert [one["channel"] for one in said.body["deliveries"]] == ["email"]
    print(said.body, said.headers)
    told = await api.call("GET", f"/api/v1/notifications/{said.body['id']}")
    assert told.status == 200, told.body
    print(told.body)

"""For how many users a channel is on: set, shown, refused."""

import pytest

from tests.integration.api.rig import Api


async def test_a_channel_is_on_for_everybody_until_somebody_says_otherwise(api: Api):
    listed = await api.call("GET", "/api/v1/rollouts", key=api.other)
    assert {one["channel"]: one["percent"] for one in listed.body["items"]}["email"] == 100


async def test_a_share_is_set_for_one_tenant_and_shown(api: Api):
    put = await api.call("PUT", "/api/v1/rollouts/email", {"percent": 12.5})
    try:
        assert (put.status, put.body) == (200, {"channel": "email", "percent": 12.5})
        assert (await api.call("GET", "/api/v1/rollouts/email")).body == put.body
        assert put.body in (await api.call("GET", "/api/v1/rollouts")).body["items"]
        assert (await api.call("GET", "/api/v1/rollouts/email", key=api.other)).body["percent"] == 100
    finally:
        await api.call("PUT", "/api/v1/rollouts/email", {"percent": 100})


@pytest.mark.parametrize("percent", [-0.1, 100.1, "many", None, True])
async def test_what_is_no_share_is_refused(api: Api, percent):
    said = await api.call("PUT", "/api/v1/rollouts/email", {"percent": percent})
    assert (said.status, said.pointers) == (422, ["/percent"])


async def test_a_channel_that_does_not_exist_has_no_share(api: Api):
    assert (await api.call("GET", "/api/v1/rollouts/pigeon")).status == 404
    assert (await api.call("PUT", "/api/v1/rollouts/pigeon", {"percent": 1})).status == 404

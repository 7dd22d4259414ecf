"""The suppression list: kept, shown, lifted; by calls, by receipts, and for every user with the address."""

import json
import uuid
from urllib.parse import quote

import pytest

from tests.integration.api.rig import Api, Said
from tests.integration.api.test_api_receipts import Webhook, event, sent, webhook
from tidings.domain.lanes import Channel

__all__ = ["webhook"]
PATH = "/api/v1/suppressions"


def somebody() -> str:
    return f"{uuid.uuid4().hex}@example.com"


def path(address: str, channel: str = "email") -> str:
    return f"{PATH}/{channel}/{quote(address, safe='')}"


async def reasons(api: Api, address: str, key: str = "") -> list[str]:
    """What is held against an address; nothing where the list does not know it."""
    said = await api.call("GET", path(address), key=key)
    assert said.status in (200, 404), said.body
    return [one["reason"] for one in said.body["reasons"]] if said.status == 200 else []


async def by_shard(api: Api, address: str) -> list[list[tuple[str, bool]]]:
    """What each shard has of it, and knows that the others have it: reasons, and whether they are lifted."""
    hash_ = api.core.address_hash(api.system.tenant, Channel.email, address)
    statement = "SELECT reason, lifted FROM suppression WHERE hash = $1 AND spread ORDER BY reason"
    async with api.system.open() as shards:
        return [[tuple(row) for row in await shards.fetch(n, statement, hash_)] for n in shards.numbers]


async def test_an_address_is_put_on_the_list_shown_and_lifted(api: Api):
    address = somebody()
    assert (await api.call("GET", path(address))).status == 404
    put = await api.call("PUT", path(address), {"reason": "complaint"})
    assert (put.status, put.body["channel"], put.body["address"]) == (200, "email", address)
    [held] = put.body["reasons"]
    assert (held["reason"], held["delivery"]) == ("complaint", None)
    assert (await api.call("GET", path(address))).body == put.body
    assert (await api.call("PUT", path(address), {"reason": "complaint"})).body == put.body, "it was said before"
    assert (await api.call("PUT", path(address))).body["reasons"] == [
        held,
        *_manual(await api.call("GET", path(address))),
    ]
    assert (await api.call("DELETE", path(address))).status == 204
    assert (await api.call("GET", path(address))).code == "not_found"
    assert (await api.call("DELETE", path(address))).code == "not_found"
    assert (await api.call("PUT", path(address))).status == 200, "what was lifted can be held again"


def _manual(said: Said) -> list:
    return [one for one in said.body["reasons"] if one["reason"] == "manual"]


async def test_every_shard_has_the_whole_list(api: Api):
    address = somebody()
    await api.call("PUT", path(address), {"reason": "stop"})
    assert await by_shard(api, address) == [[("stop", False)]] * 2
    await api.call("DELETE", path(address))
    assert await by_shard(api, address) == [[("stop", True)]] * 2


async def test_an_address_is_found_however_it_is_written_and_its_text_is_not_kept(api: Api):
    name = uuid.uuid4().hex
    await api.call("PUT", path(f"{name}@Example.com"))
    assert await reasons(api, f"{name.upper()}@example.COM") == ["manual"]
    kept = await api.system.rows("SELECT suppression::text AS row FROM suppression")
    assert kept and not any(name in one["row"] or "example.com" in one["row"] for one in kept)


@pytest.mark.parametrize("reason", ["hard_bounce", "complaint", "stop", "unsubscribe", "manual"])
async def test_each_reason_stands_for_itself(api: Api, reason: str):
    address = somebody()
    assert (await api.call("PUT", path(address), {"reason": reason})).status == 200
    assert await reasons(api, address) == [reason]


@pytest.mark.parametrize(
    ("address", "channel", "body", "status", "code"),
    [
        ("no address", "email", {}, 422, "invalid"),
        ("a@example.com", "carrier_pigeon", {}, 404, "not_found"),
        ("a@example.com", "email", {"reason": "unregistered"}, 422, "invalid"),
        ("a@example.com", "email", {"since": 1}, 422, "unknown_field"),
    ],
)
async def test_what_cannot_be_held_is_refused(api: Api, address, channel, body, status, code):
    said = await api.call("PUT", path(address, channel), body)
    assert (said.status, said.code) == (status, code), said.body


async def test_the_list_is_paged_to_its_end(api: Api):
    key = await _key(api, "listing")
    addresses = [somebody() for _ in range(7)]
    for address in addresses:
        await api.call("PUT", path(address), {"reason": "complaint"}, key)
    await api.call("PUT", path(addresses[0]), {"reason": "stop"}, key)
    await api.call("DELETE", path(addresses[6]), key=key)
    seen, after = [], ""
    while after is not None:
        page = (await api.call("GET", f"{PATH}?limit=3&channel=email{after}", key=key)).body
        seen += [(one["hash"], one["reason"]) for one in page["items"]]
        after = f"&after={page['next']}" if page["next"] else None
    assert len(seen) == len(set(seen)) == 7
    assert sorted(reason for _, reason in seen) == ["complaint"] * 6 + ["stop"]
    assert len({hash_ for hash_, _ in seen}) == 6
    for wrong in ("after=x", "after=1.zz.stop", "after=99.00.stop", "channel=pigeon", "limit=0", "x=1"):
        assert (await api.call("GET", f"{PATH}?{wrong}", key=key)).status == 422, wrong


async def _key(api: Api, name: str) -> str:
    """Of a new tenant."""
    tenant = await api.system.control.put_tenant(f"{name}-{uuid.uuid4().hex}")
    key = await api.system.control.create_key(tenant, name)
    await api.edge.reload()
    return key


async def test_the_list_is_each_tenants_own(api: Api):
    address = somebody()
    await api.call("PUT", path(address))
    assert await reasons(api, address, api.other) == []
    assert (await api.call("DELETE", path(address), key=api.other)).code == "not_found"
    await api.call("PUT", path(address), {"reason": "stop"}, api.other)
    assert await reasons(api, address) == ["manual"]
    listed = (await api.call("GET", f"{PATH}?limit=200", key=api.other)).body["items"]
    assert len([one for one in listed if one["reason"] == "manual"]) == 0


async def test_a_key_needs_the_scope(api: Api):
    address = somebody()
    reading, sending = [
        await api.system.control.create_key(api.system.tenant, scope, [scope]) for scope in ("read", "send")
    ]
    await api.edge.reload()
    for key, method, status in (
        (reading, "PUT", 403),
        (reading, "DELETE", 403),
        (reading, "GET", 404),
        (sending, "GET", 403),
        (sending, "PUT", 403),
    ):
        assert (await api.call(method, path(address), key=key)).status == status, (method, status)


BOUNCE = {"event": "bounce", "type": "bounce", "reason": "550 no such user"}


async def test_a_receipt_that_says_an_address_is_gone_puts_it_on_the_list(api: Api, webhook: Webhook):
    address, (_, reference) = somebody(), await sent(api)
    told = event(reference, **BOUNCE, email=address)
    await webhook.tell(told)
    assert await reasons(api, address) == [], "the delivery knows best where it went"
    assert "hard_bounce" in await reasons(api, "a@example.com")
    await api.call("DELETE", path("a@example.com"))
    await webhook.tell(told)
    assert await reasons(api, "a@example.com") == [], "what was told before is not told again"


async def test_the_address_of_a_user_counts_before_the_delivery_has_noted_it(api: Api, webhook: Webhook):
    address, user = somebody(), uuid.uuid4().hex
    await api.call("PUT", f"/api/v1/users/{user}", {"emails": [address]})
    said = await api.send({"to": user, "content": {"subject": "Hi", "text": "Hello"}})
    reference = uuid.UUID(said.body["deliveries"][0]["id"]).hex + "-1"
    await webhook.tell(event(reference, event="spamreport", email=address.upper()))
    assert await reasons(api, address) == ["complaint"]
    [held] = (await api.call("GET", path(address))).body["reasons"]
    assert held["delivery"] == said.body["deliveries"][0]["id"]


async def test_a_receipt_without_a_delivery_speaks_for_the_address_in_every_shard(api: Api, webhook: Webhook):
    address = somebody()
    at = 1_700_000_000
    await webhook.tell(event(None, event="unsubscribe", email=address, timestamp=at))
    assert await reasons(api, address) == ["unsubscribe"]
    assert await by_shard(api, address) == [[("unsubscribe", False)]] * 2
    await webhook.tell(event(None, event="group_resubscribe", email=address, timestamp=at + 60))
    assert await reasons(api, address) == []
    await webhook.tell(event(None, event="unsubscribe", email=address, timestamp=at + 30))
    assert await reasons(api, address) == [], "an older word that comes late"
    await webhook.tell(event(None, event="unsubscribe", email=address, timestamp=at + 90))
    assert await reasons(api, address) == ["unsubscribe"]
    assert await reasons(api, address, api.other) == []


async def test_who_comes_back_lifts_only_what_they_took_back(api: Api, webhook: Webhook):
    address = somebody()
    for n, kind in enumerate(("spamreport", "unsubscribe", "group_resubscribe")):
        await webhook.tell(event(None, event=kind, email=address, timestamp=1_700_000_000 + n))
    assert await reasons(api, address) == ["complaint"]


async def test_receipts_of_one_address_in_any_order_end_the_same(api: Api, webhook: Webhook):
    at = 1_700_000_000
    kinds = ["unsubscribe", "group_resubscribe", "unsubscribe", "spamreport"]
    for turn in range(4):
        address = somebody()
        told = [event(None, event=kind, email=address, timestamp=at + n) for n, kind in enumerate(kinds)]
        await webhook.tell(*told[turn:], *told[:turn])
        assert await reasons(api, address) == ["complaint", "unsubscribe"], turn


async def test_what_a_provider_dates_in_the_future_can_be_lifted(api: Api, webhook: Webhook):
    address = somebody()
    await webhook.tell(event(None, event="unsubscribe", email=address, timestamp=4_000_000_000))
    assert (await api.call("DELETE", path(address))).status == 204
    assert await reasons(api, address) == []


async def test_opens_and_clicks_are_shown_apart_from_the_status(api: Api, webhook: Webhook):
    id_, reference = await sent(api)
    at = 1_700_000_000
    opens = [event(reference, event="open", timestamp=at + n) for n in (30, 10, 20)]
    machine = event(reference, event="open", sg_machine_open=True)
    for told in ([*opens, machine], [opens[1]], [event(reference, event="click", timestamp=at + 40)]):
        await webhook.tell(*told)
    story = (await api.call("GET", f"/api/v1/notifications/{id_}")).body
    [delivery] = story["deliveries"]
    assert delivery["status"] == "queued"
    assert delivery["engagement"] == {
        "opened": {"first_at": "2023-11-14T22:13:30.000Z", "count": 3},
        "clicked": {"first_at": "2023-11-14T22:14:00.000Z", "count": 1},
    }
    lines = [line["what"] for line in story["timeline"]]
    assert (lines.count("opened"), lines.count("clicked"), lines.count("receipt: open")) == (3, 1, 1)
    assert json.dumps(delivery["receipts"]).count('"opened"') == 3

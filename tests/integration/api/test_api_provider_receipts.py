"""FAULTS 30 to 35 for every provider with webhooks: they come early, often, in any order, from strangers, at once."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from msgspec.structs import replace
from provider_case import REFERENCE, Case, Sign, Webhook
from provider_cases import CASES

from tests.integration.api.rig import Api, Said, furnish, serving
from tidings.ports import WebhookCall

ADDRESSES = {"email": "ada@example.com", "phone": "+12025550143"}
SENDERS = {"sms": {"number": "+15005550006"}, "whatsapp": {"phone_number_id": "106540352242922"}}
CONTENT = {"subject": "Hi", "text": "Hello", "body": "Hello"}
SPEAKING = {kind: case for kind, case in CASES.items() if case.sign}
every_provider_with_webhooks = pytest.mark.parametrize("case", SPEAKING.values(), ids=SPEAKING)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def api(postgres: Any, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Api]:
    """With callers' systems that want to know everything, and nobody who tells them."""
    system, *keys = await furnish(postgres)
    async with serving(system, (keys[0], keys[1]), tmp_path_factory.mktemp("receipts")) as running:
        await put(running, "senders/default", {"channels": SENDERS})
        await put(running, "webhooks/all", {"url": "http://127.0.0.1:9/"})
        yield running


async def put(api: Api, path: str, body: Any, key: str = "") -> Any:
    said = await api.call("PUT", f"/api/v1/{path}", body, key)
    assert said.status == 200, said.raw
    return said.body


class Provider:
    """The other side of an account: it calls the address of the account's webhooks."""

    def __init__(self, api: Api, case: Case, path: str) -> None:
        self.api, self.case, self.path = api, case, path
        self.url = api.edge.public_url.rstrip("/") + path

    @classmethod
    async def of(cls, api: Api, case: Case, key: str = "") -> "Provider":
        known = {name: value for name, value in case.settings.items() if name != "receipts_url"}
        settings = {**known, "url": f"{case.dialect.scheme}://127.0.0.1:9"}
        body = {"kind": case.kind, "settings": settings}
        return cls(api, case, (await put(api, f"providers/{case.kind}-told", body, key))["receipts_path"])

    def call(self, one: Webhook, reference: str, n: int = 0, sign: Sign | None = None) -> WebhookCall:
        """This webhook, signed, about this reference; another ``n`` makes it another event."""
        by = sign or self.case.sign
        assert by is not None
        body, query = numbered(one, n).replace(REFERENCE.encode(), reference.encode()), one.query
        return by(WebhookCall(self.url + query.replace(REFERENCE, reference), {}, body))

    async def post(self, call: WebhookCall) -> Said:
        _, mark, query = call.url.partition("?")
        path = self.path + mark + query
        return await self.api.call("POST", path, key=None, data=call.body, headers=call.headers)

    async def tell(self, *calls: WebhookCall) -> None:
        for call in calls:
            said = await self.post(call)
            assert said.status == 204, said.raw

    def can_be_sent(self, call: WebhookCall, right: WebhookCall) -> bool:
        """Does it differ from the right one in what travels? Its address is ours, and headers have no blanks around
        them."""
        at, there = call.url.partition("?")[0], {name: value.strip() for name, value in call.headers.items()}
        return at == self.url and (call.url, call.body, there) != (right.url, right.body, right.headers)


def numbered(one: Webhook, n: int) -> bytes:
    """The same under another id: that of the event, or of the message that tells it or that it is about."""
    (receipt,) = one.receipts
    key = receipt.event_key
    ids = (key, key[: -len(receipt.kind) - 1], key.partition(" ")[2])
    id_ = next(id_ for id_ in ids if id_ and id_.encode() in one.body)
    return one.body.replace(id_.encode(), f"{id_}{n or ''}".encode())


def saying(case: Case, *statuses: str | None) -> Webhook:
    """The first webhook of its row that says the first of these that its provider has words for, and nothing of the
    address."""
    plain = [one for one in case.webhooks.values() if len(one.receipts) == 1 and one.receipts[0].gone is None]
    return next(one for status in statuses for one in plain if one.receipts[0].status == status)


async def accepted(api: Api, case: Case) -> tuple[str, str]:
    """A notification that no worker has seen yet, and the reference of its first call to come."""
    body = {"to": {"user": uuid.uuid4().hex, **ADDRESSES}, "channels": [case.channel.name], "content": CONTENT}
    said = await api.send(body)
    assert said.status == 202, said.raw
    return said.body["id"], uuid.UUID(said.body["deliveries"][0]["id"]).hex + "-1"


async def delivery(api: Api, id_: str) -> dict[str, Any]:
    (one,) = (await api.call("GET", f"/api/v1/notifications/{id_}")).body["deliveries"]
    return dict(one)


async def filed(api: Api, id_: str) -> list[str]:
    return sorted(one["kind"] for one in (await delivery(api, id_))["receipts"])


@every_provider_with_webhooks
async def test_a_receipt_that_comes_before_its_call_is_on_record_counts_and_is_the_end_of_it(api: Api, case: Case):
    provider = await Provider.of(api, case)
    id_, reference = await accepted(api, case)
    await provider.tell(provider.call(saying(case, "delivered"), reference))
    one = await delivery(api, id_)
    assert (one["status"], one["due_at"], len(one["receipts"])) == ("delivered", None, 1)
    assert [(said["n"], said["outcome"], said["code"]) for said in one["attempts"]] == [(1, "sent", "receipt")]
    assert await api.system.rows("SELECT FROM dispatch WHERE id = $1", uuid.UUID(one["id"])) == []


@every_provider_with_webhooks
async def test_a_receipt_told_46_times_at_once_is_one_row_and_one_callback(api: Api, case: Case):
    provider = await Provider.of(api, case)
    id_, reference = await accepted(api, case)
    call = provider.call(saying(case, "delivered"), reference)
    answers = await asyncio.gather(*(provider.post(call) for _ in range(46)))
    assert {said.status for said in answers} == {204}
    one = await delivery(api, id_)
    assert (one["status"], len(one["receipts"])) == ("delivered", 1)
    told = await api.system.rows("SELECT status FROM callback WHERE delivery_id = $1", uuid.UUID(one["id"]))
    assert len(told) == 1


@every_provider_with_webhooks
async def test_receipts_out_of_order_never_move_a_status_back(api: Api, case: Case):
    provider = await Provider.of(api, case)
    id_, reference = await accepted(api, case)
    delivered, earlier = saying(case, "delivered"), saying(case, "sent", None)
    for n, one in enumerate((delivered, earlier, delivered, earlier)):
        await provider.tell(provider.call(one, reference, n))
        assert (await delivery(api, id_))["status"] == "delivered"
    assert len(await filed(api, id_)) == 4


@every_provider_with_webhooks
async def test_what_another_may_have_sent_is_refused_and_changes_nothing(api: Api, case: Case):
    provider = await Provider.of(api, case)
    id_, reference = await accepted(api, case)
    right = provider.call(saying(case, "delivered"), reference)
    forged = [one for one in case.forgeries(right) if provider.can_be_sent(one, right)]
    forged.append(provider.call(saying(case, "delivered"), reference, sign=case.sign_as_stranger))
    forged.append(replace(right, headers={}, body=saying(case, "delivered").body))
    for call in forged:
        said = await provider.post(call)
        assert (said.status, said.code) == (401, "forged"), call
    one = await delivery(api, id_)
    assert (one["status"], one["receipts"]) == ("queued", [])
    await provider.tell(right)
    assert (await delivery(api, id_))["status"] == "delivered"


@every_provider_with_webhooks
async def test_another_tenants_genuine_receipt_cannot_touch_a_delivery(api: Api, case: Case):
    stranger = await Provider.of(api, case, api.other)
    id_, reference = await accepted(api, case)
    await stranger.tell(stranger.call(saying(case, "delivered"), reference))
    one = await delivery(api, id_)
    assert (one["status"], one["receipts"]) == ("queued", [])


@every_provider_with_webhooks
async def test_a_recorded_call_that_is_replayed_changes_nothing(api: Api, case: Case):
    provider = await Provider.of(api, case)
    id_, reference = await accepted(api, case)
    recorded = provider.call(saying(case, "sent", None), reference)
    await provider.tell(recorded, provider.call(saying(case, "delivered"), reference, 1))
    before = await delivery(api, id_)
    await provider.tell(recorded, recorded)
    assert await delivery(api, id_) == before
    assert before["status"] == "delivered"


@every_provider_with_webhooks
async def test_a_flood_is_taken_or_told_to_come_again_and_sending_goes_on(api: Api, case: Case):
    id_, reference = await accepted(api, case)
    statuses = list[int]()
    async with api.limited(receipts_waiting_max=2) as narrow:
        provider = await Provider.of(narrow, case)

        async def until_heard(n: int) -> None:
            while True:
                said = await provider.post(provider.call(saying(case, "delivered"), reference, n))
                statuses.append(said.status)
                if said.status == 204:
                    return
                assert int(said.headers["Retry-After"]) >= 1
                await asyncio.sleep(0.05)

        flooding = asyncio.gather(*(until_heard(n) for n in range(1, 101)))
        others = await asyncio.gather(*(accepted(narrow, case) for _ in range(10)))
        await flooding
    assert set(statuses) == {204, 503}
    assert len(await filed(api, id_)) == 100
    for other, _ in others:
        assert (await delivery(api, other))["status"] == "queued"

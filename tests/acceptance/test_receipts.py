"""FAULTS 30 to 35: receipts that come early, often, in any order, from strangers, again, or all at once."""

import asyncio
import base64
import os
from collections.abc import AsyncIterator, Mapping
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from tests.acceptance.elsewhere import Webhooks, attempts, event, metric, put, webhooks
from tests.system import System, until
from tidings.sandbox.sendgrid import SIGNATURE, TIMESTAMP
from tidings.sandbox.signing import SigningKey

FORGED = "tidings_receipts_forged_total"
REPEATED = "tidings_receipts_repeated_total"


@pytest_asyncio.fixture
async def calls(system: System) -> AsyncIterator[Webhooks]:
    async with webhooks(system) as one:
        yield one


async def sent(system: System) -> tuple[str, str]:
    """A notification that the provider took and says nothing of, and its reference."""
    await system.receipts(share_delivered=0)
    id_ = await system.send()
    delivery = (await system.becomes(id_, "sent"))["deliveries"][0]
    return id_, f"{delivery['id'].replace('-', '')}-1"


async def filed(system: System, id_: str) -> list[str]:
    return [one["kind"] for one in (await system.get(id_))["deliveries"][0]["receipts"]]


@pytest.mark.parametrize("fault", ["slow", "accept_then_hang"])
async def test_a_receipt_that_comes_before_the_answer_is_kept_and_counts(system: System, fault: str):
    await system.receipts(delay_ms=0)
    await system.fault(fault, **({"delay_ms": 900} if fault == "slow" else {}))
    ids = await asyncio.gather(*(system.send() for _ in range(5)))
    heard_first = 0
    for id_ in ids:
        story = await system.becomes(id_, "delivered")
        heard_first += attempts(story) == []
    assert heard_first, "every answer came before its receipt: nothing was shown"
    await system.settled()
    for id_ in ids:
        story = await system.get(id_)
        assert story["status"] == "delivered"
        said = {("sent", "accepted")} if fault == "slow" else {("unsure", "timeout"), ("sent", "receipt")}
        assert len(attempts(story)) == 1
        assert set(attempts(story)) <= said
        assert sorted(await filed(system, id_)) == ["delivered", "processed"]
    assert (await system.stats())["accepted"] == 5
    await system.check()


async def test_a_receipt_told_46_times_is_one_row(system: System):
    repeated_before = await metric(system, REPEATED)
    called_before = (await system.stats())["webhooks"]["calls"]
    await system.receipts(repeat=46, delay_ms=100)
    ids = await asyncio.gather(*(system.send() for _ in range(3)))
    for id_ in ids:
        await system.becomes(id_, "delivered")

    async def all_told() -> bool:
        return (await system.stats())["webhooks"]["calls"] >= called_before + 46

    await until(all_told, 30, "the last repetition")
    for id_ in ids:
        assert sorted(await filed(system, id_)) == ["delivered", "processed"]
    assert await metric(system, REPEATED) >= repeated_before + 45 * 2 * 3
    await system.check()


async def test_receipts_in_any_order_never_move_a_status_back(system: System, calls: Webhooks):
    id_, reference = await sent(system)
    seen = []
    for kind in ("delivered", "processed", "deferred", "open", "delivered"):
        await calls.tell(event(reference, kind))
        seen.append((await system.get(id_))["status"])
    assert seen == ["delivered"] * 5
    assert sorted(await filed(system, id_)) == ["deferred", "delivered", "open", "processed"]

    await system.receipts(shuffle=True, repeat=5, delay_ms=50)
    ids = await asyncio.gather(*(system.send() for _ in range(20)))
    for one in ids:
        await system.becomes(one, "delivered")
    await system.check()


async def test_a_bounce_after_the_delivery_is_the_last_word(system: System, calls: Webhooks):
    id_, reference = await sent(system)
    for kind, status in (("delivered", "delivered"), ("bounce", "undelivered"), ("delivered", "undelivered")):
        await calls.tell(event(reference, kind, sg_event_id=os.urandom(8).hex()))
        assert (await system.get(id_))["status"] == status
    await system.check()


async def test_what_is_not_signed_by_the_accounts_own_key_changes_nothing(system: System, calls: Webhooks):
    id_, reference = await sent(system)
    other = SigningKey.fresh()
    settings = {"api_key": "SG.other", "webhook_public_key": other.public_base64}
    path = (await put(system, "/providers/other", {"kind": "sendgrid", "settings": settings}))["receipts_path"]

    events = [event(reference)]
    body, right = calls.signed(events)
    der = base64.b64decode(right[SIGNATURE])
    forgeries: list[tuple[bytes, Mapping[str, str]]] = [
        (body, without(right, SIGNATURE)),
        (body, without(right, TIMESTAMP)),
        (body, without(right, SIGNATURE, TIMESTAMP)),
        (body, {**right, SIGNATURE: ""}),
        (body, {**right, SIGNATURE: right[SIGNATURE][:-8]}),
        (body, {**right, SIGNATURE: base64.b64encode(der[:-3]).decode()}),
        (body, {**right, SIGNATURE: base64.b64encode(der[:-1] + bytes([der[-1] ^ 1])).decode()}),
        (body, {**right, SIGNATURE: base64.b64encode(os.urandom(71)).decode()}),
        (body, {**right, SIGNATURE: "€" * 20}),
        (body, {**right, SIGNATURE: "A" * 5000}),
        (body, {**right, TIMESTAMP: str(int(right[TIMESTAMP]) + 1)}),
        (body, {**right, TIMESTAMP: "€"}),
        (body + b" ", right),
        (body.replace(b"delivered", b"bounce   "), right),
        (b"", right),
        calls.signed(events, other),
    ]
    counted = await metric(system, FORGED)
    for forged, headers in forgeries:
        status, said = await calls.post(forged, headers)
        assert (status, b'"forged"' in said) == (401, True), (headers, said)
    status, _ = await calls.post(body, right, path)
    assert status == 401, "signed by the key of another account"
    assert await metric(system, FORGED) == counted + len(forgeries) + 1
    for wrong in (path[:-1], path.replace("sendgrid", "mailgun"), f"{path}/more", f"{calls.path}%00"):
        assert (await calls.post(body, right, wrong))[0] == 404

    story = await system.get(id_)
    assert (story["status"], await filed(system, id_)) == ("sent", [])
    assert not system.events("api", "LoopFailed")
    assert (await calls.post(body, right))[0] == 204
    assert (await system.get(id_))["status"] == "delivered"
    await system.check()


def without(headers: Mapping[str, str], *names: str) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name not in names}


async def test_another_tenants_genuine_receipt_cannot_touch_a_delivery(system: System, calls: Webhooks):
    """The test twin's account is told, rightly signed, of a delivery that is not its tenant's."""
    id_, reference = await sent(system)
    (twin,) = await control(
        system,
        "SELECT kind, receipt_token FROM account JOIN tenant ON tenant.id = account.tenant "
        "WHERE twin_of IS NOT NULL AND kind = 'sendgrid'",
    )
    status, said = await calls.post(*calls.signed([event(reference)]), f"/api/v1/receipts/{twin[0]}/{twin[1]}")
    assert status == 204, said
    assert ((await system.get(id_))["status"], await filed(system, id_)) == ("sent", [])
    assert await strays(system, f"delivered-{reference}") == 1
    await system.check()


async def test_a_replayed_webhook_is_told_apart_even_with_its_old_timestamp(system: System, calls: Webhooks):
    id_, reference = await sent(system)
    recorded = calls.signed([event(reference)], at_s=1_600_112_502)
    for _ in range(3):
        assert (await calls.post(*recorded))[0] == 204
    story = await system.get(id_)
    assert (story["status"], await filed(system, id_)) == ("delivered", ["delivered"])
    finished_at = story["deliveries"][0]["finished_at"]
    assert (await calls.post(*recorded))[0] == 204
    assert (await system.get(id_))["deliveries"][0]["finished_at"] == finished_at
    await system.check()


async def test_receipts_that_name_no_delivery_of_ours_are_kept_apart_and_acted_on_never(
    system: System, calls: Webhooks
):
    id_, reference = await sent(system)
    nobody = reference.replace(reference[20:32], os.urandom(6).hex())
    names = [nobody, f"{reference}9" * 9, "not-ours", "", None, "\ud7ff" * 200, "0" * 32 + "-1"]
    keys = [os.urandom(8).hex() for _ in names]
    told = [event(name, sg_event_id=key) for name, key in zip(names, keys, strict=True)]
    for _ in range(2):
        await calls.tell(*told)
    await calls.tell(event(reference), event("not-ours", sg_event_id=keys[0]))
    assert (await system.get(id_))["status"] == "delivered", "a stray beside it does no harm"
    assert [await strays(system, key) for key in keys] == [1] * len(keys)
    await system.check()


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"{}", b"null", b"[1, null, []]", b"[" * 20_000, b'[{"event": "delivered"}]', b"\xff"]
)
async def test_a_genuine_webhook_that_makes_no_sense_is_no_fault_of_ours(system: System, calls: Webhooks, body: bytes):
    status, said = await calls.post(body, signed_raw(calls, body))
    assert status == 204, said
    assert not system.events("api", "LoopFailed")


def signed_raw(calls: Webhooks, body: bytes) -> dict[str, str]:
    return {TIMESTAMP: "1600112502", SIGNATURE: calls.key.sign(b"1600112502" + body)}


async def test_a_flood_of_receipts_is_taken_or_told_to_come_again_while_mail_still_goes_out(
    system: System, calls: Webhooks
):
    id_, reference = await sent(system)
    flood = [calls.signed([event(reference, "open", sg_event_id=f"{n}-{k}") for k in range(10)]) for n in range(300)]
    statuses: list[int] = []

    async def until_heard(call: tuple[bytes, dict[str, str]]) -> None:
        while True:
            status, _ = await calls.post(*call)
            statuses.append(status)
            if status == 204:
                return
            await asyncio.sleep(0.2)

    flooding = asyncio.gather(*(until_heard(call) for call in flood))
    others = await asyncio.gather(*(system.send() for _ in range(10)))
    for one in others:
        await system.becomes(one, "sent", timeout_s=15)
    await flooding
    assert set(statuses) <= {204, 503}
    assert len(await filed(system, id_)) == 3000
    assert (await system.get(id_))["status"] == "sent"
    await system.check()


async def strays(system: System, key: str) -> int:
    return len(await control(system, "SELECT FROM stray_receipt WHERE event_key = $1", key))


async def control(system: System, statement: str, *values: Any) -> list[asyncpg.Record]:
    """From the control database."""
    connection = await asyncpg.connect(system.dsns[0])
    try:
        return await connection.fetch(statement, *values)
    finally:
        await connection.close()

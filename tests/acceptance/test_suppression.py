"""FAULTS 64 and what goes with it: addresses that are gone, and what people do with what arrived."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from tests.acceptance.test_commands import tidings
from tests.system import System, until


def somebody() -> str:
    return f"{uuid4().hex}@example.com"


async def send(system: System, address: str, **more: Any) -> str:
    """One to this address, of a user of its own."""
    user = uuid4().hex
    return await system.send(user=user, to={"user": user, "email": address}, **more)


async def reasons(system: System, address: str) -> list[str]:
    status, said, _ = await system.ask("GET", f"/suppressions/email/{address}")
    return [one["reason"] for one in said["reasons"]] if status == 200 else []


async def held(system: System, address: str, *wanted: str) -> None:
    """Returns once the list says so, in both shards."""

    async def there() -> bool:
        unspread = await system.rows("SELECT FROM suppression WHERE NOT spread")
        return await reasons(system, address) == list(wanted) and not unspread

    await until(there, 30, f"{address} to be held for {', '.join(wanted)}")


async def ends(system: System, id_: str) -> tuple[str, str | None]:
    """The status and the reason of a delivery that is done."""
    [delivery] = (await system.becomes(id_, "suppressed", "delivered", "undelivered"))["deliveries"]
    return delivery["status"], delivery["reason"]


SUPPRESSED = ("suppressed", "suppressed")


async def test_what_was_accepted_before_is_not_sent_after_its_address_was_suppressed(system: System):
    """FAULTS 64."""
    addresses = [somebody() for _ in range(6)]
    soon = (datetime.now(UTC) + timedelta(seconds=6)).isoformat()
    ids = [await send(system, address, send_at=soon) for address in addresses]
    for address in addresses[:3]:
        status, said, _ = await system.ask("PUT", f"/suppressions/email/{address}", {"reason": "complaint"})
        assert status == 200, said
    assert {(await system.get(id_))["status"] for id_ in ids} == {"scheduled"}, "too slow: nothing is shown"
    for address, id_ in zip(addresses, ids, strict=True):
        assert await ends(system, id_) == (SUPPRESSED if address in addresses[:3] else ("delivered", None))
    taken = {item["to"] for item in await system.taken()}
    assert taken == set(addresses[3:])
    await system.check()


async def test_an_address_that_bounced_is_written_to_no_more_by_anybody_until_it_is_lifted(system: System):
    address = somebody()
    await system.receipts(share_delivered=0, share_bounced=1, delay_ms=0)
    first = await send(system, address)
    assert (await ends(system, first))[0] == "undelivered"
    await held(system, address, "hard_bounce")
    _, said, _ = await system.ask("GET", f"/suppressions/email/{address}")
    [delivery] = (await system.get(first))["deliveries"]
    assert said["reasons"][0]["delivery"] == delivery["id"]

    others = [await send(system, address) for _ in range(12)]
    shards = {await shard_of(system, id_) for id_ in others}
    assert shards == {0, 1}, "nobody lives in one of the shards: nothing is shown"
    for id_ in others:
        assert await ends(system, id_) == SUPPRESSED
    [delivery] = (await system.get(others[0]))["deliveries"]
    assert delivery["detail"] == f"hard_bounce since {said['reasons'][0]['at'][:19]}Z"
    assert (await system.get(others[0]))["timeline"][-1]["detail"] == delivery["detail"]
    assert (await system.stats())["accepted"] == 1

    await system.receipts()
    assert (await system.ask("DELETE", f"/suppressions/email/{address}"))[0] == 204
    assert await ends(system, await send(system, address)) == ("delivered", None)
    await system.check()


async def shard_of(system: System, id_: str) -> int:
    found = [await system.shard_rows(shard, "SELECT FROM notification WHERE id = $1", id_) for shard in (0, 1)]
    return found.index(next(rows for rows in found if rows))


@pytest.mark.parametrize(
    ("reaction", "reason", "transactional"),
    [("complained", "complaint", SUPPRESSED), ("unsubscribed", "unsubscribe", ("delivered", None))],
)
async def test_who_complains_gets_nothing_more_and_who_unsubscribes_no_news(
    system: System, reaction: str, reason: str, transactional: tuple[str, str | None]
):
    address = somebody()
    await system.receipts(delay_ms=0, shuffle=True, repeat=3, **{f"share_{reaction}": 1})
    assert (await ends(system, await send(system, address)))[0] == "delivered"
    await held(system, address, reason)
    await system.receipts(delay_ms=0)
    assert await ends(system, await send(system, address, category="news")) == SUPPRESSED
    assert await ends(system, await send(system, address)) == transactional
    await system.check()


async def test_what_people_do_with_a_mail_is_shown_and_is_no_status(system: System):
    await system.receipts(delay_ms=0, repeat=3, shuffle=True, share_opened=1, share_clicked=1)
    id_ = await send(system, somebody())

    async def engaged() -> Any:
        [delivery] = (await system.get(id_))["deliveries"]
        return delivery if len(delivery["engagement"]) == 2 and delivery["status"] == "delivered" else None

    delivery = await until(engaged, 30, "the click to be known")
    assert {what: one["count"] for what, one in delivery["engagement"].items()} == {"opened": 1, "clicked": 1}
    told = [line["what"] for line in (await system.get(id_))["timeline"]]
    assert {"opened", "clicked", "receipt: delivered"} <= set(told)
    await system.check()


async def test_a_test_keys_notification_arrives_and_its_list_is_its_own(system: System):
    code, out, err = await tidings("keys", "create", "twin", "--test", "--data-dir", str(system.data_dir))
    assert code == 0, err
    address, key = somebody(), {"Authorization": f"Bearer {out.strip()}"}
    await system.ask("PUT", f"/suppressions/email/{address}")
    body = {"to": {"email": address}, "content": {"subject": "Hello", "text": "A try."}}

    async def accepted() -> Any:
        status, said, _ = await system.ask("POST", "/notifications", body, **key)
        return said["id"] if status == 202 else None

    id_ = await until(accepted, 30, "the new key to work")

    async def delivered() -> bool:
        return (await system.ask("GET", f"/notifications/{id_}", **key))[1]["status"] == "delivered"

    await until(delivered, 30, "the twin's notification to be delivered")
    assert (await system.ask("GET", f"/suppressions/email/{address}", **key))[0] == 404
    assert [item["to"] for item in await system.taken()] == [address]


async def test_the_list_is_worked_with_from_the_terminal(system: System):
    place = ("--data-dir", str(system.data_dir))
    ada, bob = somebody(), somebody()
    assert (await tidings("suppressions", "show", "email", ada, *place))[0] == 1
    code, out, err = await tidings("suppressions", "add", "email", ada, bob, ada, "--reason", "stop", *place)
    assert (code, out) == (0, "2 on the list\n"), err
    code, out, err = await tidings("suppressions", "show", "email", ada, "--json", *place)
    assert (code, msgspec.json.decode(out)["reasons"][0]["reason"]) == (0, "stop"), err
    code, out, err = await tidings("suppressions", "list", "--json", *place)
    assert code == 0, err
    assert [one["reason"] for one in msgspec.json.decode(out)["items"]].count("stop") >= 2
    assert "stop" in (await tidings("suppressions", "list", "--channel", "email", *place))[1]
    code, out, err = await tidings("suppressions", "remove", "email", ada, bob, *place)
    assert (code, out) == (0, "2 lifted\n"), err
    code, _, err = await tidings("suppressions", "remove", "email", ada, *place)
    assert code == 1 and ada in err
    code, _, err = await tidings("suppressions", "add", "email", "no address", *place)
    assert code == 1 and "no address" in err

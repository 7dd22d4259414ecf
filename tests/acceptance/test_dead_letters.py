"""Dead letters as an operator works with them: looked at, mended and sent after all, with real processes and from the
terminal. FAULTS 54: what one notification does to its worker, it does to itself, and a person can mend it."""

import asyncio
import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from tests.acceptance.elsewhere import attempts, put
from tests.acceptance.test_commands import tidings
from tests.system import System

RATE = 4.0
CONTENT = {"subject": "Order {{ order.number }}", "text": "Thank you, {{ name }}, for {{ order.number }}."}
MENDED = {"subject": "Order by {{ name }}", "text": "Thank you."}


@pytest_asyncio.fixture
async def template(system: System) -> str:
    """One that needs what nobody gives it."""
    name = f"letters-{uuid.uuid4().hex[:8]}"
    await put(system, f"/templates/{name}", {"content": CONTENT})
    return name


async def dead(system: System, template: str, count: int = 1, **more: Any) -> Sequence[dict[str, Any]]:
    """The deliveries of notifications that cannot be rendered."""
    sends = [system.send(template=template, data={"name": "Ada"}, **more) for _ in range(count)]
    stories = [await system.becomes(id_, "dead") for id_ in await asyncio.gather(*sends)]
    return [story["deliveries"][0] for story in stories]


async def said(system: System, *words: str) -> str:
    """What a command prints on stdout."""
    code, out, err = await tidings("dead-letters", *words, "--data-dir", str(system.data_dir))
    assert code == 0, err
    return out


async def said_json(system: System, *words: str) -> dict[str, Any]:
    return dict(msgspec.json.decode(await said(system, *words, "--json")))


async def in_the_ledger(system: System, delivery: str) -> list[dict[str, Any]]:
    """What providers took of it."""
    return [one for one in await system.taken() if one["reference"].startswith(delivery.replace("-", ""))]


async def notification(system: System, delivery: str) -> str:
    _, said, _ = await system.ask("GET", f"/dead-letters/{delivery}")
    return str(said["notification"]["id"])


async def test_a_wrong_address_and_missing_data_are_mended_and_the_mail_arrives(system: System, template: str):
    mate = await system.send()
    [letter] = await dead(system, template)
    await system.becomes(mate, "delivered")
    id_ = await notification(system, letter["id"])
    shown = await said(system, "show", letter["id"])
    assert "cannot be sent" in shown and "undefined" in shown
    words = ("--address", "Right@Example.com", "--data", '{"order": {"number": 7}}')
    edited = await said_json(system, "edit", letter["id"], *words)
    assert edited["preview"] == {"content": {"subject": "Order 7", "text": "Thank you, Ada, for 7."}, "fault": None}
    assert "1 replayed" in await said(system, "replay", letter["id"])
    story = await system.becomes(id_, "delivered")
    assert story["deliveries"][0]["address"] == "Right@example.com"
    assert attempts(story) == [("sent", "accepted")]
    lines = [line["what"] for line in story["timeline"]]
    assert [what for what in lines if what in ("buried", "edited", "replayed")] == ["buried", "edited", "replayed"]
    [taken] = await in_the_ledger(system, letter["id"])
    assert (taken["to"], taken["content"]["subject"]) == ("Right@example.com", "Order 7")
    await system.check()


async def test_a_wrong_number_is_mended_and_the_sms_arrives(system: System, template: str):
    to = {"user": f"u-{uuid.uuid4().hex}", "phone": "+12025550143"}
    key, body = system.wanted(template=template, data={"name": "Ada"}, channels=["sms"])
    id_, _ = await system.insist(key, {**body, "to": to})
    [letter] = (await system.becomes(id_, "dead"))["deliveries"]
    for wrong in ("12", "somebody@example.com"):
        code, _, err = await tidings(
            "dead-letters", "edit", letter["id"], "--address", wrong, "--data-dir", str(system.data_dir)
        )
        assert (code, "/address" in err) == (1, True), err
    await said(system, "edit", letter["id"], "--address", "+1 (202) 555-0199", "--content", '{"text": "By hand"}')
    await said(system, "replay", letter["id"])
    await system.becomes(id_, "delivered")
    [taken] = await in_the_ledger(system, letter["id"])
    assert (taken["to"], taken["content"]["text"]) == ("+12025550199", "By hand")
    await system.check()


async def test_a_mended_template_is_used_by_all_that_are_replayed_at_a_rate(system: System, template: str):
    letters = await dead(system, template, 10)
    ids = {one["id"] for one in letters}
    listed = await said_json(system, "list", "--template", template)
    assert [(one["reason"], one["count"], one["template"]) for one in listed["items"]] == [
        ("template_error", 10, template)
    ]
    assert template in await said(system, "list", "--template", template)
    await put(system, f"/templates/{template}", {"content": MENDED})
    words = ("--template", template, "--rate", str(RATE), "--newest-template")
    dry = await said_json(system, "replay", *words, "--dry-run")
    assert set(dry["ids"]) == ids
    span = [datetime.fromisoformat(dry[name]) for name in ("first_due_at", "last_due_at")]
    assert (span[1] - span[0]).total_seconds() == pytest.approx(9 / RATE, abs=0.01)
    done = await said_json(system, "replay", *words)
    assert set(done["ids"]) == ids
    began = datetime.fromisoformat(done["first_due_at"])
    for letter in ids:
        story = await system.get(await whose(system, letter))
        await system.becomes(story["id"], "delivered")
    taken = [(await in_the_ledger(system, letter))[0] for letter in ids]
    assert {one["content"]["subject"] for one in taken} == {"Order by Ada"}
    went = sorted(datetime.fromisoformat(one["accepted_at"]) for one in taken)
    for n, at in enumerate(went):
        assert (at - began).total_seconds() >= n / RATE - 0.05, "none goes before its time"
    await system.check()


async def whose(system: System, delivery: str) -> str:
    """The notification of a delivery, dead or not."""
    rows = await system.rows("SELECT notification_id FROM delivery WHERE id = $1", uuid.UUID(delivery))
    return str(rows[0]["notification_id"])


async def test_what_is_given_up_says_why(system: System, template: str):
    first, second = await dead(system, template, 2)
    id_ = await notification(system, first["id"])
    assert "1 would be discarded" in await said(system, "discard", first["id"], "--dry-run")
    assert (await system.get(id_))["deliveries"][0]["reason"] == "template_error"
    assert "1 discarded" in await said(system, "discard", first["id"], "--because", "the order was cancelled")
    [delivery] = (await system.get(id_))["deliveries"]
    assert (delivery["status"], delivery["reason"]) == ("dead", "the order was cancelled")
    each = await said_json(system, "list", "--each", "--template", template)
    assert [one["id"] for one in each["items"]] == [second["id"]]
    assert second["id"] in await said(system, "list", "--each", "--template", template)
    code, _, err = await tidings("dead-letters", "show", first["id"], "--data-dir", str(system.data_dir))
    assert (code, "not_found" in err) == (1, True)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("show", "somebody"), 2),
        (("replay",), 2),
        (("discard",), 2),
        (("edit", str(uuid.uuid4())), 2),
        (("edit", str(uuid.uuid4()), "--data", "{"), 2),
        (("edit", str(uuid.uuid4()), "--data", "@/no/such/file"), 1),
        (("edit", str(uuid.uuid4()), "--data", "{}"), 1),
        (("list", "--provider", "nobody"), 1),
        (("replay", "--reason", "x", "--rate", "-1"), 2),
        (("replay", "--reason", "x", "--since", "yesterday"), 1),
    ],
)
async def test_what_cannot_be_is_said_in_a_line(system: System, words: Sequence[str], code: int):
    found, _, err = await tidings("dead-letters", *words, "--data-dir", str(system.data_dir))
    assert found == code, err
    assert "Traceback" not in err

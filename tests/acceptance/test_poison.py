"""FAULTS 54 and 57: what one notification or one template does to harm others, it does to itself."""

import asyncio
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from tests.acceptance.elsewhere import attempts, put
from tests.system import System, until
from tidings.bench.ledger import Call
from tidings.domain.ids import first_at

LOOP = "{% for i in range(99999) %}"
END = "{% endfor %}"
HOSTILE = {
    # name: a subject, and what its dead letter says
    "loops for ever": (LOOP + LOOP + END + END, "too many steps"),
    "burns the CPU": (LOOP + "{{ ('x'*50000000)|length }}" + END, "CPU"),
    "makes half a gigabyte": ("{{ '%500000000s'|format('x') }}", "memory"),
    "calls itself": ("{% macro f(n) %}{{ f(n+1) }}{% endmacro %}{{ f(1) }}", "recursion"),
    "misses its data": ("{{ absent.field }}", "undefined"),
    "says too much": (LOOP + "xxxxxxxxxxxxxxxxxxxx" + END, "longer than"),
}
ITEM_CPU_S = 1.0


async def template(system: System, subject: str, text: str = "Hello") -> str:
    name = f"t-{uuid.uuid4().hex[:8]}"
    await put(system, f"/templates/{name}", {"content": {"subject": subject, "text": text}})
    return name


async def batch(system: System, bodies: Sequence[Mapping[str, Any]]) -> Sequence[str]:
    """Accepted together, so that workers claim them together."""
    status, said, _ = await system.ask("POST", "/notifications/batch", {"notifications": bodies})
    assert (status, said["refused"]) == (202, 0), said
    ids = [one["id"] for one in said["results"]]
    for id_, body in zip(ids, bodies, strict=True):
        key = body["idempotency_key"]
        system.calls.append(call(f"{body['to']['user']}/{key}", id_))
    return ids


def call(scope: str, id_: str) -> Any:
    return Call(scope, 202, uuid.UUID(id_).bytes, hash(scope))


def keyed(system: System, **more: Any) -> dict[str, Any]:
    key, body = system.wanted(**more)
    return {**body, "idempotency_key": key}


async def test_a_hostile_template_ends_in_the_dead_letters_and_its_mates_are_delivered(system: System):
    names = {what: await template(system, subject) for what, (subject, _) in HOSTILE.items()}
    workers = system.pids("worker")
    mates_before = [keyed(system) for _ in range(10)]
    poison = [keyed(system, template=name) for name in names.values()]
    mates_after = [keyed(system) for _ in range(10)]
    began_s = time.monotonic()
    ids = await batch(system, [*mates_before, *poison, *mates_after])
    for id_ in (*ids[:10], *ids[-10:]):
        story = await system.becomes(id_, "delivered")
        assert attempts(story) == [("sent", "accepted")]
    for id_, (what, (_, says)) in zip(ids[10:-10], HOSTILE.items(), strict=True):
        delivery = (await system.becomes(id_, "dead"))["deliveries"][0]
        assert delivery["reason"] == "template_error", what
        assert says in delivery["detail"], what
        assert delivery["attempts"] == [], what
    assert time.monotonic() - began_s < 3 * ITEM_CPU_S * len(HOSTILE)
    assert system.pids("worker") == workers
    assert not system.events("work", "LoopFailed")
    assert (await system.stats())["accepted"] == 20
    await system.check()


async def test_one_template_that_hangs_costs_the_others_a_second_or_two(system: System):
    name = await template(system, HOSTILE["burns the CPU"][0])
    await system.send()
    began_s = time.monotonic()
    ids = await batch(system, [keyed(system, template=name), *(keyed(system) for _ in range(20))])
    await asyncio.gather(*(system.becomes(id_, "delivered") for id_ in ids[1:]))
    assert time.monotonic() - began_s < 10, "a second of CPU, on a machine that may be busy with other things"
    await system.becomes(ids[0], "dead")
    await system.check()


async def test_a_template_that_harms_again_and_again_is_left_alone_and_holds_up_nobody(system: System):
    name = await template(system, HOSTILE["makes half a gigabyte"][0])
    poison = await batch(system, [keyed(system, template=name) for _ in range(6)])
    mates = await batch(system, [keyed(system) for _ in range(20)])
    for id_ in mates:
        await system.becomes(id_, "delivered")

    async def judged() -> bool:
        found = [(await system.get(id_))["deliveries"][0] for id_ in poison]
        return all(one["status"] == "dead" or one["reason"] == "template_rests" for one in found)

    await until(judged, 30, "every one of them to be dead or to rest")
    for id_ in poison:
        await system.ask("POST", f"/notifications/{id_}/cancel")
    await system.check()


async def test_a_template_that_does_not_compile_is_refused_when_it_is_saved(system: System):
    for subject in ("{{ x", "{% if x %}", "{{ " + "not " * 40_000 + "x }}"):
        body = {"content": {"subject": subject, "text": "Hello"}}
        status, said, _ = await system.ask("PUT", "/templates/broken", body)
        assert (status, said["code"], said["errors"][0]["pointer"]) == (422, "template_fault", "/content/subject")
    assert (await system.ask("GET", "/templates/broken"))[0] == 404


async def test_a_sender_made_a_moment_ago_can_be_sent_from(system: System):
    for _ in range(3):
        name = f"shop-{uuid.uuid4().hex[:8]}"
        await put(system, f"/senders/{name}", {"channels": {"email": {"email": f"{name}@example.com"}}})
        id_ = await system.send(sender=name)
        await system.becomes(id_, "delivered")
    await system.check()


async def test_a_delivery_that_brings_down_its_worker_again_and_again_is_quarantined(lone_system: System):
    """This system's settings call a third claim one too many. The test ends leases instead of waiting for them."""
    poison = ""
    for death in range(2):
        (pid,) = lone_system.pids("worker")
        lone_system.arm("after_claim")
        poison = poison or await lone_system.send()
        await lone_system.fired()
        await lone_system.replaced("worker", pid)
        rows = await lone_system.rows(
            "SELECT claims, tries FROM dispatch WHERE id >= $1", first_at(lone_system.began_ms)
        )
        assert [tuple(row) for row in rows] == [(death + 1, 0)]
        await lone_system.rows("UPDATE dispatch SET due_at = now() WHERE id >= $1", first_at(lone_system.began_ms))
    delivery = (await lone_system.becomes(poison, "dead"))["deliveries"][0]
    assert (delivery["reason"], delivery["attempts"]) == ("quarantined", [])
    assert "3 times" in delivery["detail"]
    await lone_system.becomes(await lone_system.send(), "delivered")

    _, said, _ = await lone_system.ask("POST", "/dead-letters/replay", {"reason": "quarantined"})
    assert said["ids"] == [delivery["id"]]
    await lone_system.becomes(poison, "delivered")
    await lone_system.check()

"""What a delivery cost, from the price of its account to the terminal."""

import asyncio
import sys
from asyncio.subprocess import PIPE
from collections.abc import Mapping
from typing import Any

import aiohttp
import pytest_asyncio

from tests.acceptance.elsewhere import put
from tests.acceptance.test_sms import LONG, sms
from tests.system import System, until
from tidings.runtime import rundir

AMERICAN, NORWEGIAN = {"phone": "+12025550143"}, {"phone": "+4740612345"}
PRICED = {"price": "0.0083", "price.NO": "0.0732", "currency": "USD"}
SERVICE = "MG" + "0" * 32


async def cost_of(system: System, to: Mapping[str, str], text: str, **more: object) -> tuple[str, int, Any]:
    """Of one SMS, once it was taken: its id, its units, what they cost."""
    id_ = await sms(system, dict(to), text, **more)
    story = await system.becomes(id_, "sent", "delivered")
    (attempt,) = story["deliveries"][0]["attempts"]
    return id_, attempt["units"], attempt["cost"]


async def shown(system: System, id_: str) -> str:
    words = ("show", id_, "--data-dir", str(system.data_dir))
    command = await asyncio.create_subprocess_exec(sys.executable, "-m", "tidings", *words, stdout=PIPE)
    return (await command.communicate())[0].decode()


async def counted_micros(system: System) -> float:
    """What the worker has counted of Twilio's dollars."""
    running = rundir.find(system.data_dir)
    assert running is not None
    async with aiohttp.ClientSession() as session, session.get(f"{running.ops_urls['worker'][0]}/metrics") as said:
        lines = (await said.text()).splitlines()
    name = 'tidings_cost_micros_total{channel="sms",currency="USD",kind="twilio"}'
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


@pytest_asyncio.fixture
async def priced(lone_system: System):
    """The worker knows the price, until the end of the test."""
    await put(lone_system, "/providers/twilio", {"kind": "twilio", "settings": PRICED})

    async def known() -> bool:
        return (await cost_of(lone_system, AMERICAN, "Hello"))[2] is not None

    await until(known, 30, "the worker to know the price")
    yield lone_system
    nothing = {"price": "", "price.NO": ""}
    await put(lone_system, "/providers/twilio", {"kind": "twilio", "settings": nothing})


async def test_an_sms_costs_as_many_segments_as_it_takes_at_the_price_of_its_country(priced: System):
    before_micros = await counted_micros(priced)
    _, units, cost = await cost_of(priced, AMERICAN, LONG)
    assert (units, cost) == (2, {"amount": "0.0166", "currency": "USD"})
    id_, units, cost = await cost_of(priced, NORWEGIAN, LONG)
    assert (units, cost) == (2, {"amount": "0.1464", "currency": "USD"})
    assert "0.1464 USD" in await shown(priced, id_)
    assert await counted_micros(priced) - before_micros == 16_600 + 146_400
    await priced.check()


async def test_what_a_messaging_service_has_not_counted_yet_we_count_ourselves(priced: System):
    await put(priced, "/senders/service", {"channels": {"sms": {"messaging_service": SERVICE}}})

    async def sent() -> tuple[str, int, Any] | None:
        """Once the worker knows the sender."""
        id_ = await sms(priced, AMERICAN, LONG, sender="service")
        story = await priced.becomes(id_, "sent", "delivered", "dead")
        found = story["deliveries"][0]["attempts"]
        return (id_, found[0]["units"], found[0]["cost"]) if found else None

    _, units, cost = await until(sent, 30, "the sender to be known")
    assert (units, cost) == (2, {"amount": "0.0166", "currency": "USD"})
    await priced.check()


async def test_a_call_whose_answer_was_lost_has_its_cost_once_a_receipt_speaks_of_it(priced: System):
    await priced.fault("accept_then_hang", "twilio")
    id_ = await sms(priced, AMERICAN, LONG)
    await priced.becomes(id_, "delivered")
    await priced.settled()
    (attempt,) = (await priced.get(id_))["deliveries"][0]["attempts"]
    assert (attempt["units"], attempt["cost"]) == (2, {"amount": "0.0166", "currency": "USD"})
    await priced.check()

"""The demonstration reaches everybody on every channel, and the sandbox's page shows what they see."""

import asyncio
import re
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from collections import Counter

import pytest_asyncio

from tests.system import System, running

LAST = {"email": "sent", "sms": "delivered", "push": "sent", "whatsapp": "delivered"}
"""How the last of each channel ends. The last mail goes by a mail server, which says nothing of what arrives."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def shared_fresh(tmp_path_factory):
    """One whose routes are those that it was made with."""
    async with running(tmp_path_factory.mktemp("demo")) as system:
        yield system


@pytest_asyncio.fixture
async def fresh(shared_fresh: System):
    await shared_fresh.begin()
    yield shared_fresh


async def demonstrated(system: System) -> str:
    words = ("demo", "--data-dir", str(system.data_dir))
    command = await asyncio.create_subprocess_exec(sys.executable, "-m", "tidings", *words, stdout=PIPE, stderr=STDOUT)
    told, _ = await asyncio.wait_for(command.communicate(), 60)
    assert command.returncode == 0, told.decode()
    return told.decode()


async def test_the_demonstration_ends_when_every_channel_has_arrived(fresh: System):
    told = await demonstrated(fresh)
    for channel in LAST:
        lines = [line for line in told.splitlines() if f" {channel} " in line]
        assert lines[-1].split()[-2] == LAST[channel], told
    taken = Counter(one["provider"] for one in await fresh.taken())
    assert taken == {"sendgrid": 3, "twilio": 3, "fcm": 3, "whatsapp": 3, "smtp": 1}


async def test_a_browser_shows_each_message_as_its_reader_sees_it(fresh: System, tool, tmp_path):
    await demonstrated(fresh)

    async def page(provider: str) -> str:
        words = ("--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=3000", "--dump-dom")
        address = f"{fresh.sandbox_url}/?provider={provider}"
        profile = f"--user-data-dir={tmp_path}"
        browser = await asyncio.create_subprocess_exec(
            tool("chromium"), *words, profile, address, stdout=PIPE, stderr=DEVNULL
        )
        return (await browser.communicate())[0].decode()

    assert re.search(r'<iframe[^>]* sandbox="" src="/_page/messages/\d+/html"', await page("sendgrid"))
    assert re.search(r'<iframe[^>]* sandbox="" src="/_page/messages/\d+/html"', await page("smtp"))
    sms = await page("twilio")
    assert re.search(r'class="bubble">Your order \w{6} of [\d.]+ € is confirmed', sms)
    assert re.search(r'class="size">1 segment · GSM-7 · \d+ characters<', sms)
    push = await page("fcm")
    (card,) = re.findall(r'id="provider-fcm".*?</div></div>', push)
    assert card.count("<select") == 1
    assert re.search(r"<strong[^>]*>Your order \w{6} is confirmed</strong><p[^>]*>It comes to [\d.]+ €", push)
    whatsapp = await page("whatsapp")
    assert re.search(r"<p[^>]*>Hello \w+ \w+, your order \w{6} of [\d.]+ € is confirmed", whatsapp)
    assert "order_confirmation (en)" in whatsapp
    assert re.search(r'class="ticks delivered"[^>]*>✓✓<', whatsapp)

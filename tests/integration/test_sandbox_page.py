"""The sandbox's page as a real browser shows it."""

import asyncio
import re
from collections.abc import Callable
from html import unescape
from pathlib import Path

import pytest
from sandbox_rig import LETTER, Rig, sandbox, until

Look = Callable[[Rig, str], "asyncio.Future[str]"]


@pytest.fixture
def look(tool: Callable[[str], str], tmp_path: Path):
    """The page's DOM some while after it was opened, by the browser's own clock."""

    async def at(rig: Rig, query: str = "") -> str:
        words = ("--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=3000", "--dump-dom")
        browser = await asyncio.create_subprocess_exec(
            tool("chromium"),
            *words,
            f"--user-data-dir={tmp_path}",
            f"{rig.url}/{query}",
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        out, _ = await browser.communicate()
        return out.decode()

    return at


def texts(dom: str, of: str) -> list[str]:
    """What the elements of this class say."""
    return [unescape(said) for said in re.findall(rf'class="{of}"[^>]*>([^<]*)<', dom)]


async def test_the_newest_mail_is_opened_and_its_html_shown_in_a_frame_without_rights(look) -> None:
    hostile = {"type": "text/html", "value": "<p>Hi</p><script>document.title='taken'</script>"}
    async with sandbox(receipts_urls={}) as rig:
        await rig.send(LETTER | {"subject": "The first"})
        await rig.send(LETTER | {"subject": "<b>The second</b>", "content": [hostile]})
        dom = await look(rig)
    assert texts(dom, "title") == ["<b>The second</b>", "The first"]
    assert "&lt;b&gt;The second&lt;/b&gt;</h2>" in dom
    assert re.search(r'<iframe[^>]* sandbox=""[^>]* src="/_page/messages/2/html"', dom)
    assert "<title>Tidings sandbox</title>" in dom
    assert "2 taken" in texts(dom, "accepted")


async def test_one_providers_messages_can_be_shown_alone(look) -> None:
    async with sandbox() as rig:
        await rig.send(LETTER | {"subject": "Hello"})
        mine, others = await look(rig, "?provider=sendgrid"), await look(rig, "?provider=nobody")
    assert texts(mine, "title") == ["Hello"] and texts(others, "title") == []


async def test_a_fault_and_how_receipts_come_are_shown_where_they_are_set(look) -> None:
    async with sandbox() as rig:
        await rig.fault("garbage")
        await rig.receipts(share_delivered=0, share_bounced=1)
        dom = await look(rig)
    assert re.search(r'class="provider faulty" id="provider-sendgrid"', dom)
    (card,) = re.findall(r'id="provider-sendgrid".*?</select>.*?</select>', dom)
    assert re.findall(r'data-now="(\w*)"', card) == ["garbage", "bounced"]


async def test_what_became_of_a_message_shows_once_its_provider_has_told(look) -> None:
    async with sandbox(receipts_urls={"sendgrid": "http://127.0.0.1:1/hook"}) as rig:
        await rig.receipts(share_opened=1, delay_ms=0)
        await rig.send()

        async def told() -> bool:
            return (await rig.call("GET", "/_page/messages/1"))[1]["happened"] == ["delivered", "opened"]

        await until(told)
        assert ">delivered, opened<" in await look(rig)
        await rig.receipts(delay_ms=600_000)
        await rig.send()
        assert (await rig.call("GET", "/_page/messages/2"))[1]["happened"] == []

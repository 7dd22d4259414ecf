"""A sandbox in this process, on free ports, and a receiver for its webhooks."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
from aiohttp import web

from tidings.sandbox.app import SandboxConfig, run

LETTER = {
    "personalizations": [{"to": [{"email": "ada@example.com"}], "custom_args": {"ref": "ref-1"}}],
    "from": {"email": "shop@example.org", "name": "Shop"},
    "subject": "Hello",
    "content": [{"type": "text/plain", "value": "Hello Ada"}],
}
SEND = "/v3/mail/send"


class Rig:
    """A running sandbox as its users see it, and one provider of it."""

    def __init__(self, addresses: dict[str, Any], http: aiohttp.ClientSession, provider: str = "sendgrid") -> None:
        self.provider = provider
        self.host: str = addresses["providers"][provider]["url"]
        self.url: str = addresses["url"]
        self.public_key: str = addresses["public_key"]
        self.sendgrid: str = addresses["providers"]["sendgrid"]["url"]
        self.port: int = addresses["providers"][provider]["port"]
        self.http = http

    async def send(self, letter: object = LETTER, path: str = SEND, **headers: str) -> tuple[int, Any, bytes]:
        """Status, headers, body."""
        headers = {"Authorization": "Bearer SG.key"} | headers
        async with self.http.post(self.sendgrid + path, json=letter, headers=headers) as answer:
            return answer.status, answer.headers, await answer.read()

    async def call(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """Status and decoded body of a call to the control port."""
        async with self.http.request(method, self.url + path, json=body) as answer:
            return answer.status, await answer.json(content_type=None) if answer.status != 204 else None

    async def fault(self, fault: str, **more: object) -> None:
        status, body = await self.call("PUT", f"/_sandbox/faults/{self.provider}", {"fault": fault, **more})
        assert status == 200, body

    async def receipts(self, **more: object) -> None:
        status, body = await self.call("PUT", f"/_sandbox/receipts/{self.provider}", more)
        assert status == 200, body

    async def stats(self) -> dict[str, Any]:
        return (await self.call("GET", "/_sandbox/stats"))[1][self.provider]

    async def messages(self, query: str = "") -> list[dict[str, Any]]:
        return (await self.call("GET", f"/_sandbox/messages{query}"))[1]["items"]

    async def taken(self, n: int) -> None:
        """Returns when that many messages are in the ledger."""

        async def enough() -> bool:
            return (await self.stats())["accepted"] >= n

        await until(enough)


class Receiver:
    """Keeps every webhook call; ``statuses`` are answered in turn, then 200."""

    def __init__(self) -> None:
        self.calls: list[tuple[dict[str, str], bytes]] = []
        self.statuses: list[int] = []
        self.url, self.port = "", 0

    async def take(self, request: web.Request) -> web.Response:
        self.calls.append(({name.lower(): value for name, value in request.headers.items()}, await request.read()))
        return web.Response(status=self.statuses.pop(0) if self.statuses else 200)

    async def heard(self, n: int) -> None:
        await until(lambda: _now(len(self.calls) >= n))


async def _now(value: bool) -> bool:
    return value


async def until(condition: Callable[[], Awaitable[bool]], timeout_s: float = 10.0) -> None:
    """Returns as soon as the condition holds; fails when it does not in time."""
    deadline_s = time.monotonic() + timeout_s
    while not await condition():
        assert time.monotonic() < deadline_s, "waited in vain"
        await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def sandbox(provider: str = "sendgrid", **config: Any) -> AsyncIterator[Rig]:
    """This provider on a port of its own unless ``provider_ports`` says otherwise."""
    stop, addresses = asyncio.Event(), asyncio.get_running_loop().create_future()
    config = {"provider_ports": {provider: 0}} | config
    running = asyncio.create_task(run(SandboxConfig(**config), stop, addresses.set_result))
    await asyncio.wait({running, addresses}, return_when=asyncio.FIRST_COMPLETED)
    if running.done():
        await running
    try:
        async with aiohttp.ClientSession() as http:
            yield Rig(addresses.result(), http, provider)
    finally:
        stop.set()
        await running


@contextlib.asynccontextmanager
async def receiver(port: int = 0) -> AsyncIterator[Receiver]:
    """A receiver, on a free port unless it is given one."""
    one = Receiver()
    app = web.Application(client_max_size=64 << 20)
    app.router.add_post("/hook", one.take)
    runner = web.AppRunner(app, shutdown_timeout=1.0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port, reuse_address=True)
    await site.start()
    one.port = runner.addresses[0][1]
    one.url = f"http://127.0.0.1:{one.port}/hook"
    try:
        yield one
    finally:
        await runner.cleanup()

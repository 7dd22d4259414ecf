"""Providers of our own making beside the sandbox, and webhooks that the sandbox would not send."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec

from tests.system import System, until
from tests.wire_peer import Peer, Talk, answer, playing
from tidings.runtime import rundir
from tidings.sandbox.sendgrid import SIGNATURE, TIMESTAMP
from tidings.sandbox.signing import SigningKey

API_KEY = "SG.elsewhere"
Act = Callable[[Talk, "Provider", str], Awaitable[None]]
"""Answers one letter, whose reference it is given."""


class Provider:
    """Speaks SendGrid's protocol, and does to each letter what ``acts`` says of the name that it is addressed to;
    takes all others. ``taken`` are references, ``heard`` the names of all calls."""

    peer: Peer

    def __init__(self, acts: Mapping[str, Act]) -> None:
        self.acts = dict(acts)
        self.taken: list[str] = []
        self.heard: list[str] = []
        self.heads: list[bytes] = []

    async def __call__(self, talk: Talk) -> None:
        while True:
            head, _, body = (await talk.request()).partition(b"\r\n\r\n")
            envelope = msgspec.json.decode(body)["personalizations"][0]
            name = envelope["to"][0]["email"].partition("@")[0]
            self.heads.append(head)
            self.heard.append(name)
            await self.acts.get(name, take)(talk, self, envelope["custom_args"]["ref"])


async def take(talk: Talk, provider: Provider, reference: str) -> None:
    provider.taken.append(reference)
    await talk.say(answer(202, headers=f"X-Message-Id: {reference}\r\n"))


def saying(raw: bytes) -> Act:
    """Answers with these bytes, and takes nothing."""

    async def act(talk: Talk, _provider: Provider, _reference: str) -> None:
        await talk.say(raw)

    return act


@asynccontextmanager
async def provider(system: System, acts: Mapping[str, Act]) -> AsyncIterator[Provider]:
    """All mail of the system goes there until the end."""
    one = Provider(acts)
    async with playing(one) as one.peer, routed(system, one.peer.origin):
        yield one


@asynccontextmanager
async def routed(system: System, url: str, **settings: str) -> AsyncIterator[None]:
    """All mail goes through an account at this address; at the end what is left settles, and mail goes to the sandbox
    again. The system has one worker."""
    await put(
        system, "/providers/elsewhere", {"kind": "sendgrid", "settings": {"url": url, "api_key": API_KEY, **settings}}
    )
    async with going_through(system, "elsewhere"):
        yield


@asynccontextmanager
async def going_through(system: System, name: str) -> AsyncIterator[None]:
    """All mail goes through this account; at the end what is left settles, and mail goes to SendGrid's stand-in
    again."""
    await _route(system, name)
    try:
        yield
        await system.settled()
    finally:
        await _route(system, "sendgrid")


async def _route(system: System, name: str) -> None:
    """Returns once the worker goes that way."""
    await put(system, "/routes/email", {"providers": [name]})

    async def used() -> bool:
        story = await until_tried(system, await system.send())
        return story["deliveries"][0]["attempts"][-1]["provider"] == name

    await until(used, 20, f"the worker to send through {name}")


async def put(system: System, path: str, body: Any) -> Any:
    status, said, _ = await system.ask("PUT", path, body)
    assert status == 200, said
    return said


async def until_tried(system: System, id_: str, times: int = 1) -> dict[str, Any]:
    """The notification, once that many of its tries have ended."""

    async def tried() -> dict[str, Any] | None:
        story = await system.get(id_)
        return story if len(story["deliveries"][0]["attempts"]) >= times else None

    return await until(tried, 30, f"{id_} to be tried {times} times")


def event(reference: str | None, kind: str = "delivered", **more: Any) -> dict[str, Any]:
    """One event as SendGrid tells it."""
    named = {} if reference is None else {"ref": reference}
    id_ = f"{kind}-{reference}"
    return {"email": "a@example.com", "timestamp": int(time.time()), "event": kind, "sg_event_id": id_, **named, **more}


class Webhooks:
    """Calls the address of an account's webhooks, signed with the sandbox's key unless told otherwise."""

    def __init__(self, system: System, path: str) -> None:
        self.key = SigningKey.kept_in(system.data_dir / rundir.SANDBOX_KEY)
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=100))
        self._root = system.url
        self.path = path

    def signed(
        self, events: Iterable[Mapping[str, Any]], key: SigningKey | None = None, at_s: float | None = None
    ) -> tuple[bytes, dict[str, str]]:
        """Body and headers."""
        body = msgspec.json.encode(list(events)) + b"\r\n"
        timestamp = str(int(time.time() if at_s is None else at_s))
        signature = (key or self.key).sign(timestamp.encode() + body)
        return body, {"Content-Type": "application/json", SIGNATURE: signature, TIMESTAMP: timestamp}

    async def post(self, body: bytes, headers: Mapping[str, str], path: str | None = None) -> tuple[int, bytes]:
        async with self._session.post(self._root + (path or self.path), data=body, headers=headers) as said:
            return said.status, await said.read()

    async def tell(self, *events: Mapping[str, Any]) -> None:
        status, said = await self.post(*self.signed(events))
        assert status == 204, said

    async def close(self) -> None:
        await self._session.close()


@asynccontextmanager
async def webhooks(system: System) -> AsyncIterator[Webhooks]:
    _, account, _ = await system.ask("GET", "/providers/sendgrid")
    one = Webhooks(system, account["receipts_path"])
    try:
        yield one
    finally:
        await one.close()


async def metric(system: System, name: str) -> float:
    """The sum of a metric of the API's, over its labels."""
    async with aiohttp.ClientSession() as session, session.get(f"{system.url}/metrics") as said:
        lines = (await said.text()).splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.split("{")[0].split(" ")[0] == name)


def attempts(story: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
    """What was said, try by try: outcome and code."""
    return [(one["outcome"], one["code"]) for one in story["deliveries"][0]["attempts"]]

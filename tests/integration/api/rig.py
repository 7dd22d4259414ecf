"""The API as it runs: real wiring, uvicorn on a loopback socket, two shards, two tenants."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import uvicorn

from tests.integration.shards import TwoShards, prepare
from tidings.domain.lanes import Channel, Class
from tidings.domain.template import TemplateSource
from tidings.runtime.http import BoundedProtocol
from tidings.runtime.telemetry import Telemetry
from tidings.settings import load
from tidings.storage.control import Control
from tidings.web.app import build_app
from tidings.web.edge import Edge
from tidings.wiring.api import build_api
from tidings.wiring.core import Core, core

WELCOME = TemplateSource(subject="Order {{ order }}", text="Hello, it is {{ order }}.")


@dataclass
class Said:
    """An answer, read whole."""

    status: int
    headers: Any
    raw: bytes
    body: Any

    @property
    def code(self) -> str:
        return str(self.body["code"])

    @property
    def pointers(self) -> list[str]:
        return [error["pointer"] for error in self.body.get("errors", [])]


@dataclass
class Api:
    """``key`` may do everything for the tenant acme, ``other`` for another one."""

    url: str
    session: aiohttp.ClientSession
    system: TwoShards
    core: Core
    edge: Edge
    key: str
    other: str

    @asynccontextmanager
    async def limited(self, **limits: Any) -> AsyncIterator["Api"]:
        """The same system behind an edge with other limits."""
        edge = replace(self.edge, limits=msgspec.structs.replace(self.edge.limits, **limits))
        async with listening(build_app(edge)) as url:
            yield replace(self, url=url, edge=edge)

    async def call(self, method: str, path: str, json: Any = None, key: str | None = "", **more: Any) -> Said:
        """``key`` None calls without one."""
        headers = dict(more.pop("headers", {}))
        if key is not None:
            headers["Authorization"] = f"Bearer {key or self.key}"
        async with self.session.request(method, self.url + path, json=json, headers=headers, **more) as answer:
            raw = await answer.read()
            body = await answer.json(content_type=None) if "json" in answer.headers.get("content-type", "") else None
            return Said(answer.status, answer.headers, raw, body)

    async def send(self, json: Any, key: str | None = "", **headers: str) -> Said:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.call("POST", "/api/v1/notifications", json, key, headers=named)

    async def post(self, raw: Any, path: str = "/api/v1/notifications", **headers: str) -> Said:
        """A body as it is."""
        named = {"Content-Type": "application/json"} | {name.replace("_", "-"): one for name, one in headers.items()}
        return await self.call("POST", path, data=raw, headers=named)


async def tenant_beside(control: Control, name: str) -> str:
    """The key of another tenant that can send."""
    tenant = await control.put_tenant(name)
    await control.put_category(tenant, "general", Class.transactional, [Channel.email])
    await control.put_sender(tenant, "default", Channel.email, {"email": "other@example.com"})
    account = await control.put_account(tenant, "sendgrid", "sendgrid", Channel.email, {"api_key": "SG.other"})
    await control.put_route(tenant, Channel.email, [account.id])
    await control.put_template(tenant, "theirs", "general", WELCOME)
    return await control.create_key(tenant, "theirs")


async def furnish(postgres: Any) -> tuple[TwoShards, str, str]:
    """Two shards, and the keys of two tenants."""
    system = await prepare(postgres)
    await system.control.put_template(system.tenant, "order_confirmation", "general", WELCOME)
    other = await tenant_beside(system.control, "other")
    return system, await system.control.create_key(system.tenant, "all"), other


@asynccontextmanager
async def serving(system: TwoShards, keys: tuple[str, str], directory: Path, *dsns: str) -> AsyncIterator[Api]:
    """``dsns`` takes the place of the system's own shards."""
    named = {
        "control_dsn": system.control_dsn,
        "shard_dsns": list(dsns or system.shard_dsns),
        "master_key": system.secrets._master.hex(),
        "data_dir": str(directory),
        "egress_allow": ["127.0.0.0/8"],
    }
    telemetry = Telemetry("api", "error")
    async with core(load(named, {}, directory), telemetry) as parts:
        app, accept, _ = await build_api(parts)
        async with listening(app) as url, aiohttp.ClientSession() as session:
            yield Api(url, session, system, parts, app.edge, *keys)
        await accept.drain()


@asynccontextmanager
async def listening(app: Any) -> AsyncIterator[str]:
    """The application on a free port, for the length of a block."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(
            app,
            http=BoundedProtocol,
            proxy_headers=False,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
        )
        server = uvicorn.Server(config)
        server.capture_signals = _unchanged  # type: ignore[method-assign]
        serving_ = asyncio.create_task(server.serve([listener]))
        try:
            async with asyncio.timeout(10):
                while not server.started:
                    await asyncio.sleep(0.005)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await serving_


def _unchanged() -> Any:
    """Signals stay with the test run."""
    return _Nothing()


class _Nothing:
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...

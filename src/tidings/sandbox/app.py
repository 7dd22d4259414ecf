"""The sandbox as a whole: a stand-in for every provider, the control API, and the page."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Final

import msgspec
import uvloop
from starlette.applications import Starlette
from starlette.routing import Mount, Router

from tidings.sandbox.control import Control, Wrong, problem
from tidings.sandbox.faults import Faults
from tidings.sandbox.front import Front, provider_app
from tidings.sandbox.intake import Intake
from tidings.sandbox.ledger import Ledger
from tidings.sandbox.listener import Door, HttpDoor, Listener
from tidings.sandbox.page import Page
from tidings.sandbox.receipts import Postman
from tidings.sandbox.registry import OVER_HTTP, STAND_INS, scheme_of
from tidings.sandbox.signing import SigningKey, public_key_base64
from tidings.sandbox.smtp import Smtp
from tidings.sandbox.smtp_door import MailDoor
from tidings.sandbox.standin import TEST, Account, StandIn

__all__ = ["SandboxConfig", "public_key_base64", "run", "serve"]

_TEST: Final = f".{TEST}"

Ready = Callable[[dict[str, object]], None]


class SandboxConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Where the sandbox listens, and what it knows of its callers. Port 0 picks a free one.

    ``port`` serves the control API, the page, and every provider under its name (``/sendgrid/v3/mail/send``).
    ``provider_ports`` gives a provider a listener of its own, without which ``down`` can only reset connections; the
    mail server always has one. ``receipts_urls`` says where a provider's webhooks go, those of its test customer under
    ``sendgrid.test``; without one there are none. ``signing_key_file`` keeps the key that they are signed with, else it
    is new with every start. ``api_keys`` holds the one key that a provider lets in, else any will do. ``lean`` keeps
    counts and references only.
    """

    host: str = "127.0.0.1"
    port: int = 0
    provider_ports: Mapping[str, int] = {}
    receipts_urls: Mapping[str, str] = {}
    signing_key_file: Path | None = None
    api_keys: Mapping[str, str] = {}
    lean: bool = False

    def __post_init__(self) -> None:
        named = {*self.provider_ports, *(name.removesuffix(_TEST) for name in self.receipts_urls), *self.api_keys}
        if unknown := named - STAND_INS.keys():
            raise ValueError(f"no stand-in for {', '.join(sorted(unknown))}; there are {', '.join(STAND_INS)}")


class _Sandbox:
    """All parts, put together once."""

    def __init__(self, config: SandboxConfig) -> None:
        self.key = SigningKey.kept_in(config.signing_key_file) if config.signing_key_file else SigningKey.fresh()
        over_http = {name: build(self._account(config, name)) for name, build in OVER_HTTP.items()}
        self._smtp = Smtp(self._account(config, Smtp.name))
        self.standins: Mapping[str, StandIn] = {**over_http, Smtp.name: self._smtp}
        self.ledger = Ledger(list(self.standins), keep=0) if config.lean else Ledger(list(self.standins))
        self.faults = Faults()
        self.postmen = {name: Postman(standin) for name, standin in self.standins.items()}
        self.apps = {name: provider_app(one, Front(one, self._intake(name))) for name, one in over_http.items()}

    def whole(self) -> Door:
        """The control API, the page, and every provider under its name."""
        control = Control(self.ledger, self.faults, self.postmen)
        page = Page(self.ledger, self.faults, self.standins, self.postmen)
        mounts = [Mount(f"/{name}", app=app) for name, app in self.apps.items()]
        routes = [*mounts, *control.routes(), *page.routes()]
        return HttpDoor(Starlette(routes=routes, exception_handlers={Wrong: problem}))

    def alone(self, name: str) -> Door:
        """One provider, at the root as the real one is, and under its name too."""
        if name == Smtp.name:
            return MailDoor(self._smtp, self._intake(name))
        app = self.apps[name]
        return HttpDoor(Router([Mount(f"/{name}", app=app)], redirect_slashes=False, default=app))

    def _account(self, config: SandboxConfig, name: str) -> Account:
        urls = config.receipts_urls
        return Account(self.key, config.api_keys.get(name), urls.get(name), urls.get(name + _TEST))

    def _intake(self, name: str) -> Intake:
        return Intake(name, self.ledger, self.faults, self.postmen[name])


async def run(config: SandboxConfig, stop: asyncio.Event, ready: Ready | None = None) -> None:
    """Serves until ``stop``. ``ready`` is called once every listener is open, with ``{"url", "port", "public_key",
    "providers": {name: {"url", "port"}}}``; a provider's url is what its client takes for the API's host.

    Raises OSError when an address cannot be had, ValueError for a file that holds no signing key.
    """
    sandbox = _Sandbox(config)
    async with _listening(sandbox, config) as addresses, asyncio.TaskGroup() as group:
        at_work = [group.create_task(postman.run()) for postman in sandbox.postmen.values()]
        if ready is not None:
            ready(addresses)
        await stop.wait()
        for task in at_work:
            task.cancel()


def serve(config: SandboxConfig, ready: Ready | None = None) -> None:
    """Runs until SIGTERM or Ctrl-C."""

    async def until_signalled() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await run(config, stop, ready)

    uvloop.run(until_signalled())


@contextlib.asynccontextmanager
async def _listening(sandbox: _Sandbox, config: SandboxConfig) -> AsyncIterator[dict[str, object]]:
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(sandbox.faults.close)
        main = await _open(stack, sandbox.whole(), config.host, config.port)
        url = _url("http", config.host, main.port)
        providers = {name: {"url": f"{url}/{name}", "port": main.port} for name in sandbox.apps}
        for name, port in {Smtp.name: 0, **config.provider_ports}.items():
            own = await _open(stack, sandbox.alone(name), config.host, port)
            sandbox.faults.watch(name, own)
            providers[name] = {"url": _url(scheme_of(name), config.host, own.port), "port": own.port}
        yield {"url": url, "port": main.port, "public_key": sandbox.key.public_base64, "providers": providers}


async def _open(stack: contextlib.AsyncExitStack, door: Door, host: str, port: int) -> Listener:
    listener = Listener(door, host, port)
    stack.push_async_callback(listener.close)
    await listener.open()
    return listener


def _url(scheme: str, host: str, port: int) -> str:
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"

"""An address that can be shut, so that connections are refused, and opened again on the same port."""

import asyncio
import contextlib
import socket
import struct
from typing import Protocol, cast

import uvicorn
from starlette.requests import Request
from starlette.types import ASGIApp, Receive
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

TRANSPORT = "tidings.transport"
KEEP_ALIVE_S = 75
CLOSE_S = 5.0
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Door(Protocol):
    """Speaks one protocol with whoever connects, and knows who is connected."""

    def protocol(self) -> asyncio.BaseProtocol: ...

    def close_idle(self) -> None:
        """Closes connections that wait for a request; the others close after their answer."""
        ...

    async def close(self) -> None:
        """Cuts every connection and waits for what was being answered."""
        ...


class _OpenProtocol(HttpToolsProtocol):
    """Lets the application reach its connection, which is what resetting it takes."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {TRANSPORT: {"transport": self.transport}}


class HttpDoor:
    """Serves an ASGI application over HTTP/1.1."""

    def __init__(self, app: ASGIApp) -> None:
        self._config = uvicorn.Config(
            app,
            http=_OpenProtocol,
            ws="none",
            interface="asgi3",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_S,
        )
        self._config.load()
        self._state = ServerState()

    def protocol(self) -> asyncio.BaseProtocol:
        return _OpenProtocol(config=self._config, server_state=self._state, app_state={})

    def close_idle(self) -> None:
        for connection in list(self._state.connections):
            connection.shutdown()

    async def close(self) -> None:
        for connection in list(self._state.connections):
            connection.transport.abort()
        if self._state.tasks:
            await asyncio.wait(self._state.tasks, timeout=CLOSE_S)


class Listener:
    """A door at an address. The port is held for good, listened on or not: nobody else can get it meanwhile."""

    def __init__(self, door: Door, host: str, port: int) -> None:
        """Port 0 picks a free one. Raises OSError when the address cannot be had."""
        self._door = door
        self._host = host
        self._held = _bound(host, port)
        self._listening: tuple[asyncio.AbstractServer, socket.socket] | None = None
        self.port: int = self._held.getsockname()[1]

    async def open(self) -> None:
        if self._listening is None:
            sock = _bound(self._host, self.port)
            server = await asyncio.get_running_loop().create_server(self._door.protocol, sock=sock, backlog=1024)
            self._listening = server, sock

    async def shut(self) -> None:
        """When it returns, connections are refused and idle ones closed."""
        if self._listening is None:
            return
        (server, sock), self._listening = self._listening, None
        server.close()
        self._door.close_idle()
        while sock.fileno() != -1:  # noqa: ASYNC110, uvloop closes it a turn of the loop later and tells nobody
            await asyncio.sleep(0)

    async def close(self) -> None:
        await self.shut()
        await self._door.close()
        self._held.close()


def _bound(host: str, port: int) -> socket.socket:
    # The protocol is named because asyncio sets TCP_NODELAY only where it is: else an answer's body waits 40 ms.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock


def cut(transport: asyncio.BaseTransport) -> None:
    """Ends a connection with a TCP reset."""
    with contextlib.suppress(OSError):
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    cast(asyncio.WriteTransport, transport).abort()


async def gone(receive: Receive) -> None:
    """Returns when the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        continue


async def reset(request: Request) -> None:
    """Ends the connection with a TCP reset instead of an answer."""
    cut(request.scope["extensions"][TRANSPORT]["transport"])
    await gone(request.receive)

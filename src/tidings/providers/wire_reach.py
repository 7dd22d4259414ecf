"""How a connection is opened: the name is resolved once, every address that it has is judged, and one of them is taken.

Judged here and nowhere earlier, because whoever owns a name decides what it means at the next question.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from tidings.domain.egress import ANYWHERE, Egress

Resolved = Sequence[tuple[Any, ...]]
"""What ``getaddrinfo`` gives: family, type, protocol, name, address."""

Resolve = Callable[[str, int], Awaitable[Resolved]]


class AddressRefused(OSError):
    """No connection was tried: the host has an address that may not be reached."""


async def by_system(host: str, port: int) -> Resolved:
    """Raises OSError."""
    return await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)


class Reach(msgspec.Struct, frozen=True):
    """The way out, as far as ``egress`` lets it."""

    egress: Egress = ANYWHERE
    resolve: Resolve = by_system

    async def open(self, host: str, port: int, *, encrypted: bool) -> socket.socket:
        """A connected socket, to be closed by whoever takes it. One bad address among several is enough to refuse them
        all. Raises AddressRefused, or another OSError when nothing answers."""
        found = await self.resolve(host, port)
        if not self.egress.exempts(host, port):
            for *_, address in found:
                why = self.egress.refusal(address[0], address[1], encrypted=encrypted)
                if why is not None:
                    raise AddressRefused(why)
        fault: OSError = OSError(f"{host} has no address")
        for family, *_, address in found:
            try:
                return await _connected(family, address)
            except OSError as error:
                fault = error
        raise fault


async def _connected(family: int, address: tuple[Any, ...]) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock

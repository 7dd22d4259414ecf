"""How the tests of the wire make a call."""

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from wire_peer import Peer, Script, answer, playing

from tidings.providers.wire import Limits, Said, Wire

BODY = b'{"to": "ada@example.com"}'
OK = answer(202, b"taken", "X-Message-Id: m1\r\n")


def yes() -> bool:
    return True


async def post(wire: Wire, body: bytes = BODY, may_write: Callable[[], bool] = yes) -> Said:
    return await wire.call(wire.head("POST", "/send", {"Authorization": "Bearer key"}), body, may_write)


@asynccontextmanager
async def wired(script: Script, tls: ssl.SSLContext | None = None, **limits: Any) -> AsyncIterator[tuple[Wire, Peer]]:
    async with playing(script) as peer:
        wire = Wire(peer.origin, limits=Limits(**limits), tls=tls)
        try:
            yield wire, peer
        finally:
            wire.close()

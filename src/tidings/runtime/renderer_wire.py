"""What the renderer and its child say to each other: length-prefixed msgpack over one socket.

An ``Order`` goes down; answers come back in one or more frames, so that what is done is never lost with what comes
after it. A batch is answered in order, by an object of parts for each item that could be rendered and by a sentence
for each that could not; a check by a list of ``(pointer, message, line)``.
"""

import struct
from typing import Any, Final

import msgspec

SOCKET_FD: Final = 0
PROGRESS_FD: Final = 1
PROGRESS_BYTES: Final = 4
IDLE: Final = 0xFFFF_FFFF
"""What the shared page holds while no item is in progress; else the place of that item in its order."""

OUT_OF_MEMORY: Final = 3
"""The exit code of a child that could not get the memory it asked for."""

LENGTH: Final = struct.Struct("<I")


class Limits(msgspec.Struct, frozen=True):
    """What one item may use: seconds of CPU, bytes of address space, bytes of each part, steps of the engine."""

    cpu_s: float = 1.0
    memory_bytes: int = 256 * 1024 * 1024
    part_bytes: int = 1_000_000
    steps: int = 1_000_000


class Part(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """``name`` is what its faults are reported under."""

    name: str
    text: str
    markup: bool


class Program(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A template as one channel uses it, under the number that items call it by."""

    number: int
    parts: list[Part]


class Item(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """``payload`` is the JSON of a ``notification.Payload``."""

    program: int
    payload: bytes


class Batch(msgspec.Struct, frozen=True, array_like=True, tag=0):
    """Programs to forget and to learn, then what to render."""

    forget: list[int]
    learn: list[Program]
    items: list[Item]


class Check(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Parts to compile, and no more."""

    parts: list[Part]


Order = Batch | Check
Answer = dict[str, str] | str
"""The parts of one item, or what went wrong with the first that could not be made."""


def frame(message: Any) -> bytes:
    body = msgspec.msgpack.encode(message)
    return LENGTH.pack(len(body)) + body

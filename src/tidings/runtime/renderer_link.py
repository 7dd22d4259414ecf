"""The worker's end of one renderer child: how it is started, asked, and found dead."""

import asyncio
import mmap
import os
import signal
import socket
import sys
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from subprocess import Popen
from typing import Final

import msgspec

from tidings.domain.errors import Unavailable
from tidings.domain.lanes import Channel
from tidings.domain.template import Fault
from tidings.runtime.child import ended, tied_to_parent
from tidings.runtime.renderer_wire import (
    IDLE,
    LENGTH,
    OUT_OF_MEMORY,
    PROGRESS_BYTES,
    Answer,
    Batch,
    Check,
    Limits,
    Order,
    Part,
    frame,
)

_DYING_S: Final = 1.0
_READ_BYTES: Final = 262_144
_FRAME_BYTES: Final = 32 * 1024 * 1024
_LAST_WORDS_BYTES: Final = 2_000
CPU: Final = "cpu"
_MODULE: Final = "tidings.runtime.renderer_child"

Key = tuple[int, Channel]
"""A template version as one channel uses it."""


class RendererBroken(Unavailable):
    """Templates cannot be rendered here, whatever they say: the child does not start, or does not stay."""


class Waits(msgspec.Struct, frozen=True):
    """Seconds of wall time: for the child to be ready, and for one item. The second is for a child that is stopped or
    starved; what a template may use is counted in CPU, by the child's own clock."""

    start_s: float = 10.0
    item_s: float = 5.0


class End(msgspec.Struct, frozen=True):
    """A child is gone. ``place`` is the item that was in progress, None when none was; ``reason`` is one of cpu,
    memory, wall, killed and crash, ``why`` the same as a sentence."""

    place: int | None
    reason: str
    why: str
    last_words: str

    @property
    def certain(self) -> bool:
        """Whether the item itself is to blame: its own clock ran out. Any other end may come from outside."""
        return self.reason == CPU


class Shelf:
    """What one child knows: the programs used last, by number."""

    def __init__(self, most: int, most_chars: int) -> None:
        self._most = most
        self._most_chars = most_chars
        self._chars = 0
        self._next = 0
        self._known: OrderedDict[Key, tuple[int, int]] = OrderedDict()

    def __contains__(self, key: Key) -> bool:
        return key in self._known

    def number(self, key: Key) -> int | None:
        """What the child calls it; it counts as used."""
        known = self._known.get(key)
        if known is None:
            return None
        self._known.move_to_end(key)
        return known[0]

    def put(self, key: Key, chars: int) -> int:
        self._next += 1
        self._known[key] = (self._next, chars)
        self._chars += chars
        return self._next

    def trim(self, kept: int) -> list[int]:
        """Makes room, the longest unused first, but never at the cost of the ``kept`` last ones; the numbers gone."""
        gone = []
        while len(self._known) > kept and (len(self._known) > self._most or self._chars > self._most_chars):
            _, (number, chars) = self._known.popitem(last=False)
            self._chars -= chars
            gone.append(number)
        return gone


class Link:
    """One child, one order at a time. Once it is not ``sound`` it only waits for its ``end``."""

    def __init__(self, child: Popen[bytes], ours: socket.socket, page: mmap.mmap, words_fd: int) -> None:
        self.sound = True
        self.pid = child.pid
        self._child = child
        self._socket = ours
        self._page = page
        self._words_fd = words_fd
        self._received = bytearray()
        self._stalled = False

    async def ready(self, within_s: float) -> None:
        """Waits until it has rendered under its limits. Raises RendererBroken with the child's last words."""
        end = await self._ask(None, lambda _: True, within_s)
        if end is not None:
            raise RendererBroken(f"the template renderer does not start: {end.why}; {end.last_words or 'no words'}")

    async def render(self, batch: Batch, item_s: float) -> tuple[Sequence[Answer], End | None]:
        """As many answers as came, in order: fewer than there are items when the child ended."""
        answers: list[Answer] = []

        def complete(body: bytes) -> bool:
            answers.extend(_ANSWERS.decode(body))
            return len(answers) >= len(batch.items)

        return answers, await self._ask(batch, complete, item_s)

    async def check(self, parts: Sequence[Part], item_s: float) -> tuple[Sequence[Fault], End | None]:
        faults: list[Fault] = []

        def complete(body: bytes) -> bool:
            faults.extend(Fault(*row) for row in _FAULTS.decode(body))
            return True

        return faults, await self._ask(Check(list(parts)), complete, item_s)

    def abandon(self) -> None:
        """Kills it. What it was asked is not answered any more."""
        self.sound = False
        self._child.kill()

    async def end(self, grace_s: float = 0.0) -> End:
        """Makes sure that it is gone, and says how it went. To be awaited once for every link. One that hung up by
        itself is given the grace to finish dying, or its last words would be lost."""
        with suppress(TimeoutError):
            await asyncio.wait_for(ended(self._child), grace_s)
        self.abandon()
        status = await ended(self._child)
        place = int.from_bytes(self._page[:PROGRESS_BYTES], sys.byteorder)
        words = os.pread(self._words_fd, _LAST_WORDS_BYTES, 0).decode(errors="replace")
        self._socket.close()
        self._page.close()
        os.close(self._words_fd)
        reason, why = _cause(status, self._stalled)
        return End(None if place == IDLE else place, reason, why, " ".join(words.split()))

    async def _ask(self, order: Order | None, complete: Callable[[bytes], bool], item_s: float) -> End | None:
        """None once ``complete`` has said so of an answer, else the end of the child. A caller who is cancelled leaves
        answers under way that nobody will take, so that the child has to go too."""
        self._page[:PROGRESS_BYTES] = IDLE.to_bytes(PROGRESS_BYTES, sys.byteorder)
        try:
            await self._send(order, item_s)
            while not complete(await self._receive(item_s)):
                pass
        except (EOFError, OSError, msgspec.MsgspecError) as error:
            self._stalled = isinstance(error, TimeoutError)
            return await self.end(0.0 if self._stalled else _DYING_S)
        except BaseException:
            self.abandon()
            raise
        return None

    async def _send(self, order: Order | None, within_s: float) -> None:
        if order is not None:
            async with asyncio.timeout(within_s):
                await asyncio.get_running_loop().sock_sendall(self._socket, frame(order))

    async def _receive(self, item_s: float) -> bytes:
        (length,) = LENGTH.unpack(await self._take(LENGTH.size, item_s))
        if length > _FRAME_BYTES:
            raise EOFError("more than any answer may hold")
        return await self._take(length, item_s)

    async def _take(self, count: int, item_s: float) -> bytes:
        while len(self._received) < count:
            async with asyncio.timeout(item_s):
                got = await asyncio.get_running_loop().sock_recv(self._socket, _READ_BYTES)
            if not got:
                raise EOFError
            self._received += got
        taken = bytes(self._received[:count])
        del self._received[:count]
        return taken


async def start(limits: Limits, waits: Waits) -> Link:
    """A child that is ready. Call from the main thread, with whose end the child ends. Raises RendererBroken."""
    link = _spawned(limits)
    try:
        await link.ready(waits.start_s)
    except asyncio.CancelledError:
        await link.end()
        raise
    return link


def _spawned(limits: Limits) -> Link:
    """Its socket is its standard input, the page where it notes its progress the output, last words the errors: so it
    inherits three descriptors and no more."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    page_fd, words_fd = os.memfd_create("tidings-progress"), os.memfd_create("tidings-words")
    os.ftruncate(page_fd, PROGRESS_BYTES)
    try:
        child = Popen(
            (sys.executable, "-I", "-m", _MODULE, msgspec.json.encode(limits).decode(), "tidings renderer"),
            stdin=theirs.fileno(),
            stdout=page_fd,
            stderr=words_fd,
            env={},
            preexec_fn=tied_to_parent(signal.SIGKILL),  # noqa: PLW1509 it calls one function, looked up beforehand
        )
        return Link(child, ours, mmap.mmap(page_fd, PROGRESS_BYTES), words_fd)
    except OSError as error:
        ours.close()
        os.close(words_fd)
        raise RendererBroken(f"the template renderer cannot be executed: {error}") from error
    finally:
        theirs.close()
        os.close(page_fd)


def _cause(status: int, stalled: bool) -> tuple[str, str]:
    """A short name for how it ended, and a sentence."""
    if stalled:
        return "wall", "it took too long"
    if status == -signal.SIGPROF:
        return CPU, "it used too much CPU"
    if status in (OUT_OF_MEMORY, -signal.SIGABRT):
        return "memory", "it used too much memory"
    if status in (-signal.SIGSEGV, -signal.SIGBUS):
        return "crash", "it is nested too deeply"
    if status < 0:
        return "killed", f"it was ended by signal {-status}"
    return "crash", f"it left with code {status}"


_ANSWERS: Final = msgspec.msgpack.Decoder(list[Answer])
_FAULTS: Final = msgspec.msgpack.Decoder(list[tuple[str, str, int | None]])

"""Keeps child processes running: started in order, started again when they die, stopped in the opposite order.

Only ``tidings up`` uses it. A fleet has its own supervisor, and runs each role by itself.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from subprocess import Popen
from types import TracebackType
from typing import Final, Self

import msgspec

from tidings.domain.events import PartRestarted
from tidings.ports import Emit
from tidings.runtime.child import Program, ended, spawn, stop, until
from tidings.runtime.telemetry import failure

_TAIL_LINES: Final = 15


class PartFailed(Exception):
    """A part died, or was not ready in time, when the system started. The message has the end of its log."""


class Part(msgspec.Struct, frozen=True):
    """One child. ``program`` is asked before each start, in a thread: it may wait, and may choose anew.
    ``answers`` says whether what was started is ready. ``grace_s`` is its time to leave when asked."""

    name: str
    program: Callable[[], Program]
    answers: Callable[[Program], Awaitable[bool]]
    grace_s: float


class Patience(msgspec.Struct, frozen=True):
    """``ready_s`` for a part to be ready at first; a dead one is started after ``first_s``, then twice that and so on
    up to ``most_s``, until it lives longer than ``most_s``."""

    ready_s: float
    first_s: float
    most_s: float


class Supervisor:
    """Parts in stages: those of one stage start side by side and stop side by side. Leaving the ``async with`` stops
    all of them. ``changed`` is called whenever a child has another pid."""

    def __init__(self, patience: Patience, emit: Emit, changed: Callable[[], None]) -> None:
        self._patience = patience
        self._emit = emit
        self._changed = changed
        self._stages: list[list[_Kept]] = []

    async def start(self, parts: Sequence[Part]) -> None:
        """The next stage; returns once every part of it is ready. Raises PartFailed, or what ``program``
        raised."""
        stage = [_Kept(part, self._patience, self._emit, self._changed) for part in parts]
        self._stages.append(stage)
        try:
            async with asyncio.TaskGroup() as starts:
                for kept in stage:
                    starts.create_task(kept.start())
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None

    def children(self) -> dict[str, list[tuple[int, Program]]]:
        """What runs now, by the name of the part."""
        running: dict[str, list[tuple[int, Program]]] = {}
        for kept in (kept for stage in self._stages for kept in stage):
            if kept.child is not None and kept.program is not None:
                running.setdefault(kept.part.name, []).append((kept.child.pid, kept.program))
        return running

    async def stop(self) -> None:
        """Last stage first; each part has its grace."""
        while self._stages:
            await asyncio.gather(*(kept.stop() for kept in self._stages[-1]))
            self._stages.pop()

    def kill(self) -> None:
        """Ends all that still run, at once. ``stop`` then finds them gone."""
        for kept in (kept for stage in self._stages for kept in stage):
            kept.kill()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


class _Kept:
    """One part: its child now, and the loop that replaces it."""

    def __init__(self, part: Part, patience: Patience, emit: Emit, changed: Callable[[], None]) -> None:
        self.part = part
        self.child: Popen[bytes] | None = None
        self.program: Program | None = None
        self._patience = patience
        self._emit = emit
        self._changed = changed
        self._keeping: asyncio.Task[None] | None = None

    async def start(self) -> None:
        child, program = await self._launch()
        end = asyncio.create_task(ended(child))
        ready = asyncio.create_task(until(lambda: self.part.answers(program), self._patience.ready_s))
        try:
            await asyncio.wait((end, ready), return_when=asyncio.FIRST_COMPLETED)
            if end.done():
                raise PartFailed(f"{self.part.name} ended at once, with {end.result()}:\n{tail(program)}")
            if ready.exception():
                raise PartFailed(f"{self.part.name} was not ready in {self._patience.ready_s:g} s:\n{tail(program)}")
        finally:
            end.cancel()
            ready.cancel()
        self._keeping = asyncio.create_task(self._keep(child))

    async def stop(self) -> None:
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.wait((self._keeping,))
        if self.child is not None and self.program is not None:
            await stop(self.child, self.program.stop, self.part.grace_s)

    def kill(self) -> None:
        if self.child is not None and self.program is not None and self.child.poll() is None:
            self.child.send_signal(self.program.orphaned)

    async def _launch(self) -> tuple[Popen[bytes], Program]:
        """``spawn`` and the note of the child stand together: nothing can come between them."""
        self.program = await asyncio.to_thread(self.part.program)
        self.child = spawn(self.program)
        self._changed()
        return self.child, self.program

    async def _keep(self, child: Popen[bytes]) -> None:
        wait_s, since_s = self._patience.first_s, time.monotonic()
        while True:
            code = await ended(child)
            if time.monotonic() - since_s > self._patience.most_s:
                wait_s = self._patience.first_s
            self._emit(PartRestarted(self.part.name, code, wait_s))
            await asyncio.sleep(wait_s)
            wait_s, since_s = min(2 * wait_s, self._patience.most_s), time.monotonic()
            try:
                child, _ = await self._launch()
            except Exception as error:  # such as a full disk: the next round tries again
                self._emit(failure(self.part.name, error))


def tail(program: Program) -> str:
    """The last lines of its log."""
    if program.log is None or not program.log.exists():
        return ""
    return "\n".join(program.log.read_text(errors="replace").splitlines()[-_TAIL_LINES:])

"""Child processes that cannot outlive their parent."""

import asyncio
import contextlib
import ctypes
import importlib.util
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from subprocess import DEVNULL, STDOUT, Popen
from typing import IO, Any, Final

import msgspec

_PR_SET_PDEATHSIG: Final = 1
_LOG_MAX_BYTES: Final = 16 * 1024 * 1024


class Program(msgspec.Struct, frozen=True):
    """How a child is started and ended.

    ``env`` is its whole environment. ``user`` is an account name, None for our own. ``stop`` asks it to leave in
    order; ``orphaned`` is what the kernel sends it when the parent dies, however that dies. Its output is appended to
    ``log``, None: to our stderr.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    log: Path | None
    cwd: Path | None = None
    user: str | None = None
    group: int | None = None
    stop: signal.Signals = signal.SIGTERM
    orphaned: signal.Signals = signal.SIGKILL


def spawn(program: Program) -> Popen[bytes]:
    """Starts it. Call from the main thread: the kernel takes the end of the calling thread for the end of the parent.

    Raises OSError when it cannot be executed.
    """
    with _opened(program.log) as log:
        return Popen(
            program.argv,
            stdin=DEVNULL,
            stdout=log,
            stderr=STDOUT,
            cwd=program.cwd,
            env=dict(program.env),
            user=program.user,
            group=program.group,
            extra_groups=None if program.user is None else [],
            start_new_session=True,  # Ctrl-C reaches the parent alone, who then ends its children in order
            preexec_fn=tied_to_parent(program.orphaned),  # noqa: PLW1509 it calls one function, looked up beforehand
        )


def tied_to_parent(orphaned: signal.Signals) -> Callable[[], None]:
    """What a child runs before its program: it asks the kernel to be sent ``orphaned`` when its parent ends.

    Everything is looked up beforehand, because between fork and exec next to nothing is safe.
    """
    prctl, parent, number = ctypes.CDLL(None, use_errno=True).prctl, os.getpid(), int(orphaned)

    def tie() -> None:
        if prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0) != 0 or os.getppid() != parent:
            os._exit(1)

    return tie


async def ended(child: Popen[bytes]) -> int:
    """Waits for the end of a child, without polling; its exit code, negative for a signal. May be cancelled."""
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    if child.poll() is not None:
        return child.returncode
    fd = os.pidfd_open(child.pid)
    loop.add_reader(fd, over.set)
    try:
        await over.wait()
    finally:
        loop.remove_reader(fd)
        os.close(fd)
    return child.wait()


async def stop(child: Popen[bytes], asked: signal.Signals, grace_s: float) -> int:
    """Asks a child to leave and kills it after the grace; its exit code."""
    if child.poll() is None:
        child.send_signal(asked)
    try:
        return await asyncio.wait_for(ended(child), grace_s)
    except TimeoutError:
        child.kill()
        return await ended(child)


async def until(true: Callable[[], Awaitable[bool]], timeout_s: float) -> None:
    """Asks again every 20 ms: for programs that tell nobody when they are ready. Raises TimeoutError."""
    async with asyncio.timeout(timeout_s):
        while not await true():  # noqa: ASYNC110 there is nothing to be woken by
            await asyncio.sleep(0.02)


def wheel(name: str) -> Path:
    """Where an installed package lies, without importing it. Raises ModuleNotFoundError."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"the package {name} is not installed", name=name)
    return Path(spec.origin).parent


def _opened(log: Path | None) -> AbstractContextManager[IO[Any]]:
    if log is None:
        return contextlib.nullcontext(sys.stderr)
    if log.exists() and log.stat().st_size > _LOG_MAX_BYTES:
        log.replace(log.with_suffix(log.suffix + ".1"))
    return log.open("ab")

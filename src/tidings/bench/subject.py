"""What is measured: Tidings, or the bare loop. Both are driven and checked by the same code."""

import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, Protocol

import psutil

from tidings.bench.ledger import Database, Rules
from tidings.bench.standin import StandIn

USERS: Final = 100_000
_STOP_S: Final = 30.0
_POLL_S: Final = 0.005


class Subject(Protocol):
    """A system under load. ``item`` is the JSON of a notification with ``%d`` for the user and the number; ``roots``
    has the pids of each kind of process, the database's and the stand-in's included."""

    name: str
    url: str
    api_key: str
    item: str
    provider: StandIn

    def roots(self) -> Mapping[str, Sequence[int]]: ...

    def unfinished(self, since_unix_ms: int) -> int:
        """How many deliveries accepted since then are still to be worked on."""
        ...

    def database(self, since_unix_ms: int) -> Database:
        """The ledger of everything accepted since then."""
        ...

    def rules(self) -> Rules: ...


@contextmanager
def still(pids: Sequence[int]) -> Iterator[None]:
    """These processes and their children hold still for the length of a block."""
    roots = [psutil.Process(pid) for pid in pids]
    family = [one for root in roots for one in (root, *root.children(recursive=True))]
    try:
        for one in family:
            one.send_signal(signal.SIGSTOP)
        while not all(_holds_still(one) for one in family):
            time.sleep(_POLL_S)
        yield
    finally:
        for one in family:
            if one.is_running():
                one.send_signal(signal.SIGCONT)


def _holds_still(one: psutil.Process) -> bool:
    try:
        return one.status() in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


@contextmanager
def child(
    command: Sequence[str], environment: Mapping[str, str] | None = None
) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A program that says one line when it is ready; it is asked to leave at the end, and made to after a while.

    Raises OSError when it ends without having said anything.
    """
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as program:
        try:
            line = program.stdout.readline().decode().strip() if program.stdout else ""
            if not line:
                raise OSError(f"{' '.join(command)} ended before it was ready (exit code {program.wait(_STOP_S)})")
            yield program, line
        finally:
            end(program)


def end(program: "subprocess.Popen[bytes]") -> None:
    program.terminate()
    try:
        program.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        program.kill()

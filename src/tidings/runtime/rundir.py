"""The data directory of a running system: who holds it, and where its parts are.

``up.pid`` is locked by the one ``tidings up`` that may run on it. ``run.json`` says where to find what is running;
``settings`` reads the part of that name, so that every command with ``--data-dir`` finds the databases.
"""

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
import psutil

LOCK: Final = "up.pid"
RUN_FILE: Final = "run.json"
API_KEY: Final = "api_key"
MASTER_KEY: Final = "master_key"
SANDBOX_KEY: Final = "sandbox_key"
"""What the sandbox signs its webhooks with."""
RECEIPTS_URLS: Final = "receipts_urls"
"""Where the sandbox sends them: a line ``provider=URL`` each, written by ``tidings bootstrap``."""
LOGS: Final = "log"
_PRIVATE: Final = 0o600


class AlreadyRunning(Exception):
    """Another ``tidings up`` holds the data directory; the message names its process."""


class Running(msgspec.Struct, frozen=True):
    """A system started by ``tidings up``. ``started_at`` is the kernel's figure for the process ``pid``, seconds since
    the epoch, so that a reused number is not mistaken for it. ``settings`` has dotted keys."""

    pid: int
    started_at: float
    url: str
    sandbox_url: str | None
    postgres_dsns: tuple[str, ...]
    valkey_url: str
    pids: Mapping[str, tuple[int, ...]]
    ops_urls: Mapping[str, tuple[str, ...]]
    settings: Mapping[str, Any]

    def alive(self) -> bool:
        try:
            return abs(psutil.Process(self.pid).create_time() - self.started_at) < 1.0
        except psutil.NoSuchProcess:
            return False


@contextmanager
def held(data_dir: Path) -> Iterator[None]:
    """Holds the directory, which is made if need be. The kernel lets go when we end, however that happens. Raises
    AlreadyRunning."""
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    (data_dir / LOGS).mkdir(mode=0o700, exist_ok=True)
    path = data_dir / LOCK
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, _PRIVATE), "r+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunning(f"tidings up (pid {lock.read().strip()}) already runs on {data_dir}") from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield


def note(data_dir: Path, running: Running) -> None:
    """Says where everything is. Readers see the old file or the new one, never half of it."""
    write_private(data_dir / RUN_FILE, msgspec.json.format(msgspec.json.encode(running)).decode())


def forget(data_dir: Path) -> None:
    (data_dir / RUN_FILE).unlink(missing_ok=True)


def find(data_dir: Path) -> Running | None:
    """The system that runs on this directory, None when none does."""
    try:
        running = msgspec.json.decode((data_dir / RUN_FILE).read_bytes(), type=Running)
    except (OSError, msgspec.DecodeError):
        return None
    return running if running.alive() else None


def write_private(path: Path, text: str) -> None:
    """Readable by us alone from its first moment, and whole or not there."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE), "w") as file:
        file.write(text)
    fresh.replace(path)

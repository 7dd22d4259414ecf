"""The provider stand-in for load: ``standin.c``, compiled at first use, started, asked and stopped.

It speaks SendGrid's protocol on a loopback port and keeps a ledger of every reference that it took.
"""

import hashlib
import http.client
import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Final, Generic, TypeVar
from urllib.parse import urlsplit

import msgspec

from tidings.bench.ledger import Taken
from tidings.domain.ids import parse_reference

PAGE: Final = 100_000
_SANDBOX_PAGE: Final = 1_000
_TIMEOUT_S: Final = 30.0
_FNV_OFFSET: Final = 14695981039346656037
_FNV_PRIME: Final = 1099511628211
_NO_COMPILER: Final = (
    "no C compiler (cc, gcc, clang) on PATH. The stand-in for load needs one: apt-get install gcc libc6-dev. "
    "For checks without figures, `tidings sandbox --lean` and `tidings ledger --sandbox URL` do without"
)
Item = TypeVar("Item")


class NoCompiler(Exception):
    """There is no C compiler here. The message says what to do."""


class Stats(msgspec.Struct, frozen=True):
    """The counters of one provider. ``references`` and ``deliveries`` count distinct ones, ``repeated`` and
    ``repeated_deliveries`` those of them that were taken more than once."""

    requests: int
    accepted: int
    refused: int
    references: int
    repeated: int
    deliveries: int = 0
    repeated_deliveries: int = 0
    unreferenced: int = 0


def credential_hash(authorization: str) -> str:
    """What the stand-in keeps of an ``Authorization`` header: FNV-1a, 64 bits, as hex."""
    value = _FNV_OFFSET
    for byte in authorization.encode():
        value = (value ^ byte) * _FNV_PRIME & 0xFFFFFFFFFFFFFFFF
    return f"{value:016x}"


def cache_dir() -> Path:
    return Path.home() / ".cache" / "tidings"


def build(into: Path | None = None) -> Path:
    """The compiled program, made when this source has not been compiled here before. Raises ``NoCompiler``."""
    source = resources.files("tidings.bench").joinpath("standin.c").read_bytes()
    folder = into or cache_dir()
    program = folder / f"standin-{hashlib.sha256(source).hexdigest()[:16]}"
    if not program.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _compile(source, program)
    return program


def _compile(source: bytes, program: Path) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise NoCompiler(_NO_COMPILER)
    fresh = program.with_suffix(f".{os.getpid()}")
    command = [compiler, "-O2", "-x", "c", "-o", str(fresh), "-"]
    done = subprocess.run(command, input=source, capture_output=True, check=False)
    if done.returncode:
        raise NoCompiler(f"{compiler} could not compile the stand-in: {done.stderr.decode(errors='replace')[-2000:]}")
    fresh.replace(program)


class StandIn:
    """A provider stand-in that is running, wherever it came from: it is known by its URL alone."""

    def __init__(self, url: str, pid: int) -> None:
        self.url = url
        self.pid = pid
        self._netloc = urlsplit(url).netloc

    def stats(self) -> Stats:
        """The counters now. Raises OSError when it cannot be reached."""
        return msgspec.json.decode(self._ask("GET", "/_sandbox/stats"), type=dict[str, Stats])["sendgrid"]

    def forget(self) -> None:
        """Empties the ledger and sets every counter to zero."""
        self._ask("DELETE", "/_sandbox/messages")

    def references(self, page: int = PAGE) -> Iterator[Taken]:
        """Every reference taken since the last ``forget``, in the order of their first arrival."""
        after = 0
        while lines := self._ask("GET", f"/_sandbox/references?after={after}&limit={page}").splitlines():
            yield from map(_taken, lines)
            after += len(lines)

    def _ask(self, method: str, path: str) -> bytes:
        return _ask(self._netloc, method, path)


def _taken(line: bytes) -> Taken:
    """``<32 hex>-<n> <unix_ns> <times> <credential>``"""
    reference, arrived, times, credential = line.split()
    delivery = bytes.fromhex(reference[:32].decode())
    return Taken(delivery, int(reference[33:]), int(arrived), int(times), credential.decode())


class _Message(msgspec.Struct):
    reference: str | None


class _Page(msgspec.Struct, Generic[Item]):
    items: list[Item]
    next: int | None = None


def sandbox_references(url: str) -> list[Taken]:
    """Every reference in the ledger of ``tidings sandbox``, which keeps neither arrivals nor credentials apart. One
    started with ``--lean`` cannot say either how often each was taken. Raises OSError when it cannot be reached."""
    netloc = urlsplit(url).netloc
    times = Counter(message.reference for message in _pages(netloc, "/_sandbox/messages", _Page[_Message]))
    references = _pages(netloc, "/_sandbox/references", _Page[str])
    ours = {reference: parsed for reference in references if (parsed := parse_reference(reference))}
    return [Taken(delivery.bytes, n, 0, max(1, times[text])) for text, (delivery, n) in ours.items()]


def _pages(netloc: str, path: str, type_: type[_Page[Item]]) -> Iterator[Item]:
    after: int | None = 0
    while after is not None:
        page = msgspec.json.decode(_ask(netloc, "GET", f"{path}?after={after}&limit={_SANDBOX_PAGE}"), type=type_)
        yield from page.items
        after = page.next


def _ask(netloc: str, method: str, path: str) -> bytes:
    connection = http.client.HTTPConnection(netloc, timeout=_TIMEOUT_S)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        body = answer.read()
    finally:
        connection.close()
    if answer.status >= 400:
        raise OSError(f"{method} {path}: {answer.status} {body[:200]!r}")
    return body


@contextmanager
def running(latency_ms: int = 0, port: int = 0) -> Iterator[StandIn]:
    """A stand-in on a loopback port, free of its own choice when ``port`` is 0, stopped at the end.

    It also ends by itself when this program does, however that happens. Raises ``NoCompiler``.
    """
    command = [str(build()), "--port", str(port), "--latency-ms", str(latency_ms), "--lifeline"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        try:
            yield StandIn(f"http://127.0.0.1:{_listening(child)}", child.pid)
        finally:
            child.terminate()


def _listening(child: subprocess.Popen[bytes]) -> int:
    line = child.stdout.readline() if child.stdout else b""
    if not line.startswith(b"listening "):
        raise OSError("the stand-in did not start")
    return int(line.split()[1])

"""Tidings as a subject: one that the bench starts itself with ``tidings up``, or one that runs already."""

import asyncio
import http.client
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import msgspec

from tidings.bench.ledger import Database, Rules
from tidings.bench.ledger_rows import count_unfinished, read_accounts, read_database
from tidings.bench.standin import StandIn, credential_hash
from tidings.bench.subject import end

PROVIDER_KEY: Final = "SG.bench"
TEMPLATE: Final = "bench_order"
ITEM: Final = (
    '{"to":{"user":"bench-user-%d","email":"bench-user@example.com"},'
    f'"template":"{TEMPLATE}","data":{{"name":"Ada","order":"A-%d","total":"12.50"}}}}'
)
_CONTENT: Final = {
    "subject": "Your order {{ order }}",
    "html": "<h1>Hello {{ name }}</h1><p>Your order {{ order }} of {{ total }} is confirmed.</p>",
}
_TIMEOUT_S: Final = 30.0
_POLL_S: Final = 0.05


class Address(msgspec.Struct, frozen=True):
    """What ``tidings up --json`` says once the system is ready."""

    url: str
    api_key: str
    postgres_dsns: tuple[str, ...]
    pids: Mapping[str, tuple[int, ...]]


class Refused(Exception):
    """The API did not do what the bench needs; the message has its answer."""


class System:
    """A system that runs, and the stand-in that its e-mail goes to."""

    name = "tidings"
    item = ITEM

    def __init__(self, address: Address, provider: StandIn) -> None:
        self.url = address.url
        self.api_key = address.api_key
        self.provider = provider
        self.dsns = address.postgres_dsns
        self._roots = {**address.pids, "stand_in": (provider.pid,)}
        self._accounts: dict[int, int] = {}

    def roots(self) -> Mapping[str, Sequence[int]]:
        return self._roots

    def unfinished(self, since_unix_ms: int) -> int:
        return asyncio.run(count_unfinished(self.dsns, since_unix_ms))

    def database(self, since_unix_ms: int) -> Database:
        return asyncio.run(read_database(self.dsns, since_unix_ms))

    def rules(self) -> Rules:
        accounts = asyncio.run(read_accounts(self.dsns))
        ours = set(accounts.values())
        credential = credential_hash(f"Bearer {PROVIDER_KEY}")
        return Rules(accounts=accounts, credentials={credential: ours.pop()} if len(ours) == 1 else {})

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """One call to the API. Raises ``Refused``."""
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=_TIMEOUT_S)
        headers = {"Authorization": f"Bearer {self.api_key}", "Content-Type": "application/json"}
        connection.request(method, f"/api/v1{path}", None if body is None else msgspec.json.encode(body), headers)
        answer = connection.getresponse()
        said = answer.read()
        connection.close()
        if answer.status >= 400:
            raise Refused(f"{method} {path}: {answer.status} {said.decode(errors='replace')[:500]}")
        return msgspec.json.decode(said) if said else None


@contextmanager
def started(provider: StandIn, workers: int = 1) -> Iterator[System]:
    """A system of its own in a directory that is gone afterwards, ready to send to this stand-in.

    Raises OSError when it does not start, ``Refused`` when it cannot be set up.
    """
    with tempfile.TemporaryDirectory(prefix="tidings-bench-", ignore_cleanup_errors=True) as folder:
        command = [sys.executable, "-m", "tidings", "up", "--json", "--port", "0", "--data-dir", folder]
        with subprocess.Popen([*command, "--workers", str(workers)], stdout=subprocess.PIPE) as program:
            try:
                system = System(_address(program), provider)
                prepare(system)
                yield system
            finally:
                end(program)


def _address(program: "subprocess.Popen[bytes]") -> Address:
    line = program.stdout.readline() if program.stdout else b""
    if not line:
        raise OSError("`tidings up` ended before it was ready; what it said is above")
    return msgspec.json.decode(line, type=Address)


@contextmanager
def running(data_dir: Path, provider: StandIn) -> Iterator[System]:
    """The system that ``tidings up`` runs on this directory. Raises FileNotFoundError when none does."""
    said = msgspec.json.decode((data_dir / "run.json").read_bytes(), type=dict[str, Any])
    said["api_key"] = (data_dir / "api_key").read_text().strip()
    system = System(msgspec.convert(said, Address), provider)
    prepare(system)
    yield system


def prepare(system: System) -> None:
    """The template, the provider, and a first message that shows that both are known everywhere."""
    system.ask("PUT", f"/templates/{TEMPLATE}", {"category": "general", "content": _CONTENT})
    point_at(system, system.provider)
    _await_first_message(system)


def point_at(system: System, provider: StandIn) -> None:
    """From now on this system's e-mail goes to this stand-in."""
    settings = {"url": provider.url, "api_key": PROVIDER_KEY}
    system.ask("PUT", "/providers/sendgrid", {"channel": "email", "settings": settings})


def _await_first_message(system: System) -> None:
    system.provider.forget()
    until = time.monotonic() + _TIMEOUT_S
    while not system.provider.stats().accepted:
        if time.monotonic() > until:
            raise Refused("no message reached the stand-in; see the worker's log")
        if not system.unfinished(0):
            system.ask("POST", "/notifications", {"to": {"email": f"{uuid4().hex}@example.com"}, "template": TEMPLATE})
        time.sleep(_POLL_S)


def database_beside(dsn: str, name: str) -> str:
    """The DSN of another database on the same server."""
    return urlunsplit(urlsplit(dsn)._replace(path=f"/{name}"))

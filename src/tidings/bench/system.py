"""Tidings as a subject: one that the bench starts itself with ``tidings up``, or one that runs already."""

import asyncio
import http.client
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import msgspec

from tidings.bench.ledger import Database, Rules
from tidings.bench.ledger_rows import count_unfinished, read_accounts, read_database
from tidings.bench.standin import StandIn, credential_hash
from tidings.bench.subject import USERS, child
from tidings.runtime import rundir

PROVIDER: Final = "bench"
LOOPBACK: Final = "127.0.0.0/8"
PROVIDER_KEY: Final = "SG.bench"
TEMPLATE: Final = "bench_order"
ITEM: Final = f'{{"to":"bench-user-%d","template":"{TEMPLATE}","data":{{"name":"Ada","order":"A-%d","total":"12.50"}}}}'
_CONTENT: Final = {
    "subject": "Your order {{ order }}",
    "html": "<h1>Hello {{ name }}</h1><p>Your order {{ order }} of {{ total }} is confirmed.</p>",
}
_DATA: Final = {"name": "Ada", "order": "A-0", "total": "12.50"}
_USERS_PER_CALL: Final = 2_000
_TIMEOUT_S: Final = 30.0
_MOMENT_S: Final = 2.0
_FIRST_MESSAGE_S: Final = 120.0
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
def started(provider: StandIn) -> Iterator[System]:
    """A system of its own in a directory that is gone afterwards, ready to send to this stand-in.

    Raises OSError when it does not start, ``Refused`` when it cannot be set up.
    """
    with tempfile.TemporaryDirectory(prefix="tidings-bench-", ignore_cleanup_errors=True) as folder:
        command = [sys.executable, "-m", "tidings", "up", "--json", "--port", "0", "--data-dir", folder]
        environment = {"TIDINGS_EGRESS_ALLOW": LOOPBACK, **os.environ}  # for the stand-in
        with child(command, environment) as (_, said):
            system = System(msgspec.json.decode(said, type=Address), provider)
            prepare(system)
            with sending_to(system, provider):
                yield system


@contextmanager
def running(data_dir: Path, provider: StandIn) -> Iterator[System]:
    """The system that ``tidings up`` runs on this directory; its e-mail goes to the stand-in for the length of the
    block. Raises FileNotFoundError when none runs, ``Refused`` when it cannot be set up."""
    found = rundir.find(data_dir)
    if found is None:
        raise FileNotFoundError(f"nothing runs on {data_dir}: `tidings up` starts it")
    key = (data_dir / rundir.API_KEY).read_text().strip()
    system = System(Address(found.url, key, found.postgres_dsns, found.pids), provider)
    prepare(system)
    with sending_to(system, provider):
        yield system


def prepare(system: System) -> None:
    """The template and the users."""
    system.ask("PUT", f"/templates/{TEMPLATE}", {"category": "general", "content": _CONTENT})
    for first in range(0, USERS, _USERS_PER_CALL):
        names = [f"bench-user-{number}" for number in range(first, first + _USERS_PER_CALL)]
        users = [{"id": name, "emails": [f"{name}@example.com"]} for name in names]
        system.ask("POST", "/users/batch", {"users": users})


@contextmanager
def sending_to(system: System, provider: StandIn) -> Iterator[None]:
    """E-mail goes to this stand-in, through an account of its own, for the length of the block."""
    settings = {"url": provider.url, "api_key": PROVIDER_KEY}
    system.ask("PUT", f"/providers/{PROVIDER}", {"kind": "sendgrid", "settings": settings})
    route = system.ask("GET", "/routes/email")["providers"]
    system.ask("PUT", "/routes/email", {"providers": [PROVIDER]})
    try:
        _await_first_message(system)
        yield
    finally:
        system.ask("PUT", "/routes/email", {"providers": route})


def _await_first_message(system: System) -> None:
    """Workers learn of a new route a moment later, so the first message is due a moment later. Should it be too early
    for one of them all the same, it waits for its second chance: nothing may be on its way when a run begins."""
    system.provider.forget()
    send_at = datetime.now(UTC) + timedelta(seconds=_MOMENT_S)
    message = {"to": "bench-user-0", "template": TEMPLATE, "data": _DATA, "send_at": send_at.isoformat()}
    system.ask("POST", "/notifications", message)
    until = time.monotonic() + _FIRST_MESSAGE_S
    while not system.provider.stats().accepted or system.unfinished(0):
        if time.monotonic() > until:
            raise Refused("no message reached the stand-in; see the worker's log")
        time.sleep(_POLL_S)


def database_beside(dsn: str, name: str) -> str:
    """The DSN of another database on the same server."""
    return urlunsplit(urlsplit(dsn)._replace(path=f"/{name}"))

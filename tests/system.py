"""A whole system of real processes for tests: started, loaded, broken, and checked by its ledgers."""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGTERM, Signals
from typing import Any
from uuid import UUID

import aiohttp
import asyncpg
import msgspec
import psutil
from msgspec import structs

from tidings.bench.ledger import Call, Ledgers, Report, Rules, Taken, check
from tidings.bench.ledger_rows import read_accounts, read_database
from tidings.domain.ids import first_at, parse_reference
from tidings.runtime import rundir
from tidings.runtime.child import tied_to_parent

SHORT: Mapping[str, str] = {
    # durations that a test can wait for; the order between them is the product's
    "TIDINGS_WORKER_LEASE_S": "4",
    "TIDINGS_WORKER_SEND_RESERVE_S": "2.3",
    "TIDINGS_WORKER_PROVIDER_TIMEOUT_S": "1.2",
    "TIDINGS_WORKER_CONNECT_TIMEOUT_S": "0.5",
    "TIDINGS_WORKER_POLL_S": "0.3",
    "TIDINGS_WORKER_ACCOUNT_PAUSE_S": "1",
    "TIDINGS_WORKER_RETRY_SCHEDULE_S": "[0.5, 1, 2]",
    # the schedule is tested without breakers, which would hold it back
    "TIDINGS_BREAKER_FAILURES": "1000000",
    "TIDINGS_BREAKER_SHARE_OF": "1000000",
    "TIDINGS_DOUBT_SETTLE_S": "4",
    "TIDINGS_DOUBT_LOOK_UP_S": "0.5",
    "TIDINGS_RELAY_SWEEP_S": "0.3",
    "TIDINGS_RELAY_FIGURES_S": "0.3",
    "TIDINGS_UP_RESTART_MOST_S": "1",
}
TEMPLATE = "order_confirmation"


async def until(true: Callable[[], Any], timeout_s: float, what: str) -> Any:
    """Waits for a condition, sync or async, and gives its value; fails with ``what`` was waited for."""
    end = time.monotonic() + timeout_s
    while True:
        value = true()
        if asyncio.iscoroutine(value):
            value = await value
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"waited {timeout_s} s in vain for {what}")
        await asyncio.sleep(0.05)


class System:
    """One run of ``tidings up``, with the client's ledger of everything that was asked of it."""

    def __init__(self, data_dir: Path, process: asyncio.subprocess.Process, told: dict[str, Any]) -> None:
        self.data_dir = data_dir
        self.process = process
        self.url, self.key, self.sandbox_url = told["url"], told["api_key"], told["sandbox_url"]
        self.dsns: Sequence[str] = told["postgres_dsns"]
        self.calls: list[Call] = []
        self.began_ms = int(time.time() * 1000)
        self._before: list[dict[str, Any]] = []
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=15)
        )
        self._numbers = iter(range(1, 1 << 60))

    # the API, as a client sees it

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any, Mapping[str, str]]:
        """Status, decoded body and headers. Raises aiohttp.ClientError when there is no answer."""
        data = body if isinstance(body, bytes) or body is None else msgspec.json.encode(body)
        given = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json", **headers}
        async with self._session.request(method, f"{self.url}/api/v1{path}", data=data, headers=given) as answer:
            content = await answer.read()
            return answer.status, msgspec.json.decode(content) if content else None, answer.headers

    def wanted(self, user: str | None = None, **more: Any) -> tuple[str, dict[str, Any]]:
        """A fresh idempotency key, and a body that asks for one notification and names the key as its reference."""
        number = next(self._numbers)
        key, user = f"key-{number}-{os.urandom(4).hex()}", user or f"user-{number}"
        data = {"name": "Ada", "order": str(number), "total": "1"}
        to = {"user": user, "email": f"{user}@example.com"}
        return key, {"to": to, "template": TEMPLATE, "data": data, "reference": key, **more}

    async def post(self, key: str, body: Mapping[str, Any]) -> tuple[int, Any, Mapping[str, str]]:
        """Asks once; status 0 when there was no answer. Whatever came goes into the ledger."""
        scope = f"{body['to']['user']}/{key}"
        status, said, headers = 0, None, dict[str, str]()
        with suppress(aiohttp.ClientError, TimeoutError, OSError):
            status, said, headers = await self.ask("POST", "/notifications", body, **{"Idempotency-Key": key})
        id_ = UUID(said["id"]).bytes if status == 202 else None
        self.calls.append(Call(scope, status, id_, hash(msgspec.json.encode(body))))
        return status, said, headers

    async def insist(self, key: str, body: Mapping[str, Any], again_s: float = 30.0) -> tuple[str, Mapping[str, str]]:
        """Asks with the same key until there is an answer that counts, as a careful client does; gives the
        notification's id and the headers of that answer."""
        end = time.monotonic() + again_s
        while True:
            status, said, headers = await self.post(key, body)
            if status == 202:
                return said["id"], headers
            assert status in (0, 409, 429, 503), f"{status}: {said}"
            assert status not in (429, 503) or "Retry-After" in headers, f"{status} does not say when to come back"
            assert time.monotonic() < end, f"no answer that counts for {key}; the last one is {status}: {said}"
            await asyncio.sleep(0.1)

    async def send(self, key: str | None = None, *, user: str | None = None, again_s: float = 30.0, **more: Any) -> str:
        """Insists on one notification, and gives its id."""
        fresh, body = self.wanted(user, **more)
        return (await self.insist(key or fresh, body, again_s))[0]

    async def send_batch(self, items: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
        """Asks once for many, as ``wanted`` made them, and gives their ids."""
        bodies = [{**body, "idempotency_key": key} for key, body in items]
        status, said, _ = await self.ask("POST", "/notifications/batch", {"notifications": bodies})
        assert (status, said.get("refused")) == (202, 0), said
        ids = [result["id"] for result in said["results"]]
        for (key, body), id_ in zip(items, ids, strict=True):
            self.calls.append(Call(f"{body['to']['user']}/{key}", 202, UUID(id_).bytes))
        return ids

    async def load(self, per_s: float, for_s: float) -> Sequence[str]:
        """A steady rate, each client careful; gives the ids once all have been accepted."""
        clients, end = [], time.monotonic() + for_s
        while time.monotonic() < end:
            clients.append(asyncio.create_task(self.send()))
            await asyncio.sleep(1 / per_s)
        return await asyncio.gather(*clients)

    async def get(self, id_: str) -> dict[str, Any]:
        status, said, _ = await self.ask("GET", f"/notifications/{id_}")
        assert status == 200, said
        return said

    async def becomes(self, id_: str, *statuses: str, timeout_s: float = 30.0) -> dict[str, Any]:
        """Waits until the notification has one of these statuses, and gives it."""
        last: dict[str, Any] = {}

        async def there() -> bool:
            nonlocal last
            with suppress(aiohttp.ClientConnectionError):  # who waits asks again
                last = await self.get(id_)
            return last.get("status") in statuses

        try:
            await until(there, timeout_s, f"{id_} to become {' or '.join(statuses)}")
        except AssertionError as fault:
            raise AssertionError(f"{fault}; it is {last}") from None
        return last

    async def by(self, *providers: str) -> None:
        """E-mail goes by these, in this order, unless a rule says otherwise. Returns when all processes know: they look
        twice a second."""
        status, said, _ = await self.ask("GET", "/routes/email")
        if said["providers"] != list(providers):
            route = {"providers": list(providers), "rules": said["rules"]}
            status, said, _ = await self.ask("PUT", "/routes/email", route)
            assert status == 200, said
            await asyncio.sleep(1)

    # the sandbox

    async def sandbox(self, method: str, path: str, body: Any = None) -> Any:
        async with self._session.request(method, f"{self.sandbox_url}/_sandbox{path}", json=body) as answer:
            assert answer.status < 300, await answer.text()
            return msgspec.json.decode(await answer.read() or b"null")

    async def fault(self, fault: str, provider: str = "sendgrid", **more: Any) -> None:
        await self.sandbox("PUT", f"/faults/{provider}", {"fault": fault, **more})

    async def heal(self, provider: str = "sendgrid") -> None:
        await self.sandbox("DELETE", f"/faults/{provider}")

    async def well(self) -> None:
        """Every provider answers as it should, and tells what became of its messages as it does by default."""
        for provider in await self.sandbox("GET", "/stats"):
            await self.heal(provider)
            await self.receipts(provider)

    async def receipts(self, provider: str = "sendgrid", **more: Any) -> None:
        await self.sandbox("PUT", f"/receipts/{provider}", more)

    async def stats(self, provider: str = "sendgrid") -> dict[str, Any]:
        return (await self.sandbox("GET", "/stats"))[provider]

    async def took(self, at_least: int = 1, provider: str = "sendgrid") -> bool:
        """Has the provider taken so many by now?"""
        return bool((await self.stats(provider))["accepted"] >= at_least)

    async def taken(self) -> list[dict[str, Any]]:
        """Everything in the sandbox's ledger, also what it held before it was killed."""
        items, after = list(self._before), None
        while True:
            page = await self.sandbox("GET", "/messages?limit=1000" + (f"&after={after}" if after else ""))
            items += page["items"]
            after = page["next"]
            if after is None:
                return items

    async def keep_ledger(self) -> None:
        """Remembers what the sandbox took, which it forgets when it is killed."""
        self._before = await self.taken()

    # processes

    def pids(self, role: str) -> Sequence[int]:
        """Of the running children of that role: api, worker, relay, sandbox, postgres, valkey, kafka."""
        running = rundir.find(self.data_dir)
        return running.pids.get(role, ()) if running else ()

    def signal(self, role: str, number: Signals = SIGKILL) -> int:
        """Signals the first process of a role and gives its pid."""
        pid = self.pids(role)[0]
        os.kill(pid, number)
        return pid

    def signal_family(self, role: str, number: Signals = SIGKILL) -> int:
        """Signals the first process of a role, then all that it has started; gives its pid."""
        pid = self.pids(role)[0]
        children = psutil.Process(pid).children(recursive=True)
        os.kill(pid, number)
        for child in children:
            with suppress(psutil.NoSuchProcess):
                child.send_signal(number)
        return pid

    async def replaced(self, role: str, pid: int, timeout_s: float = 60.0) -> None:
        """Returns once another process has taken the place of ``pid`` and is ready."""
        await until(lambda: self.pids(role) and pid not in self.pids(role), timeout_s, f"a new {role}")
        await self.ready(timeout_s)

    async def ready(self, timeout_s: float = 60.0) -> None:
        """Returns once every child says that it can take work."""
        await until(self._all_ready, timeout_s, "all children to be ready")

    async def _all_ready(self) -> bool:
        running = rundir.find(self.data_dir)
        urls = [url for urls in running.ops_urls.values() for url in urls] if running else []
        return bool(urls) and all([await self.is_ready(url) for url in urls])

    async def is_ready(self, url: str) -> bool:
        with suppress(aiohttp.ClientError, TimeoutError, OSError):
            async with self._session.get(f"{url}/readyz") as answer:
                return answer.status == 200
        return False

    def family(self) -> list[psutil.Process]:
        """``tidings up`` and everything under it."""
        up = psutil.Process(self.process.pid)
        return [up, *up.children(recursive=True)]

    async def stopped(self, timeout_s: float = 20.0) -> int:
        """The pid of the one process that stands still after SIGSTOP, once there is one."""
        (pid,) = await until(self._stand_still, timeout_s, "a process that stands still")
        return pid

    def wake(self) -> None:
        """Whatever stands still goes on."""
        for pid in self._stand_still():
            os.kill(pid, SIGCONT)

    def _stand_still(self) -> list[int]:
        found = []
        for one in self.family():
            with suppress(psutil.NoSuchProcess):
                found += [one.pid] if one.status() == psutil.STATUS_STOPPED else []
        return found

    @property
    def fault_file(self) -> Path:
        return self.data_dir / "fault"

    def arm(self, point: str, number: Signals = SIGKILL) -> None:
        """The next process that comes by ``point`` sends itself this signal, once."""
        fresh = self.fault_file.with_suffix(".new")
        fresh.write_text(f"{point} {number.name}")
        fresh.replace(self.fault_file)

    async def fired(self, timeout_s: float = 20.0) -> None:
        await until(lambda: not self.fault_file.exists(), timeout_s, "the fault point to be reached")

    # the ledgers

    async def begin(self) -> None:
        """Waits until all is well and what came before is settled, and opens new ledgers."""
        await self.ready()
        await self.settled()
        await self.sandbox("DELETE", "/messages")
        self.calls, self._before, self.began_ms = [], [], int(time.time() * 1000)

    def go_on_from(self, before: "System") -> None:
        """Takes over the ledgers of an earlier run on the same directory."""
        self.calls, self._before, self.began_ms = before.calls, before._before, before.began_ms

    async def settled(self, timeout_s: float = 90.0) -> None:
        """Returns once nothing is left to do but dead letters, and what is meant for another day."""
        left = (
            "SELECT count(*) AS n FROM dispatch "
            "WHERE id >= $1 AND state <> 4 AND (state <> 0 OR due_at < now() + interval '1 hour')"
        )

        async def nothing_left() -> bool:
            try:
                return sum(row["n"] for row in await self.rows(left, first_at(self.began_ms))) == 0
            except (OSError, asyncpg.PostgresError):
                return False

        await until(nothing_left, timeout_s, "everything to settle")

    async def check(self, rules: Rules | None = None, elsewhere: Sequence[str] = ()) -> Report:
        """Settles, compares all ledgers, and fails unless they are clean. ``elsewhere`` are the references that other
        providers than the sandbox took."""
        await self.settled()
        rules = structs.replace(rules or Rules(), accounts=await read_accounts(self.dsns))
        database = await read_database(self.dsns, self.began_ms)
        report = check(Ledgers(database, self.calls, await self._provider_ledger(elsewhere)), rules)
        assert report.clean, msgspec.json.format(msgspec.json.encode(report.summary())).decode()
        return report

    async def _provider_ledger(self, elsewhere: Sequence[str]) -> list[Taken]:
        times: dict[tuple[bytes, int], int] = {}
        for text in [*(item["reference"] for item in await self.taken()), *elsewhere]:
            reference = parse_reference(text)
            if reference:
                taken = (reference[0].bytes, reference[1])
                times[taken] = times.get(taken, 0) + 1
        return [Taken(delivery, n, 0, count) for (delivery, n), count in times.items()]

    async def rows(self, statement: str, *values: Any) -> list[asyncpg.Record]:
        """From both shards."""
        return [row for shard in (0, 1) for row in await self.shard_rows(shard, statement, *values)]

    async def shard_rows(self, shard: int, statement: str, *values: Any) -> list[asyncpg.Record]:
        connection = await asyncpg.connect(self.dsns[1 + shard])
        try:
            return await connection.fetch(statement, *values)
        finally:
            await connection.close()

    def logs(self, role: str) -> str:
        """By the name of the command: api, work, relay, sandbox, postgres, valkey, kafka; up."""
        return (self.data_dir / rundir.LOGS / f"{role}.log").read_text()

    def events(self, role: str, name: str) -> list[dict[str, Any]]:
        """What a role has logged of this class of ``domain.events``."""
        lines = (line for line in self.logs(role).splitlines() if f'"{name}"' in line)
        return [msgspec.json.decode(line) for line in lines]

    async def close(self) -> None:
        await self._session.close()


def command(data_dir: Path, workers: int = 1, port: int = 0, words: Sequence[str] = ()) -> list[str]:
    asked = ["up", "--json", "--sandbox", "--data-dir", str(data_dir), "--port", str(port), "--workers", str(workers)]
    return [sys.executable, "-m", "tidings", *asked, *words]


def environment(data_dir: Path, settings: Mapping[str, str]) -> dict[str, str]:
    """Ours, with these settings and no others."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TIDINGS_")}
    peers = {"TIDINGS_EGRESS_ALLOW": "127.0.0.0/8"}  # those of the tests themselves
    faults = {"TIDINGS_TEST_ENABLED": "true", "TIDINGS_TEST_FAULT_FILE": str(data_dir / "fault")}
    return {**inherited, **peers, **settings, **faults}


@asynccontextmanager
async def running(
    data_dir: Path, settings: Mapping[str, str] = SHORT, workers: int = 1, port: int = 0, words: Sequence[str] = ()
) -> AsyncIterator[System]:
    """``tidings up`` with a sandbox, and these words, on this directory; stopped at the end, whatever became of it."""
    (data_dir / rundir.LOGS).mkdir(parents=True, exist_ok=True)
    with (data_dir / rundir.LOGS / "up.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *command(data_dir, workers, port, words),
            env=environment(data_dir, settings),
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            limit=1 << 20,
            preexec_fn=tied_to_parent(SIGTERM),
        )
    try:
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), 120)
        assert line, f"tidings up ended before it was ready:\n{Path(log.name).read_text()}"
        system = System(data_dir, process, msgspec.json.decode(line))
        try:
            await system.by("sendgrid")
            yield system
        finally:
            await system.close()
    finally:
        if process.returncode is None:
            process.terminate()
        await asyncio.wait_for(process.wait(), 60)

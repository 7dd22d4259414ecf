"""The load generator, the database's ledger and the bare loop, over real sockets and a real PostgreSQL."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from uuid import UUID, uuid4

import aiohttp
import asyncpg
import msgspec
import psutil
import pytest

from tidings.bench import client_ledger, cpu, ledger_rows
from tidings.bench.figures import median, percentile
from tidings.bench.ledger import Attempt, Delivery, Receipt, Taken
from tidings.bench.limit.bare import ITEM, bare_loop
from tidings.bench.load import Plan, Requests, Summary
from tidings.bench.scenarios import Wish, put_through
from tidings.bench.standin import running, sandbox_references
from tidings.bench.subject import still
from tidings.domain.delivery import Mark, State
from tidings.domain.ids import Slot, compose
from tidings.sandbox.app import SandboxConfig
from tidings.sandbox.app import run as run_sandbox

MIGRATION = "src/tidings/storage/migrations/shard/0001_the_spine.sql"
pytestmark = pytest.mark.usefixtures("compiler")


@pytest.fixture(scope="module")
def compiler(tool) -> None:
    tool("cc")


class Server:
    """Answers every request with what the script says, as slowly as it says."""

    def __init__(self, answer: bytes, delay_s: float = 0.0, close_after: int | None = None) -> None:
        self.answer, self.delay_s, self.close_after = answer, delay_s, close_after
        self.requests: list[bytes] = []
        self.keys: list[str] = []
        self.url = ""

    async def __aenter__(self) -> "Server":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                headers = dict(line.lower().split(": ", 1) for line in head.splitlines()[1:] if line)
                self.keys.append(headers["idempotency-key"])
                self.requests.append(await reader.readexactly(int(headers["content-length"])))
                if self.close_after is not None and len(self.requests) > self.close_after:
                    return
                await asyncio.sleep(self.delay_s)
                writer.write(self.answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


def answer(status: str, body: bytes) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def plan(url: str, tmp_path: Path, **changes: object) -> Plan:
    wishes = {"seconds": 0.5, "connections": 4, "users": 100, "key_prefix": "k", "grace_s": 5.0}
    return Plan(url=url, api_key="secret", item=ITEM, ledger=str(tmp_path / "client"), **{**wishes, **changes})


async def load(wanted: Plan) -> Summary:
    command = [sys.executable, "-m", "tidings.bench.load"]
    child = await asyncio.create_subprocess_exec(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    said, _ = await child.communicate(msgspec.json.encode(wanted))
    return msgspec.json.decode(said, type=Summary)


# the load


async def test_every_request_has_a_key_a_user_and_a_body_of_its_own(tmp_path):
    async with Server(answer("202 Accepted", b'{"id":"%s"}' % str(uuid4()).encode())) as server:
        summary = await load(plan(server.url, tmp_path, count=40, seconds=10.0))
    assert (summary.requests, summary.accepted, summary.statuses) == (40, 40, {202: 40})
    assert sorted(server.keys) == sorted(f"k-{number}" for number in range(40))
    assert len({msgspec.json.decode(request)["to"] for request in server.requests}) == 40
    assert len(set(server.requests)) == 40


async def test_a_batch_is_one_request_with_distinct_users_and_its_results_are_kept_one_by_one(tmp_path):
    ids = [uuid4() for _ in range(2)]
    results = [{"id": str(ids[0])}, {"problem": {"status": 422}}, {"id": str(ids[1])}]
    body = msgspec.json.encode({"accepted": 2, "refused": 1, "results": results})
    async with Server(answer("202 Accepted", body)) as server:
        summary = await load(plan(server.url, tmp_path, count=1, batch=3, connections=1))
    assert summary.accepted == 2
    sent = msgspec.json.decode(server.requests[0])["notifications"]
    assert len({one["to"] for one in sent}) == 3
    asked = list(client_ledger.read(tmp_path / "client"))
    assert [(one.key, one.status, one.id) for one in asked] == [
        ("k-0:0", 202, ids[0].bytes),
        ("k-0:1", 422, None),
        ("k-0:2", 202, ids[1].bytes),
    ]


async def test_what_was_refused_or_not_answered_is_kept_as_that(tmp_path):
    async with Server(answer("503 Service Unavailable", b"{}"), close_after=5) as server:
        summary = await load(plan(server.url, tmp_path, count=12, connections=1, seconds=3.0))
    assert summary.statuses == {503: 5, 0: 7}
    calls = client_ledger.as_calls(client_ledger.read(tmp_path / "client"))
    assert sorted(call.status for call in calls) == [0] * 7 + [503] * 5
    assert len({call.key for call in calls}) == 12


async def test_a_request_that_never_gets_an_answer_is_given_up_after_the_grace(tmp_path):
    async with Server(answer("202 Accepted", b"{}"), delay_s=60) as server:
        summary = await load(plan(server.url, tmp_path, count=2, connections=2, grace_s=0.3))
    assert summary.statuses == {0: 2}


async def test_the_open_loop_keeps_its_rate_and_counts_from_when_a_request_was_due(tmp_path):
    """One connection and 50 ms an answer: 20/s are possible, 100/s are due. The last of 50 waits for two seconds."""
    async with Server(answer("202 Accepted", b'{"id":null}'), delay_s=0.05) as server:
        summary = await load(plan(server.url, tmp_path, rate=100.0, connections=1))
    asked = list(client_ledger.read(tmp_path / "client"))
    gaps = {round((later.due_ns - one.due_ns) / 1e6) for one, later in pairwise(asked)}
    assert gaps == {10}
    assert summary.requests == 50
    assert summary.p99_ms > 1500


async def test_the_closed_loop_counts_from_when_it_asked(tmp_path):
    async with Server(answer("202 Accepted", b'{"id":null}'), delay_s=0.05) as server:
        summary = await load(plan(server.url, tmp_path, connections=1))
    assert 45 < summary.p50_ms < 200


async def test_a_request_costs_little(tmp_path):
    with running() as stand_in:
        summary = await load(plan(stand_in.url, tmp_path, seconds=1.0, connections=64))
    assert summary.requests > 1000
    assert summary.cpu_us_per_request < 150


def test_a_percent_sign_in_a_key_does_no_harm():
    wanted = Plan(url="http://h:1", api_key="50%d", item=ITEM, users=1, key_prefix="a%s", ledger="")
    head, _, body = Requests(wanted).bytes_of(7).partition(b"\r\n\r\n")
    assert b"Bearer 50%d\r\n" in head
    assert b"Idempotency-Key: a%s-7\r\n" in head
    assert f"Content-Length: {len(body)}".encode() in head


# figures


def test_percentiles_and_medians_are_those_of_the_textbook():
    ordered = [float(value) for value in range(1, 101)]
    assert (percentile(ordered, 0.5), percentile(ordered, 0.99), percentile(ordered, 1.0)) == (50.0, 99.0, 100.0)
    assert (percentile([3.0], 0.99), percentile([], 0.5)) == (3.0, 0.0)
    assert (median([3.0, 1.0, 2.0]), median([4.0, 1.0]), median([])) == (2.0, 2.5, 0.0)


def test_processor_time_counts_children_that_have_ended():
    burn = "import time\nuntil = time.process_time() + 0.3\nwhile time.process_time() < until: pass"
    before = cpu.snapshot({"load": [os.getpid()]})
    subprocess.run([sys.executable, "-c", burn], check=True)
    used = cpu.between(before, cpu.snapshot({"load": [os.getpid()]}))
    assert 0.25 < used["load"] < 2.0


def test_processes_hold_still_for_a_block_and_no_longer():
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as child:
        one = psutil.Process(child.pid)
        with still([child.pid]):
            within = one.status()
        after = one.status()
        child.kill()
    assert within == psutil.STATUS_STOPPED != after


# the database's ledger


@pytest.fixture
async def shard(database: str, checkout: Path) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database)
    await connection.execute((checkout / MIGRATION).read_text())
    for table in ("notification", "delivery", "attempt", "receipt"):
        await connection.execute(f"CREATE TABLE {table}_all PARTITION OF {table} DEFAULT")
    yield connection
    await connection.close()


async def store(shard: asyncpg.Connection, ids: list[UUID], tenant: int = 7) -> None:
    await shard.execute(
        "INSERT INTO notification (id, slot, tenant, user_id, category, payload) "
        "SELECT id, 0, $2, 'u', 1, '' FROM unnest($1::uuid[]) id",
        ids,
        tenant,
    )
    await shard.execute(
        "INSERT INTO delivery (id, notification_id, tenant, channel, status) "
        "SELECT id, id, $2, 1, 10 FROM unnest($1::uuid[]) id",
        ids,
        tenant,
    )
    await shard.execute(
        "INSERT INTO attempt (delivery_id, n, provider, outcome, code) "
        "SELECT id, 1, 3, 'sent', 'accepted' FROM unnest($1::uuid[]) id",
        ids,
    )


async def test_every_table_is_read_as_it_is(database, shard):
    one, two = (compose(Slot(4), 1_000, bits) for bits in (1, 2))
    await store(shard, [one, two])
    await shard.execute("UPDATE delivery SET status = 0, duplicate_possible = true WHERE id = $1", two)
    await shard.execute("INSERT INTO dispatch (id, home, lane, state) VALUES ($1, 10, 2, 3)", two)
    await shard.execute("UPDATE attempt SET outcome = 'unsure' WHERE delivery_id = $1", two)
    receipt = "INSERT INTO receipt (delivery_id, provider, event_key, n, kind, status, occurred_at)"
    await shard.execute(
        f"{receipt} VALUES ($1, 3, 'a', 1, 'delivered', 20, now()), ($1, 3, 'b', 1, 'open', NULL, now())", one
    )
    rows = await ledger_rows.read_database([database])
    assert rows.notifications == {one.bytes: 7, two.bytes: 7}
    assert rows.deliveries == {
        one.bytes: Delivery(one.bytes, 7, Mark.sent),
        two.bytes: Delivery(two.bytes, 7, Mark.pending, duplicate_possible=True),
    }
    assert rows.dispatches == {two.bytes: State.in_doubt}
    assert rows.attempts == {(one.bytes, 1): Attempt(3, sent=True), (two.bytes, 1): Attempt(3, sent=False)}
    assert sorted(rows.receipts) == [Receipt(one.bytes, 0), Receipt(one.bytes, Mark.delivered)]
    assert await ledger_rows.count_unfinished([database]) == 1


async def test_what_is_older_than_the_run_is_left_out(database, shard):
    old, new = compose(Slot(0), 1_000, 1), compose(Slot(0), 2_000, 1)
    await store(shard, [old, new])
    assert (await ledger_rows.read_database([database], 2_000)).notifications == {new.bytes: 7}


async def test_the_control_database_is_passed_over_and_says_whose_accounts_are_whose(database, postgres):
    control = await postgres.create_database()
    connection = await asyncpg.connect(postgres.dsn(control))
    await connection.execute("CREATE TABLE account (id smallint, tenant int); INSERT INTO account VALUES (3, 7)")
    await connection.close()
    assert (await ledger_rows.read_database([postgres.dsn(control), database])).notifications == {}
    assert await ledger_rows.read_accounts([database, postgres.dsn(control)]) == {3: 7}
    await postgres.drop_database(control)


async def test_a_hundred_thousand_rows_are_read_in_a_moment(database, shard):
    await store(shard, [compose(Slot(0), 1_000 + i // 100, i) for i in range(100_000)])
    began = time.process_time()
    rows = await ledger_rows.read_database([database])
    assert (len(rows.notifications), len(rows.deliveries), len(rows.attempts)) == (100_000, 100_000, 100_000)
    assert time.process_time() - began < 6


# the bare loop


@contextmanager
def bare(dsn: str) -> Iterator:
    with running() as provider, bare_loop(dsn, provider, [os.getpid()]) as loop:
        yield loop


@pytest.mark.parametrize("wish", [Wish(seconds=0.5), Wish(seconds=0.5, batch=10), Wish(seconds=0.5, rate=100.0)])
async def test_the_bare_loop_delivers_everything_once(database, wish):
    def run():
        with bare(database) as loop:
            return put_through(loop, wish, lambda _: None), loop.provider.stats()

    outcome, stats = await asyncio.to_thread(run)
    assert outcome.ledger.clean, outcome.ledger.violations
    assert outcome.accepted == stats.deliveries == stats.accepted > 0
    assert outcome.accepted_per_s > 0 < outcome.sent_per_s
    assert 0 < outcome.sent_p50_ms <= outcome.sent_p99_ms
    assert outcome.cpu_us["load"] > 0


async def test_nothing_is_delivered_while_the_workers_are_held_and_everything_afterwards(database):
    seen: list[int] = []

    def run():
        with bare(database) as loop:
            say = lambda step: seen.append(loop.provider.stats().accepted) if step == "settle" else None  # noqa: E731
            return put_through(loop, Wish(seconds=0.5, hold=True), say)

    outcome = await asyncio.to_thread(run)
    assert seen[0] < outcome.accepted
    assert outcome.ledger.clean


async def test_a_row_that_vanished_is_found_out(database):
    def run():
        with bare(database) as loop:
            return put_through(
                loop,
                Wish(seconds=0.2),
                lambda step: asyncio.run(damage(database)) if step == "compare ledgers" else None,
            )

    outcome = await asyncio.to_thread(run)
    assert outcome.ledger.found == {"L": 1, "P": 1, "A": 1}


async def damage(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute("DELETE FROM work WHERE id = (SELECT id FROM work ORDER BY id LIMIT 1)")
    await connection.close()


# the ledger of a sandbox


async def test_the_sandboxs_ledger_is_read_with_how_often_each_was_taken():
    twice, once = (compose(Slot(0), 1, bits) for bits in (1, 2))
    stop, ready = asyncio.Event(), asyncio.get_running_loop().create_future()
    sandbox = asyncio.ensure_future(run_sandbox(SandboxConfig(), stop, ready.set_result))
    url = (await ready)["url"]
    async with aiohttp.ClientSession() as session:
        for reference in (f"{twice.hex}-1", f"{once.hex}-2", f"{twice.hex}-1", "not ours"):
            mail = {
                "personalizations": [{"to": [{"email": "a@example.com"}], "custom_args": {"ref": reference}}],
                "from": {"email": "b@example.com"},
                "subject": "s",
                "content": [{"type": "text/plain", "value": "v"}],
            }
            headers = {"Authorization": "Bearer SG.x"}
            async with session.post(f"{url}/sendgrid/v3/mail/send", json=mail, headers=headers) as answered:
                assert answered.status == 202
    taken = await asyncio.to_thread(sandbox_references, url)
    stop.set()
    await sandbox
    assert taken == [Taken(twice.bytes, 1, 0, 2), Taken(once.bytes, 2, 0, 1)]

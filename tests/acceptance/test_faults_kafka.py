"""FAULTS 2, 3, 12, 27 to 29 and 67 where hints go by Kafka: real brokers that die, stand still and forget, and real
processes that die at each step."""

import asyncio
import os
import re
import secrets
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from signal import SIGCONT, SIGKILL, SIGSTOP, SIGTERM

import aiohttp
import pytest
import pytest_asyncio
from confluent_kafka import Consumer
from confluent_kafka.admin import AdminClient

from tests.chaos.rig import loaded
from tests.kafka_rig import TestKafka
from tests.system import SHORT, System, running, until
from tidings.domain.lanes import sending_lanes
from tidings.hints.topics import KafkaAddress, Wanted, admin, make_topics, sizes
from tidings.runtime import rundir
from tidings.runtime.ports import free_port

pytestmark = pytest.mark.timeout(300)
PARTITIONS = 12
PER_S = 40.0
SOON_S = 5.0
"""Two looks, the slowest step of a worker, and a machine that does something else too."""


def by_kafka(address: KafkaAddress) -> Mapping[str, str]:
    return {
        **SHORT,
        "TIDINGS_HINTS": "kafka",
        "TIDINGS_KAFKA_SERVERS": ",".join(address.servers),
        "TIDINGS_KAFKA_PREFIX": address.prefix,
        "TIDINGS_KAFKA_PARTITIONS": str(PARTITIONS),
    }


def address_at(kafka: TestKafka) -> KafkaAddress:
    return KafkaAddress(kafka.cluster.servers, {}, f"test-{secrets.token_hex(4)}")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def address(shared_kafka_cluster: TestKafka) -> KafkaAddress:
    return address_at(shared_kafka_cluster)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def shared(address: KafkaAddress, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    async with running(tmp_path_factory.mktemp("kafka-system"), by_kafka(address), workers=2) as system:
        yield system


@pytest_asyncio.fixture
async def system(shared: System, kafka_cluster: TestKafka) -> AsyncIterator[System]:
    """Healthy, with two workers, three brokers, and ledgers of its own."""
    await shared.well()
    await shared.begin()
    await hinted(shared)
    yield shared
    shared.wake()


async def figure(system: System, role: str, metric: str) -> float:
    """A counter, over all processes of that role that answer."""
    running_ = rundir.find(system.data_dir)
    total = 0.0
    async with aiohttp.ClientSession() as session:
        for url in running_.ops_urls.get(role, ()) if running_ else ():
            async with session.get(f"{url}/metrics") as answer:
                found = re.findall(rf"^{metric}_total(?:{{[^}}]*}})? (\S+)$", await answer.text(), re.MULTILINE)
                total += sum(map(float, found))
    return total


async def hinted(system: System, timeout_s: float = 60.0) -> None:
    """Returns once hints come through."""
    before = await figure(system, "worker", "tidings_hints_taken")

    async def came() -> bool:
        await system.send()
        return await figure(system, "worker", "tidings_hints_taken") > before

    await until(came, timeout_s, "hints to come through Kafka")


async def slowest_s(system: System) -> float:
    """The longest time from accept to the first call."""
    rows = await system.rows(
        """SELECT extract(epoch FROM min(a.started_at) - n.created_at)::float8 AS wait_s
           FROM notification n JOIN delivery v ON v.notification_id = n.id JOIN attempt a ON a.delivery_id = v.id
           WHERE n.created_at >= to_timestamp($1::float8) GROUP BY n.id, n.created_at""",
        system.began_ms / 1000,
    )
    return max(row["wait_s"] for row in rows)


async def test_hints_carry_the_work_and_nothing_waits_for_a_look(system):
    ids = [await system.send() for _ in range(40)]
    for id_ in ids:
        await system.becomes(id_, "delivered")
    report = await system.check()
    assert not report.counts["duplicate_possible"]


@pytest.mark.parametrize("point", ["after_commit", "after_publish"])
async def test_an_api_server_that_dies_around_its_hint_loses_nothing(system, point):
    """2 and 3: without the hint a look finds the row; without the answer the key is a replay."""
    system.arm(point)
    key, body = system.wanted()
    id_, headers = await system.insist(key, body, 60)
    await system.fired()
    await system.ready()
    assert headers.get("Idempotent-Replayed") == "true"
    await system.becomes(id_, "delivered")
    assert await slowest_s(system) < SOON_S
    await system.check()


@pytest.mark.parametrize("point", ["after_claim", "after_mark", "after_response"])
async def test_a_worker_that_dies_with_a_hint_in_its_hands_repeats_nothing(system, point):
    """The hint comes again, or a look finds the row: the claim decides."""
    async with loaded(system, PER_S):
        for _ in range(2):
            system.arm(point)
            await system.fired()
            await system.ready()
    await system.check()


async def test_workers_that_leave_under_load_hand_over_without_a_gap(system):
    """12: the ones that stay are told of what the others no longer take."""
    async with loaded(system, PER_S):
        for _ in range(3):
            await asyncio.sleep(1)
            pid = system.signal("worker", SIGTERM)
            await system.replaced("worker", pid)
    assert await slowest_s(system) < SOON_S
    await system.check()


async def test_each_broker_is_killed_in_turn_under_load(system, kafka_cluster):
    """28: leaders change; what is lost on the way is looked for."""
    async with loaded(system, PER_S):
        for number in kafka_cluster.numbers:
            await kafka_cluster.kill(number)
            await kafka_cluster.missing(number)
            await asyncio.sleep(1)
            await kafka_cluster.well()
    assert await slowest_s(system) < SOON_S
    assert all(call.status == 202 for call in system.calls), "no caller notices"
    await system.check()
    await hinted(system)


@pytest.mark.parametrize("how", ["dead", "still"])
async def test_without_brokers_workers_look_and_go_back_to_hints_by_themselves(system, kafka_cluster, how):
    """27: in the middle of the load all brokers go, and come back."""
    async with loaded(system, PER_S):
        await asyncio.sleep(1)
        for number in kafka_cluster.numbers:
            await kafka_cluster.kill(number) if how == "dead" else kafka_cluster.stop(number)
        await asyncio.sleep(6)
        await kafka_cluster.well()
        await asyncio.sleep(1)
    assert await slowest_s(system) < SOON_S
    assert all(call.status == 202 for call in system.calls), "no caller notices"
    await system.check()
    await hinted(system)


async def test_topics_that_are_made_anew_and_empty_cost_only_time(system, address, kafka_cluster):
    """28: all hints are gone, and so are the offsets that they were committed at."""
    client, names = admin(address), [address.topic(lane) for lane in sending_lanes()]
    async with loaded(system, PER_S):
        await asyncio.sleep(1)
        for deleted in client.delete_topics(names).values():
            await asyncio.to_thread(deleted.result)
        await until_gone(client, names)
        await asyncio.sleep(1)
        await make_topics(address, Wanted(PARTITIONS, 0))
        await asyncio.sleep(3)
    assert await slowest_s(system) < SOON_S
    await system.check()
    await hinted(system)


async def until_gone(client: AdminClient, names: list[str]) -> None:
    async def gone() -> bool:
        return not await sizes(client, names)

    await until(gone, 30, "the topics to be gone")


async def test_a_consumer_that_joins_and_leaves_all_the_time_and_swallows_hints(system, address):
    """29: partitions move every two seconds, to somebody who reads hints and claims nothing."""
    async with loaded(system, PER_S):
        for _ in range(4):
            thief = Consumer({**address.properties(), "group.id": address.prefix, "group.protocol": "consumer"})
            thief.subscribe([address.topic(lane) for lane in sending_lanes()])
            await asyncio.to_thread(thief.consume, 1_000, 2.0)
            await asyncio.to_thread(thief.close)
    assert await slowest_s(system) < SOON_S
    await system.check()
    await hinted(system)


async def test_more_partitions_under_load(system, address):
    """From 12 to 100 while hints are on their way."""
    async with loaded(system, PER_S):
        await asyncio.sleep(1)
        await make_topics(address, Wanted(100, 0))
        await asyncio.sleep(14)  # until every process has seen them
    assert await slowest_s(system) < SOON_S
    await system.check()
    await hinted(system)


async def test_two_relays_and_one_that_stood_still(system):
    """67: a relay that wakes up late does nothing that another has not made harmless."""
    await system.fault("accept_then_hang", share=0.2)
    async with loaded(system, PER_S):
        for _ in range(2):
            pid = system.signal("relay", SIGSTOP)
            await asyncio.sleep(3)
            system.signal("relay", SIGCONT)
            await asyncio.sleep(1)
        await system.well()
        assert pid in system.pids("relay")
        system.signal("relay", SIGKILL)
        await system.replaced("relay", pid)
    await system.check()


async def test_from_polling_to_kafka_and_back_under_load(kafka_cluster, tmp_path):
    """Half of the processes of the one kind, half of the other: whoever looks finds, whoever is told claims."""
    address = address_at(kafka_cluster)
    async with running(tmp_path, SHORT, workers=1) as system:
        await make_topics(address, Wanted(PARTITIONS, 0))
        async with loaded(system, PER_S):
            for settings in (by_kafka(address), by_kafka(address)):
                async with process(system, "work", settings), process(system, "work", settings):
                    await asyncio.sleep(3)
                await asyncio.sleep(1)
        await system.check()


@asynccontextmanager
async def process(system: System, role: str, settings: Mapping[str, str]) -> AsyncIterator[None]:
    """One more process of a role beside those of the system, with other settings; ready when the block begins."""
    port = free_port()
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TIDINGS_")}
    more = {"TIDINGS_EGRESS_ALLOW": "127.0.0.0/8", "TIDINGS_DATA_DIR": str(system.data_dir), **settings}
    more["TIDINGS_OPS_PORT"] = str(port)
    child = await asyncio.create_subprocess_exec(
        *[sys.executable, "-m", "tidings", role], env={**inherited, **more}, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        await until(lambda: system.is_ready(f"http://127.0.0.1:{port}"), 60, f"one more {role} to be ready")
        yield
    finally:
        child.terminate()
        assert await asyncio.wait_for(child.wait(), 30) == 0


async def test_a_system_whose_brokers_never_were_works_by_looking(tmp_path):
    """27: from the start. The topics could not be made either."""
    nowhere = KafkaAddress(("127.0.0.1:1",), {}, "test-nowhere")
    async with running(tmp_path, by_kafka(nowhere), workers=1) as system:
        ids = await asyncio.gather(*(system.send() for _ in range(20)))
        for id_ in ids:
            await system.becomes(id_, "delivered")
        assert await slowest_s(system) < SOON_S
        await system.check()

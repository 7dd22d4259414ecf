"""The embedded Kafka: real, on loopback only, found again with all that was in it, and never orphaned."""

import asyncio
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from subprocess import PIPE, Popen

import psutil
import pytest
import pytest_asyncio
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer

from tests import kafka_rig
from tests.kafka_rig import READY_S, TestKafka
from tidings.embedded import kafka as embedded
from tidings.embedded.account import CannotRun
from tidings.embedded.kafka_kit import Kit
from tidings.runtime import ports
from tidings.runtime.child import ended, spawn, stop

TAKES_S = 60.0
pytestmark = pytest.mark.timeout(300)


@pytest_asyncio.fixture
async def kit() -> Kit:
    return await kafka_rig.kit()


def put(servers: str, topic: str, *values: bytes) -> None:
    """Returns once all copies have them. Raises KafkaException when one was not taken."""
    refused = []

    def told(error, _message):
        if error is not None:
            refused.append(error)

    producer = Producer({"bootstrap.servers": servers, "acks": "all", "message.timeout.ms": 30_000})
    for value in values:
        producer.produce(topic, value, on_delivery=told)
    producer.flush(TAKES_S)
    if refused:
        raise KafkaException(refused[0])


def taken(servers: str, topic: str, count: int) -> Sequence[bytes]:
    """The first so many, by a group of its own."""
    told = {"bootstrap.servers": servers, "group.id": f"of-{topic}", "group.protocol": "consumer"}
    consumer = Consumer({**told, "auto.offset.reset": "earliest", "enable.auto.commit": False})
    consumer.subscribe([topic])
    try:
        messages = consumer.consume(count, TAKES_S)
        return [message.value() for message in messages if message.error() is None]
    finally:
        consumer.close()


async def test_what_was_put_comes_back_by_the_new_group_protocol(kafka: TestKafka):
    topic = await kafka.topic()
    await asyncio.to_thread(put, kafka.servers, topic, b"one", b"two")
    assert await asyncio.to_thread(taken, kafka.servers, topic, 2) == [b"one", b"two"]


async def test_a_topic_that_nobody_made_is_not_made_by_the_way(kafka: TestKafka):
    told = {"bootstrap.servers": kafka.servers, "group.id": "nobody", "allow.auto.create.topics": True}
    consumer = Consumer(told)
    try:
        seen = await asyncio.to_thread(consumer.list_topics, "test-never-made", TAKES_S)
        assert seen.topics["test-never-made"].error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART
    finally:
        consumer.close()


async def test_it_listens_on_loopback_only(kafka: TestKafka):
    open_ = [one for one in psutil.Process(kafka.pid()).net_connections() if one.status == psutil.CONN_LISTEN]
    assert {one.laddr.ip.removeprefix("::ffff:") for one in open_} == {"127.0.0.1"}
    assert len(open_) == 2


async def test_killed_and_started_again_it_has_the_same_address_and_all_that_was_in_it(kafka: TestKafka):
    topic = await kafka.topic()
    await asyncio.to_thread(put, kafka.servers, topic, b"kept")
    await kafka.restart()
    assert await asyncio.to_thread(taken, kafka.servers, topic, 1) == [b"kept"]


async def test_a_later_start_on_the_same_files_finds_everything_again(kit, tmp_path):
    async with kafka_rig.running(tmp_path, nodes=1) as kafka:
        topic = await kafka.topic()
        await asyncio.to_thread(put, kafka.servers, topic, b"again")
        before = kafka.servers
    async with kafka_rig.running(tmp_path, nodes=1) as kafka:
        assert await asyncio.to_thread(taken, kafka.servers, topic, 1) == [b"again"]
        assert kafka.servers != before  # its ports are new, and its files do not mind


async def test_an_interrupted_first_start_leaves_nothing_half_made(kit, tmp_path):
    (tmp_path / "kafka" / "1.new" / "data").mkdir(parents=True)
    (tmp_path / "kafka" / "1.new" / "data" / "meta.properties").write_text("half")
    async with kafka_rig.running(tmp_path, nodes=1) as kafka:
        assert await kafka.seen(by=1) == {1}


def test_no_id_of_a_cluster_can_be_taken_for_an_option(tmp_path):
    ids = [embedded._cluster_id(tmp_path / str(n)) for n in range(500)]
    assert len(set(ids)) == 500
    assert {(one[0], len(one)) for one in ids} == {("A", 22)}


async def test_asked_to_leave_it_leaves(kit, tmp_path):
    cluster = embedded.prepare(kit, tmp_path)
    program = cluster.program(cluster.nodes[0], tmp_path / "kafka.log")
    child = spawn(program)
    await cluster.ready(READY_S)
    assert await stop(child, program.stop, 30) == 128 + signal.SIGTERM  # as Java says it; killed, it would be -9


async def test_one_that_still_runs_on_the_same_files_is_named(kit, tmp_path):
    cluster = embedded.prepare(kit, tmp_path)
    child = spawn(cluster.program(cluster.nodes[0], tmp_path / "kafka.log"))
    try:
        with pytest.raises(CannotRun, match=rf"pid {child.pid}\) still runs"):
            embedded.prepare(kit, tmp_path, predecessor_s=0.1)
    finally:
        child.kill()
        await ended(child)


async def test_where_its_files_cannot_be_made_it_says_what_java_said(kit, tmp_path):
    no_jars = Kit(kit.java, tmp_path / "empty")
    with pytest.raises(CannotRun, match=r"could not be made in .*(?s:.*)StorageTool"):
        embedded.prepare(no_jars, tmp_path)
    assert not (tmp_path / "kafka" / "1").exists()


PARENT = """
import asyncio, sys
from pathlib import Path
from tidings.embedded import kafka
from tidings.embedded.kafka_kit import Kit
from tidings.runtime.child import spawn

async def main(java, jars, directory):
    cluster = kafka.prepare(Kit(java, jars), directory)
    child = spawn(cluster.program(cluster.nodes[0], directory / "k.log"))
    await cluster.ready(90)
    print(child.pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main(*map(Path, sys.argv[1:])))
"""


async def test_when_the_parent_is_killed_it_is_gone(kit, tmp_path):
    parent = Popen([sys.executable, "-c", PARENT, kit.java, kit.jars, tmp_path], stdout=PIPE)
    line = await asyncio.to_thread(parent.stdout.readline)
    broker = psutil.Process(int(line))
    parent.kill()
    parent.wait()
    parent.stdout.close()
    _, alive = await asyncio.to_thread(psutil.wait_procs, [broker], 10)
    assert alive == []


async def test_of_three_brokers_one_may_die_and_nothing_is_lost(kafka_cluster: TestKafka):
    topic = await kafka_cluster.topic(**{"min.insync.replicas": "2"})
    await kafka_cluster.kill(1)
    await asyncio.to_thread(put, kafka_cluster.servers, topic, b"without it")
    await kafka_cluster.well()
    await kafka_cluster.kill(2)
    assert await asyncio.to_thread(taken, kafka_cluster.servers, topic, 1) == [b"without it"]


async def test_one_that_stands_still_is_missed_and_taken_back(kafka_cluster: TestKafka):
    kafka_cluster.stop(2)
    await kafka_cluster.missing(2)
    kafka_cluster.cont(2)
    await kafka_cluster.well()
    assert [await kafka_cluster.seen(by) for by in kafka_cluster.numbers] == [{1, 2, 3}] * 3


async def test_one_that_does_not_answer_sees_nobody(tmp_path):
    silent = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    closing = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    ports = [server.sockets[0].getsockname()[1] for server in (silent, closing)]
    silent.close()
    for port in ports:
        assert await embedded.brokers(embedded.Node(1, tmp_path, port, 0)) == frozenset()
    closing.close()


def test_the_ports_are_not_those_of_outgoing_connections():
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert max(ports.free_ports(500)) < lowest

"""A real Apache Kafka of our own, on loopback: each server is broker and controller in one.

What it holds are hints, which may be lost at any time: so it is small, and forgets within a day. Everybody on this
machine can reach it, as Kafka knows no private sockets; hints are ids, and say nothing to anybody else.
"""

import asyncio
import secrets
import shutil
import struct
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from pathlib import Path
from subprocess import PIPE, STDOUT, Popen
from typing import Final

import msgspec

from tidings.embedded.account import CannotRun
from tidings.embedded.kafka_kit import Kit
from tidings.embedded.predecessor import await_predecessor
from tidings.runtime.child import Program, until
from tidings.runtime.ports import free_ports

_HOST: Final = "127.0.0.1"
_ENV: Final = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC"}
_PROPERTIES: Final = "server.properties"
_LOGGING: Final = "log4j2.properties"
_CLUSTER: Final = "cluster_id"
_ANSWER_S: Final = 2.0
_JVM: Final = (
    *("-XX:+UseSerialGC", "-XX:+ExitOnOutOfMemoryError", "-XX:-UsePerfData"),
    *("-Djava.awt.headless=true", f"-Dlog4j2.configurationFile={_LOGGING}"),
)
_METADATA: Final = struct.pack(">hhihi", 3, 1, 1, -1, 0)
"""Version 1 of the request, number 1, from a nameless client, about no topic: who is there?"""
_LOG4J: Final = """\
# Written by tidings at each start.
rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{ISO8601} %p %c{1}: %m%n
"""
_CONFIG: Final = """\
# Written by tidings at each start.
process.roles=broker,controller
node.id={number}
controller.quorum.voters={voters}
listeners=CLIENTS://{host}:{port},CONTROLLER://{host}:{controller_port}
listener.security.protocol.map=CLIENTS:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=CLIENTS
controller.listener.names=CONTROLLER
log.dirs=data

auto.create.topics.enable=false
log.retention.ms=86400000
log.segment.bytes=67108864
log.cleaner.dedupe.buffer.size=8388608

# Kafka's own topics
offsets.topic.num.partitions=4
offsets.topic.replication.factor={copies}
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor={copies}
transaction.state.log.min.isr={enough}
share.coordinator.state.topic.num.partitions=4
share.coordinator.state.topic.replication.factor={copies}
share.coordinator.state.topic.min.isr={enough}

# Who comes, goes or dies is noticed within seconds.
group.initial.rebalance.delay.ms=0
group.consumer.min.heartbeat.interval.ms=500
group.consumer.heartbeat.interval.ms=500
group.consumer.min.session.timeout.ms=6000
group.consumer.session.timeout.ms=10000
group.consumer.assignment.interval.ms=0
broker.heartbeat.interval.ms=1000
broker.session.timeout.ms=6000
"""


class Node(msgspec.Struct, frozen=True):
    """One server, numbered from 1. It works inside its directory."""

    number: int
    home: Path
    port: int
    controller_port: int

    @property
    def address(self) -> str:
        return f"{_HOST}:{self.port}"


class Kafka(msgspec.Struct, frozen=True):
    """A prepared cluster: its files are there, it need not run. Its ports stay the same as long as this value does,
    whatever is started again."""

    kit: Kit
    nodes: tuple[Node, ...]
    heap_mb: int

    @property
    def servers(self) -> tuple[str, ...]:
        """``host:port`` of each."""
        return tuple(node.address for node in self.nodes)

    def program(self, node: Node, log: Path) -> Program:
        """How to run one. It has nothing to save that it could not find again, so an orphan is simply ended."""
        argv = _java(self.kit, f"-Xmx{self.heap_mb}m", *_JVM, "kafka.Kafka", _PROPERTIES)
        return Program(name="kafka", argv=argv, env=_ENV, log=log, cwd=node.home)

    async def ready(self, timeout_s: float) -> None:
        """Returns once every server sees all of them. Raises TimeoutError."""
        await until(self.answers, timeout_s)

    async def answers(self) -> bool:
        everybody = {node.number for node in self.nodes}
        return all([await brokers(node) == everybody for node in self.nodes])


async def brokers(node: Node) -> frozenset[int]:
    """The numbers of the servers that are up, as this one sees them; none when it does not answer."""
    try:
        async with asyncio.timeout(_ANSWER_S):
            return _numbers(await _asked(node))
    except (OSError, EOFError):
        return frozenset()


async def _asked(node: Node) -> bytes:
    reader, writer = await asyncio.open_connection(_HOST, node.port)
    try:
        writer.write(struct.pack(">i", len(_METADATA)) + _METADATA)
        (size,) = struct.unpack(">i", await reader.readexactly(4))
        return await reader.readexactly(size)
    finally:
        writer.close()


def _numbers(answer: bytes) -> frozenset[int]:
    """Each broker in the answer is a number, a host, a port and a rack, which is -1 long when there is none."""
    (count,), at, found = struct.unpack_from(">i", answer, 4), 8, set[int]()
    for _ in range(count):
        number, host_length = struct.unpack_from(">ih", answer, at)
        (rack_length,) = struct.unpack_from(">h", answer, at + host_length + 10)
        at += host_length + 12 + max(rack_length, 0)
        found.add(number)
    return frozenset(found)


def prepare(kit: Kit, data_dir: Path, *, nodes: int = 1, heap_mb: int = 512, predecessor_s: float = 30.0) -> Kafka:
    """Makes or finds the cluster of so many nodes whose files are in ``data_dir``/kafka, and gives it free ports.

    Waits up to ``predecessor_s`` for one that is still leaving after its parent was killed. Raises CannotRun.
    """
    homes = [data_dir.resolve() / "kafka" / str(number) for number in range(1, nodes + 1)]
    ports = iter(free_ports(2 * nodes))
    kafka = Kafka(kit, tuple(Node(n, home, next(ports), next(ports)) for n, home in enumerate(homes, 1)), heap_mb)
    cluster_id = _cluster_id(homes[0].parent)
    _initialise(kafka, [node for node in kafka.nodes if not node.home.exists()], cluster_id)
    for node in kafka.nodes:
        await_predecessor(node.home, "java", predecessor_s)
        _configure(kafka, node, node.home)
    return kafka


def _cluster_id(directory: Path) -> str:
    """The same at each start: who knows one cluster takes no other for it."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / _CLUSTER
    if not path.exists():
        fresh = path.with_suffix(".new")
        # the zero makes it begin with a letter: an id that began with a dash would be taken for an option
        fresh.write_text(urlsafe_b64encode(bytes(1) + secrets.token_bytes(15)).decode().rstrip("="))
        fresh.replace(path)
    return path.read_text()


def _initialise(kafka: Kafka, nodes: Sequence[Node], cluster_id: str) -> None:
    """In directories beside, renamed at the end: a start that was cut off leaves nothing half made. Side by side,
    because each takes a Java of its own."""
    under_way = [(node, _formatting(kafka, node, cluster_id)) for node in nodes]
    for node, child in under_way:
        said, _ = child.communicate()
        if child.returncode != 0:
            raise CannotRun(f"Kafka's storage could not be made in {node.home}:\n{said}")
        _fresh(node).rename(node.home)


def _formatting(kafka: Kafka, node: Node, cluster_id: str) -> Popen[str]:
    shutil.rmtree(_fresh(node), ignore_errors=True)
    _fresh(node).mkdir()
    _configure(kafka, node, _fresh(node))
    words = ("kafka.tools.StorageTool", "format", "--cluster-id", cluster_id, "--config", _PROPERTIES)
    argv = _java(kafka.kit, "-XX:TieredStopAtLevel=1", *_JVM, *words)
    return Popen(argv, cwd=_fresh(node), env=dict(_ENV), stdout=PIPE, stderr=STDOUT, text=True)


def _fresh(node: Node) -> Path:
    return node.home.with_name(f"{node.number}.new")


def _configure(kafka: Kafka, node: Node, home: Path) -> None:
    config = _CONFIG.format(
        host=_HOST,
        number=node.number,
        port=node.port,
        controller_port=node.controller_port,
        voters=",".join(f"{one.number}@{_HOST}:{one.controller_port}" for one in kafka.nodes),
        copies=min(3, len(kafka.nodes)),
        enough=min(2, len(kafka.nodes)),
    )
    (home / _PROPERTIES).write_text(config)
    (home / _LOGGING).write_text(_LOG4J)


def _java(kit: Kit, *words: str) -> tuple[str, ...]:
    return (str(kit.java), "-cp", f"{kit.jars}/*", *words)

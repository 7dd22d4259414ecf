"""A real Apache Kafka for tests: one broker or three, each of which can be killed, stopped and started again."""

import asyncio
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP, SIGTERM, Signals
from subprocess import Popen

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from tidings.embedded import kafka as embedded
from tidings.embedded import kafka_kit
from tidings.embedded.account import CannotRun
from tidings.runtime.child import ended, spawn, until

READY_S = 120.0


class TestKafka:
    """A running cluster. Its brokers are numbered from 1."""

    __test__ = False

    def __init__(self, cluster: embedded.Kafka, logs: Path) -> None:
        self.cluster = cluster
        self._logs = logs
        self._children: dict[int, Popen[bytes]] = {}

    @property
    def servers(self) -> str:
        """As clients take it, and as ``TIDINGS_KAFKA_SERVERS`` does."""
        return ",".join(self.cluster.servers)

    @property
    def numbers(self) -> list[int]:
        return [node.number for node in self.cluster.nodes]

    def pid(self, number: int = 1) -> int:
        return self._children[number].pid

    def log(self, number: int = 1) -> str:
        return self._log(number).read_text()

    async def well(self) -> None:
        """Returns once all brokers are up and see each other, whatever was done to them."""
        for number in self.numbers:
            self.start(number)
            self.cont(number)
        await self.cluster.ready(READY_S)

    def start(self, number: int = 1) -> None:
        """The broker may not be ready when this returns; nothing happens to one that runs."""
        child = self._children.get(number)
        if child is None or child.poll() is not None:
            node = self.cluster.nodes[number - 1]
            self._children[number] = spawn(self.cluster.program(node, self._log(number)))

    async def kill(self, number: int = 1) -> None:
        """With SIGKILL: it says goodbye to nobody."""
        await self._end(number, SIGKILL)

    async def leave(self, number: int = 1) -> None:
        """With SIGTERM: it hands over first, which takes a majority of the others."""
        await self._end(number, SIGTERM)

    def stop(self, number: int = 1) -> None:
        """It stands still, with all its connections, until ``cont``."""
        self._signal(number, SIGSTOP)

    def cont(self, number: int = 1) -> None:
        self._signal(number, SIGCONT)

    async def restart(self, number: int = 1) -> None:
        """Kills it and returns once the cluster is whole again."""
        await self.kill(number)
        await self.well()

    async def seen(self, by: int) -> frozenset[int]:
        """The brokers that are up, as that one sees them; none when it does not answer."""
        return await embedded.brokers(self.cluster.nodes[by - 1])

    async def missing(self, number: int, timeout_s: float = 60.0) -> None:
        """Returns once every other broker knows that this one is gone."""

        async def noticed() -> bool:
            others = [one for one in self.numbers if one != number]
            views = [await self.seen(by) for by in others]
            return all(view and number not in view for view in views)

        await until(noticed, timeout_s)

    async def topic(self, partitions: int = 1, **config: str) -> str:
        """Makes a topic of a name of its own, with a copy on every broker, and returns its name."""
        name = f"test-{secrets.token_hex(6)}"
        admin = AdminClient({"bootstrap.servers": self.servers})
        wanted = NewTopic(name, partitions, len(self.numbers), config=config)
        await asyncio.to_thread(admin.create_topics([wanted])[name].result, READY_S)
        return name

    async def _end(self, number: int, how: Signals) -> None:
        self._signal(number, how)
        await ended(self._children[number])

    def _signal(self, number: int, what: Signals) -> None:
        child = self._children[number]
        if child.poll() is None:
            os.kill(child.pid, what)

    def _log(self, number: int) -> Path:
        return self._logs / f"kafka-{number}.log"


async def kit() -> kafka_kit.Kit:
    """What Kafka runs on, fetched once for this machine whoever asks first; without it the test is skipped, loudly."""
    try:
        found = kafka_kit.find(os.environ)
        await kafka_kit.fetch(found, os.environ)
    except CannotRun as fault:
        pytest.skip(f"not tested: what needs Kafka ({str(fault).splitlines()[0]})")
    return found


@asynccontextmanager
async def running(data_dir: Path, nodes: int) -> AsyncIterator[TestKafka]:
    """A cluster for the length of a block, killed at the end: what it holds is for the tests alone."""
    rig = TestKafka(embedded.prepare(await kit(), data_dir, nodes=nodes, heap_mb=256), data_dir)
    try:
        await rig.well()
        yield rig
    finally:
        for number in list(rig._children):
            await rig.kill(number)

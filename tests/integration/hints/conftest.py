"""Both ways to tell of what is due, over real servers."""

import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import pytest_asyncio

from tests.kafka_rig import TestKafka
from tidings.domain.ids import ShardNumber, Slot
from tidings.domain.lanes import Lane
from tidings.hints.kafka import KafkaHints
from tidings.hints.kafka_in import HintsIn
from tidings.hints.kafka_out import HintsOut
from tidings.hints.poll import WakeByValkey
from tidings.hints.topics import KafkaAddress, Wanted, make_topics
from tidings.ports import Hints

LOOK_S = 30.0
PARTITIONS = 4


def shard_of(slot: Slot) -> ShardNumber:
    """Two shards, each with half of the slots."""
    return ShardNumber(slot >> 11)


class Installation:
    """Processes of one installation: each has hints of its own, and all have the same servers."""

    def __init__(self, valkey_url: str, address: KafkaAddress | None) -> None:
        self._valkey_url = valkey_url
        self.address = address
        self.events: list[object] = []

    @asynccontextmanager
    async def member(self, *takes: Lane, look_s: float = LOOK_S) -> AsyncIterator[Hints]:
        async with AsyncExitStack() as stack:
            woken = WakeByValkey(self._valkey_url)
            woken.start(listen=bool(takes))
            stack.push_async_callback(woken.close)
            if self.address is None:
                yield woken
                return
            out = HintsOut(self.address, Wanted(PARTITIONS, 0), self.events.append)
            come = HintsIn(self.address, takes, look_s, shard_of, self.events.append) if takes else None
            hints = KafkaHints(out, come, woken)
            hints.start()
            stack.push_async_callback(hints.close)
            yield hints


async def address_at(kafka: TestKafka) -> KafkaAddress:
    """An installation of its own among the others on these brokers."""
    address = KafkaAddress(kafka.cluster.servers, {}, f"test-{secrets.token_hex(6)}")
    await make_topics(address, Wanted(PARTITIONS, 0))
    return address


@pytest.fixture(params=["valkey", "kafka"])
def brokers(request: pytest.FixtureRequest) -> TestKafka | None:
    return request.getfixturevalue("kafka") if request.param == "kafka" else None


@pytest_asyncio.fixture
async def installation(brokers: TestKafka | None, valkey_url: str) -> Installation:
    return Installation(valkey_url, await address_at(brokers) if brokers else None)


@pytest_asyncio.fixture
async def by_kafka(kafka: TestKafka, valkey_url: str) -> Installation:
    return Installation(valkey_url, await address_at(kafka))

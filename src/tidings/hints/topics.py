"""The topics of hints: one for each lane, with partitions by slot, so that what one partition brings is in one shard.

They are made and grown by ``tidings migrate``. A partition that is added under traffic moves slots to other workers,
which is harmless: the claim decides, not the hint.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from confluent_kafka import ConsumerGroupTopicPartitions, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic, OffsetSpec

from tidings.domain.errors import Unavailable
from tidings.domain.ids import SLOTS, Slot
from tidings.domain.lanes import Lane, lane_name, sending_lanes

_TIMEOUT_S: Final = 10.0
_SAFE_COPIES: Final = 3
_KEPT_MS: Final = 86_400_000
"""A hint that is a day old is of no use: who had not been there to take it looks anyway."""


class KafkaAddress(msgspec.Struct, frozen=True):
    """Where the brokers are, what a client must say to them (names of librdkafka's properties), and the first word of
    the names of our topics, which is our consumer group too."""

    servers: tuple[str, ...]
    client: Mapping[str, str]
    prefix: str

    def topic(self, lane: Lane) -> str:
        return f"{self.prefix}.{lane_name(lane)}"

    def properties(self, **more: Any) -> dict[str, Any]:
        """The properties of a client of ours. What it would say on stderr goes without: what matters is counted."""
        usual = {"bootstrap.servers": ",".join(self.servers), "log_level": 2, "client.id": self.prefix}
        return {**usual, "topic.metadata.refresh.interval.ms": 10_000, **more, **self.client}


class Wanted(msgspec.Struct, frozen=True):
    """``replication`` 0: three where there are three brokers, else as many as there are."""

    partitions: int
    replication: int


def partition_of(slot: Slot, partitions: int) -> int:
    """Partitions are runs of slots, as shards are. ``partitions`` up to 4,096."""
    return slot * partitions // SLOTS


def admin(address: KafkaAddress) -> AdminClient:
    return AdminClient(address.properties())


async def sizes(client: AdminClient, topics: Sequence[str], timeout_s: float = _TIMEOUT_S) -> Mapping[str, int]:
    """How many partitions each has that exists. Raises ``errors.Unavailable``."""
    return await asyncio.to_thread(_sizes, client, topics, timeout_s)


def _sizes(client: AdminClient, topics: Sequence[str], timeout_s: float) -> Mapping[str, int]:
    found = dict[str, int]()
    for name, told in client.describe_topics(TopicCollection(list(topics)), request_timeout=timeout_s).items():
        try:
            found[name] = len(told.result().partitions)
        except KafkaException as fault:
            if fault.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise Unavailable(f"kafka: {fault.args[0].name()}") from fault
    return found


async def make_topics(address: KafkaAddress, wanted: Wanted) -> Sequence[str]:
    """Makes the topics that are missing, and partitions where there are fewer; says what it did. Raises
    ``errors.Unavailable``."""
    return await asyncio.to_thread(_make, admin(address), [address.topic(lane) for lane in sending_lanes()], wanted)


def _make(client: AdminClient, topics: Sequence[str], wanted: Wanted) -> Sequence[str]:
    there = _sizes(client, topics, _TIMEOUT_S)
    missing = [topic for topic in topics if topic not in there]
    fewer = [topic for topic, partitions in there.items() if partitions < wanted.partitions]
    if missing:
        copies = wanted.replication or min(_SAFE_COPIES, _brokers(client))
        _done(client.create_topics([_topic(name, wanted.partitions, copies) for name in missing]))
    if fewer:
        _done(client.create_partitions([NewPartitions(name, wanted.partitions) for name in fewer]))
    return [f"made {name}" for name in missing] + [
        f"{name} from {there[name]} to {wanted.partitions} partitions" for name in fewer
    ]


def _topic(name: str, partitions: int, copies: int) -> NewTopic:
    """With three copies, two must have a hint before it counts as published."""
    config = {"retention.ms": str(_KEPT_MS), "min.insync.replicas": str(2 if copies >= _SAFE_COPIES else 1)}
    return NewTopic(name, partitions, copies, config=config)


def _brokers(client: AdminClient) -> int:
    try:
        return len(client.describe_cluster(request_timeout=_TIMEOUT_S).result().nodes)
    except KafkaException as fault:
        raise Unavailable(f"kafka: {fault.args[0].name()}") from fault


def _done(asked: Mapping[Any, Any]) -> None:
    """Somebody else may do the same at the same time."""
    for told in asked.values():
        try:
            told.result()
        except KafkaException as fault:
            if fault.args[0].code() not in (KafkaError.TOPIC_ALREADY_EXISTS, KafkaError.INVALID_PARTITIONS):
                raise Unavailable(f"kafka: {fault.args[0].name()}") from fault


async def lags(
    client: AdminClient, address: KafkaAddress, lanes: Sequence[Lane], timeout_s: float = _TIMEOUT_S
) -> Mapping[Lane, int]:
    """How many hints of each lane nobody has taken yet; without the lanes whose topic is missing. Raises
    ``errors.Unavailable``."""
    topics = {address.topic(lane): lane for lane in lanes}
    return await asyncio.to_thread(_lags, client, address.prefix, topics, timeout_s)


def _lags(client: AdminClient, group: str, topics: Mapping[str, Lane], timeout_s: float) -> Mapping[Lane, int]:
    there = _sizes(client, list(topics), timeout_s)
    parts = [TopicPartition(topic, number) for topic, count in there.items() for number in range(count)]
    if not parts:
        return {}
    try:
        ends = _offsets(client, parts, OffsetSpec.latest(), timeout_s)
        starts = _offsets(client, parts, OffsetSpec.earliest(), timeout_s)
        asked = client.list_consumer_group_offsets(
            [ConsumerGroupTopicPartitions(group, parts)], request_timeout=timeout_s
        )
        taken = asked[group].result().topic_partitions or ()
    except KafkaException as fault:
        raise Unavailable(f"kafka: {fault.args[0].name()}") from fault
    lagging = dict.fromkeys((topics[topic] for topic in there), 0)
    for part in taken:
        key = (part.topic, part.partition)
        lagging[topics[part.topic]] += ends[key] - max(part.offset, starts[key])
    return lagging


def _offsets(
    client: AdminClient, parts: Sequence[TopicPartition], spec: OffsetSpec, timeout_s: float
) -> Mapping[tuple[str, int], int]:
    told = client.list_offsets(dict.fromkeys(parts, spec), request_timeout=timeout_s)
    return {(part.topic, part.partition): one.result().offset for part, one in told.items()}

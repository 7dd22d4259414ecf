"""Hints on their way to Kafka: published after the commit, awaited by nobody."""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from confluent_kafka import KafkaException, Producer

from tidings.domain.errors import Unavailable
from tidings.domain.events import HintsLost, HintsReachable
from tidings.domain.ids import DeliveryId, slot_in
from tidings.domain.lanes import Lane, sending_lanes
from tidings.hints.topics import KafkaAddress, Wanted, admin, make_topics, partition_of, sizes
from tidings.ports import Emit

_SERVED_EVERY_S: Final = 0.5
_LOOK_EVERY_S: Final = 5.0
_LOOK_TIMEOUT_S: Final = 3.0
_WAITING_MAX: Final = 200_000
_PUBLISHED_WITHIN_MS: Final = 10_000
_LINGER_MS: Final = 5
_LEFT_BEHIND_S: Final = 1.0


class HintsOut:
    """``keeps``: topics that are not as ``wanted`` are made so, whenever that is. What cannot be published is counted
    and forgotten: workers find it."""

    def __init__(self, address: KafkaAddress, wanted: Wanted, emit: Emit, *, keeps: bool = False) -> None:
        """Raises KafkaException for properties that do not exist."""
        self._address = address
        self._wanted = wanted
        self._keeps = keeps
        self._topics = {lane: address.topic(lane) for lane in sending_lanes()}
        self._sizes = dict.fromkeys(self._topics.values(), wanted.partitions)
        self._emit = emit
        self._lost = 0
        self._reachable: bool | None = None
        self._admin = admin(address)
        more = {
            "enable.idempotence": True,
            "acks": "all",
            "linger.ms": _LINGER_MS,
            "queue.buffering.max.messages": _WAITING_MAX,
            "message.timeout.ms": _PUBLISHED_WITHIN_MS,
            "delivery.report.only.error": True,
            "on_delivery": self._not_delivered,
        }
        self._producer = Producer(address.properties(**more))
        self._loops: list[asyncio.Task[None]] = []

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._loops = [loop.create_task(self._serve()), loop.create_task(self._look())]

    async def close(self) -> None:
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        self._lost += await asyncio.to_thread(self._producer.flush, _LEFT_BEHIND_S)
        self._tell_lost()

    def publish(self, due: Mapping[DeliveryId, Lane]) -> None:
        for id_, lane in due.items():
            topic = self._topics[lane]
            try:
                self._producer.produce(topic, id_.bytes, partition=partition_of(slot_in(id_), self._sizes[topic]))
            except (BufferError, KafkaException):
                self._lost += 1

    def _not_delivered(self, error: Any, message: Any) -> None:
        self._lost += 1

    async def _serve(self) -> None:
        while True:
            await asyncio.sleep(_SERVED_EVERY_S)
            self._producer.poll(0)
            self._tell_lost()

    def _tell_lost(self) -> None:
        lost, self._lost = self._lost, 0
        if lost:
            self._emit(HintsLost(lost))

    async def _look(self) -> None:
        """How many partitions there are may change under traffic."""
        while True:
            try:
                found = await sizes(self._admin, list(self._sizes), _LOOK_TIMEOUT_S)
                self._found(reachable=True)
                self._sizes |= found
                if self._keeps and min(found.get(topic, 0) for topic in self._sizes) < self._wanted.partitions:
                    await make_topics(self._address, self._wanted)
            except Unavailable:
                self._found(reachable=False)
            await asyncio.sleep(_LOOK_EVERY_S)

    def _found(self, *, reachable: bool) -> None:
        if reachable is not self._reachable:
            self._reachable = reachable
            self._emit(HintsReachable("found" if reachable else "lost"))

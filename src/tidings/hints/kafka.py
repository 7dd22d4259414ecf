"""Hints by Kafka: which deliveries are due, by their names.

They save a claim its search, and tell each worker of other rows than its neighbours. They are published after the
commit and awaited by nobody; what they miss, workers find by looking once in ``worker.poll_s``. So without brokers work
begins later, and nothing else changes.
"""

from collections.abc import Mapping, Sequence

from tidings.domain.ids import DeliveryId, ShardNumber
from tidings.domain.lanes import Lane, is_parked
from tidings.hints.kafka_in import HintsIn
from tidings.hints.kafka_out import HintsOut
from tidings.ports import Hints


class KafkaHints:
    """Implements ``ports.Hints``. ``aside`` wakes those who serve parked work. Who takes nothing has no ``come``."""

    def __init__(self, out: HintsOut, come: HintsIn | None, aside: Hints) -> None:
        self._out = out
        self._come = come
        self._aside = aside

    def start(self) -> None:
        self._out.start()
        if self._come:
            self._come.start()

    async def close(self) -> None:
        await self.leave()
        await self._out.close()

    def publish(self, shard: ShardNumber, due: Mapping[DeliveryId, Lane]) -> None:
        parked = {id_: lane for id_, lane in due.items() if is_parked(lane)}
        if parked:
            self._aside.publish(shard, parked)
        self._out.publish({id_: lane for id_, lane in due.items() if id_ not in parked} if parked else due)

    async def take(self, shard: ShardNumber, lane: Lane, most: int, timeout_s: float) -> Sequence[DeliveryId] | None:
        taken = self._aside if self._come is None or is_parked(lane) else self._come
        return await taken.take(shard, lane, most, timeout_s)

    async def leave(self) -> None:
        if self._come:
            await self._come.leave()

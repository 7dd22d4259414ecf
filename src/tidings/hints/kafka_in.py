"""Hints that come from Kafka: a thread reads the partitions that are ours, pumps take what was read.

An offset is committed only after its delivery was claimed. A partition from which too much waits is paused, so that a
lane that is slow holds up no other.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from threading import Event as Flag
from threading import Thread
from typing import Any, Final, TypeAlias
from uuid import UUID

from confluent_kafka import Consumer, KafkaException, TopicPartition

from tidings.domain.events import HintsTaken, LoopFailed
from tidings.domain.ids import DeliveryId, ShardNumber, Slot, slot_in
from tidings.domain.lanes import Lane
from tidings.hints.progress import Progress
from tidings.hints.topics import KafkaAddress
from tidings.ports import Emit

_TOGETHER: Final = 1_000
_WAIT_S: Final = 0.2
_AGAIN_S: Final = 1.0
_HELD_MOST: Final = 5_000
_HELD_FEW: Final = 1_000
_COMMITTED_EVERY_MS: Final = 1_000
_READ_AHEAD: Final = 5_000
_ID_BYTES: Final = 16

Part: TypeAlias = tuple[str, int]
"""A topic and one of its partitions."""


class _Read:
    """One hint as it was read."""

    __slots__ = ("id", "lane", "offset", "progress")

    def __init__(self, id_: DeliveryId, lane: Lane, offset: int, progress: Progress) -> None:
        self.id, self.lane, self.offset, self.progress = id_, lane, offset, progress


class _Queue:
    """What waits for one pump. ``looked_s``: when it was last told to look for itself."""

    def __init__(self) -> None:
        self.waiting = deque[_Read]()
        self.given = list[_Read]()
        self.woken = asyncio.Event()
        self.looked_s = 0.0

    def give(self, most: int) -> Sequence[DeliveryId]:
        while self.waiting and len(self.given) < most:
            hint = self.waiting.popleft()
            if not hint.progress.lost:
                self.given.append(hint)
        return [hint.id for hint in self.given]

    def end(self) -> None:
        """What was given is claimed; or its claim failed, and then a look finds it."""
        for hint in self.given:
            hint.progress.claimed(hint.offset)
        self.given.clear()


class HintsIn:
    """``look_s``: how often a pump is told to look for itself, however many hints there are. ``shard_of`` is where a
    slot lives."""

    def __init__(
        self,
        address: KafkaAddress,
        lanes: Sequence[Lane],
        look_s: float,
        shard_of: Callable[[Slot], ShardNumber],
        emit: Emit,
    ) -> None:
        """Raises KafkaException for properties that do not exist."""
        self._lanes = {address.topic(lane): lane for lane in lanes}
        self._look_s = look_s
        self._shard_of = shard_of
        self._emit = emit
        more = {
            "group.id": address.prefix,
            "group.protocol": "consumer",
            "auto.offset.reset": "earliest",
            "enable.auto.offset.store": False,
            "auto.commit.interval.ms": _COMMITTED_EVERY_MS,
            "queued.min.messages": _READ_AHEAD,
        }
        self._consumer = Consumer(address.properties(**more))
        self._queues: dict[tuple[ShardNumber, Lane], _Queue] = {}
        self._parts: dict[Part, Progress] = {}
        self._paused = set[Part]()
        self._stored: dict[Part, int] = {}
        self._stop = Flag()
        self._thread = Thread(target=self._run, name="hints", daemon=True)

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    async def leave(self) -> None:
        """Tells the group, so that others are given our partitions at once."""
        self._stop.set()
        await asyncio.to_thread(self._thread.join)

    async def take(self, shard: ShardNumber, lane: Lane, most: int, timeout_s: float) -> Sequence[DeliveryId] | None:
        queue = self._queues.setdefault((shard, lane), _Queue())
        queue.end()
        look_in_s = queue.looked_s + self._look_s - self._loop.time()
        if look_in_s > 0:
            await self._until_woken(queue, min(timeout_s, look_in_s))
            if named := queue.give(most):
                return named
        queue.looked_s = self._loop.time()
        return None

    async def _until_woken(self, queue: _Queue, timeout_s: float) -> None:
        queue.woken.clear()
        if queue.waiting or timeout_s <= 0:
            return
        timer = self._loop.call_later(timeout_s, queue.woken.set)
        await queue.woken.wait()
        timer.cancel()

    def _came(self, hints: Sequence[_Read]) -> None:
        """Runs in the loop."""
        for hint in hints:
            queue = self._queues.get((self._shard_of(slot_in(hint.id)), hint.lane))
            if queue is None:  # nobody here serves that shard, or not yet
                hint.progress.claimed(hint.offset)
                continue
            queue.waiting.append(hint)
            queue.woken.set()
        self._emit(HintsTaken(len(hints)))

    # in the thread

    def _run(self) -> None:
        topics = list(self._lanes)
        self._consumer.subscribe(topics, on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked)
        while not self._stop.is_set():
            try:
                self._read()
            except Exception as fault:  # the top of a loop: what it misses is looked for
                self._loop.call_soon_threadsafe(self._emit, LoopFailed("hints", type(fault).__qualname__, ""))
                self._stop.wait(_AGAIN_S)
        self._store()
        self._consumer.close()

    def _read(self) -> None:
        first = self._consumer.poll(_WAIT_S)
        if first is not None:
            self._pass_on([first, *self._consumer.consume(_TOGETHER, 0)])
        self._pace()
        self._store()

    def _assigned(self, _consumer: Consumer, parts: Sequence[TopicPartition]) -> None:
        self._parts |= {(part.topic, part.partition): Progress() for part in parts}

    def _revoked(self, _consumer: Consumer, parts: Sequence[TopicPartition]) -> None:
        self._store()
        for part in [(part.topic, part.partition) for part in parts]:
            if part in self._parts:
                self._parts.pop(part).lost = True
            self._paused.discard(part)
            self._stored.pop(part, None)

    def _pass_on(self, messages: Sequence[Any]) -> None:
        hints = list[_Read]()
        for message in messages:
            progress = self._parts.get((message.topic(), message.partition()))
            value = message.value()
            if message.error() is None and progress and value and len(value) == _ID_BYTES:
                id_ = DeliveryId(UUID(bytes=value))
                hints.append(_Read(id_, self._lanes[message.topic()], message.offset(), progress))
                progress.came(message.offset())
        if hints:
            self._loop.call_soon_threadsafe(self._came, hints)

    def _pace(self) -> None:
        for part, progress in self._parts.items():
            if progress.held > _HELD_MOST and part not in self._paused:
                self._consumer.pause([TopicPartition(*part)])
                self._paused.add(part)
            elif progress.held < _HELD_FEW and part in self._paused:
                self._consumer.resume([TopicPartition(*part)])
                self._paused.discard(part)

    def _store(self) -> None:
        """What is claimed by now is committed with the next commit."""
        upto = {part: one.upto for part, one in self._parts.items() if one.upto not in (None, self._stored.get(part))}
        if not upto:
            return
        try:
            self._consumer.store_offsets(offsets=[TopicPartition(*part, offset) for part, offset in upto.items()])
            self._stored |= upto
        except KafkaException:  # a partition of them is just being taken from us: the next round knows which
            return

"""Natural group commit: what has gathered while the last flush was under way goes with the next one.

No timers and no fixed batch size: an idle system flushes one item at once, a busy one flushes hundreds. A flush is
never cancelled, whoever waits for it.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")

Flush = Callable[[Sequence[T]], Awaitable[Sequence[R | Exception]]]


class Gather(Generic[T, R]):
    """Up to ``side_by_side`` flushes under way when there is enough for them, each of at most ``most`` items.

    ``clashes`` names the keys of an item of which one flush may hold only one; the others wait for a later flush, in
    order. Where nobody waits for the results, ``apart_s`` keeps the beginnings of two flushes apart, unless a full one
    waits: so there are fewer of them, and larger.
    """

    def __init__(
        self,
        flush: Flush[T, R],
        most: int,
        side_by_side: int,
        clashes: Callable[[T], Sequence[Hashable]] = lambda _: (),
        apart_s: float = 0.0,
    ) -> None:
        self._flush = flush
        self._most = most
        self._side_by_side = side_by_side
        self._clashes = clashes
        self._apart_s = apart_s
        self._next_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: deque[tuple[T, asyncio.Future[R]]] = deque()
        self._flushes: set[asyncio.Task[None]] = set()

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def put(self, item: T) -> "asyncio.Future[R]":
        """The future of this item's result. Who settles it, or cancels it, takes the item out, unless its flush has
        begun."""
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        self._start()
        return future

    async def drain(self) -> None:
        """Returns when everything put so far is flushed."""
        while self._flushes or self._timer:
            self._due()
            await asyncio.wait(self._flushes)

    def _start(self) -> None:
        """One flush at a time carries the most; a further one pays only where a full one waits already."""
        full, busy = len(self._waiting) >= self._most, len(self._flushes)
        if not self._waiting or (busy and not (full and busy < self._side_by_side)):
            return
        if full or asyncio.get_running_loop().time() >= self._next_s:
            self._begin()
        elif not self._timer:
            self._timer = asyncio.get_running_loop().call_at(self._next_s, self._due)

    def _due(self) -> None:
        self._next_s = 0.0
        self._start()

    def _begin(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
        loop = asyncio.get_running_loop()
        self._next_s = loop.time() + self._apart_s
        flush = loop.create_task(self._flush_once())
        self._flushes.add(flush)
        flush.add_done_callback(self._ended)

    def _ended(self, flush: "asyncio.Task[None]") -> None:
        self._flushes.discard(flush)
        self._start()

    async def _flush_once(self) -> None:
        batch = self._take()
        if not batch:
            return
        try:
            results: Sequence[R | Exception] = await self._flush([item for item, _ in batch])
        except Exception as fault:
            results = [fault] * len(batch)
        for (_, future), result in zip(batch, results, strict=True):
            if future.done():
                continue
            if isinstance(result, Exception):
                future.set_exception(result)
                future.exception()  # whoever asked may have left: then nobody else looks at it
            else:
                future.set_result(result)

    def _take(self) -> list[tuple[T, "asyncio.Future[R]"]]:
        batch, later, seen = list[tuple[T, asyncio.Future[R]]](), list[tuple[T, asyncio.Future[R]]](), set[Hashable]()
        while self._waiting and len(batch) < self._most:
            item, future = self._waiting.popleft()
            if future.done():
                continue
            keys = self._clashes(item)
            if seen.isdisjoint(keys):
                batch.append((item, future))
            else:
                later.append((item, future))
            seen.update(keys)
        self._waiting.extendleft(reversed(later))
        return batch

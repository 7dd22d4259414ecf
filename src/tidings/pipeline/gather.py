"""Natural group commit: what has gathered while the last flush was under way goes with the next one.

No timers and no fixed batch size: an idle system flushes one item at once, a busy one flushes hundreds. A flush is
never cancelled, whoever waits for it.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")
R = TypeVar("R")

Flush = Callable[[Sequence[T]], Awaitable[Sequence[R | Exception]]]
Put = tuple[T, Sequence[Hashable], asyncio.Future[R]]
"""An item on its way, its keys, and the future of its result."""


def _free(_: object) -> Sequence[Hashable]:
    return ()


def _alone(_: object, __: object, later: Sequence[object]) -> Sequence[None]:
    return [None] * len(later)


class Clash(NamedTuple, Generic[T, R]):
    """``keys`` names what an item holds until its flush has ended: another one with such a key waits behind it.
    ``follow`` says what the result of an item means for those that waited behind it, in order: None for one that has to
    go itself."""

    keys: Callable[[T], Sequence[Hashable]]
    follow: Callable[[T, R | Exception, Sequence[T]], Sequence[R | Exception | None]] = _alone


class Gather(Generic[T, R]):
    """Up to ``side_by_side`` flushes under way when there is enough for them, each of at most ``most`` items.

    ``clash`` says which items must not meet in one flush. Where nobody waits for the results, ``apart_s`` keeps the
    beginnings of two flushes apart, unless a full one waits: so there are fewer of them, and larger.
    """

    def __init__(
        self,
        flush: Flush[T, R],
        most: int,
        side_by_side: int,
        clash: Clash[T, R] | None = None,
        apart_s: float = 0.0,
    ) -> None:
        self._flush = flush
        self._most = most
        self._side_by_side = side_by_side
        self._keys, self._follow = clash or Clash[T, R](_free)
        self._apart_s = apart_s
        self._next_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: deque[Put[T, R]] = deque()
        self._behind: dict[Hashable, list[Put[T, R]] | None] = {}
        self._behind_count = 0
        self._flushes: set[asyncio.Task[None]] = set()

    @property
    def waiting(self) -> int:
        return len(self._waiting) + self._behind_count

    def put(self, item: T) -> "asyncio.Future[R]":
        """The future of this item's result. Who settles it, or cancels it, takes the item out, unless its flush has
        begun."""
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._place((item, self._keys(item), future))
        self._start()
        return future

    async def drain(self) -> None:
        """Returns when everything put so far is flushed."""
        while self._flushes or self._timer:
            self._due()
            await asyncio.wait(self._flushes)

    def _place(self, put: Put[T, R]) -> None:
        """In the queue, or behind the first that holds one of its keys."""
        keys, behind = put[1], self._behind
        for key in keys:
            if key in behind:
                return self._wait_behind(key, put)
        for key in keys:
            behind[key] = None
        return self._waiting.append(put)

    def _wait_behind(self, key: Hashable, put: Put[T, R]) -> None:
        later = self._behind[key]
        if later is None:
            later = self._behind[key] = []
        later.append(put)
        self._behind_count += 1

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
            results: Sequence[R | Exception] = await self._flush([item for item, _, _ in batch])
        except Exception as fault:
            results = [fault] * len(batch)
        for (item, keys, future), result in zip(batch, results, strict=True):
            _tell(future, result)
            for key in keys:
                if later := self._released(key):
                    self._answer(later, self._follow(item, result, [one for one, _, _ in later]))

    def _answer(self, later: Sequence[Put[T, R]], said: Sequence[R | Exception | None]) -> None:
        for put, result in zip(later, said, strict=True):
            if result is None:
                self._place(put)
            else:
                _tell(put[2], result)

    def _take(self) -> list[Put[T, R]]:
        batch = list[Put[T, R]]()
        while self._waiting and len(batch) < self._most:
            put = self._waiting.popleft()
            if not put[2].done():
                batch.append(put)
                continue
            for key in put[1]:
                if later := self._released(key):
                    self._answer(later, [None] * len(later))
        return batch

    def _released(self, key: Hashable) -> Sequence[Put[T, R]]:
        """Those behind a key that nobody holds any longer; who has left is left out."""
        later = self._behind.pop(key)
        if later is None:
            return ()
        self._behind_count -= len(later)
        return [put for put in later if not put[2].done()]


def _tell(future: "asyncio.Future[R]", result: R | Exception) -> None:
    if future.done():
        return
    if isinstance(result, Exception):
        future.set_exception(result)
        future.exception()  # whoever asked may have left: then nobody else looks at it
    else:
        future.set_result(result)

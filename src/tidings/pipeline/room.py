"""How many calls may be under way at once."""

import asyncio
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import Final

from tidings.domain.lanes import Class, Lane, class_of

KEPT: Final[Mapping[Class, float]] = {Class.transactional: 0.3, Class.promotional: 0.1}
"""The share of the places that the lanes of a class have for themselves, each lane the same."""


class Room:
    """Places for calls. Every lane has a few that no other gets: a provider that is slow, or a flood, holds up no other
    lane, and promotional calls are never many enough to keep transactional ones waiting. The rest is for whoever comes.
    """

    def __init__(self, places: int, lanes: Sequence[Lane]) -> None:
        of = Counter(map(class_of, lanes))
        self._kept = {lane: int(places * KEPT[class_of(lane)] / of[class_of(lane)]) for lane in lanes}
        self._owed = sum(self._kept.values())
        self._free = places
        self._used = Counter[Lane]()
        self._waiting = deque[asyncio.Future[None]]()
        self.closed = False

    def free(self, lane: Lane) -> int:
        """How many calls of this lane could begin now."""
        return self._free - self._owed + self._own(lane)

    async def take(self, lane: Lane, most: int) -> int:
        """At least one place and up to ``most``; waits while none is to be had. None once the room is closed."""
        while self.free(lane) <= 0 and not self.closed:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            await turn
        if self.closed:
            return 0
        took = min(most, self.free(lane))
        self._change(lane, took)
        return took

    def close(self) -> None:
        """Nobody gets a place any more; who waits for one is told."""
        self.closed = True
        self._tell()

    def give(self, lane: Lane, places: int = 1) -> None:
        self._change(lane, -places)
        self._tell()

    def _own(self, lane: Lane) -> int:
        """Places of its own that it does not use."""
        return max(0, self._kept.get(lane, 0) - self._used[lane])

    def _change(self, lane: Lane, taken: int) -> None:
        before = self._own(lane)
        self._used[lane] += taken
        self._free -= taken
        self._owed += self._own(lane) - before

    def _tell(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)

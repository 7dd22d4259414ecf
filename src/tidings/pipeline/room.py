"""How many calls may be under way at once."""

import asyncio
from collections import deque
from typing import Final

RESERVED: Final = 0.3
"""The share of the places that promotional calls leave free."""


class Room:
    """Places for calls. Promotional calls get none of the last ones, so that a transactional one always finds one."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._free = places
        self._waiting: deque[asyncio.Future[None]] = deque()
        self.closed = False

    @property
    def free(self) -> int:
        return self._free

    async def take(self, most: int, *, promotional: bool = False) -> int:
        """At least one place and up to ``most``; waits while none is to be had. None once the room is closed."""
        reserve = int(self._places * RESERVED) if promotional else 0
        while self._free <= reserve and not self.closed:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            await turn
        if self.closed:
            return 0
        took = min(most, self._free - reserve)
        self._free -= took
        return took

    def close(self) -> None:
        """Nobody gets a place any more; who waits for one is told."""
        self.closed = True
        self.give(0)

    def give(self, places: int = 1) -> None:
        self._free += places
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)

"""A bounded number of turns, first come first served. Taking a free one costs no coroutine and no timer."""

import asyncio
from collections import deque


class Turns:
    def __init__(self, number: int) -> None:
        self._free = number
        self._queue: deque[asyncio.Future[None]] = deque()

    def take(self) -> bool:
        """Takes a turn if one is free. Those who wait are never overtaken: a turn given back goes to them."""
        if self._free == 0:
            return False
        self._free -= 1
        return True

    async def wait(self, timeout_s: float) -> bool:
        """Takes the next turn that comes free; False when none did in time."""
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append(mine)
        try:
            await asyncio.wait({mine}, timeout=timeout_s)
        except asyncio.CancelledError:
            if mine.done():
                self.give()
            mine.cancel()
            raise
        if mine.done():
            return True
        mine.cancel()
        return False

    def give(self) -> None:
        """Gives a turn back."""
        while self._queue:
            waiting = self._queue.popleft()
            if not waiting.done():
                waiting.set_result(None)
                return
        self._free += 1

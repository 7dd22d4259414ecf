"""The machine's clocks and its randomness: the only place that asks for them."""

import os
import random
import time
from datetime import UTC, datetime


class SystemClock:
    """Implements ``ports.Clock``."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def boottime_s(self) -> float:
        """Counts while the machine is suspended too, and nobody can set it."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)


class RandomSource:
    """Random numbers for ids, tokens and jitter: unguessable, and a few hundred nanoseconds each."""

    def __init__(self) -> None:
        self._pool = b""
        self._at = 0

    def bits_62(self) -> int:
        return self._bits_64() >> 2

    def token(self) -> int:
        """Never 0, which means that nobody holds the row."""
        return (self._bits_64() >> 1) or 1

    def luck(self) -> float:
        """In [0, 1)."""
        return random.random()

    def _bits_64(self) -> int:
        if self._at >= len(self._pool):
            self._pool, self._at = os.urandom(4096), 0
        self._at += 8
        return int.from_bytes(self._pool[self._at - 8 : self._at], "big")

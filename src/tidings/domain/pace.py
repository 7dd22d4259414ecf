"""How work comes back to an account that was away: at a bounded rate, in its order. No I/O; the clock is a parameter,
in seconds that never go back."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from itertools import accumulate
from math import inf
from typing import Final

import msgspec

_LOOKS_EVERY_S: Final = 30.0
_QUIET_S: Final = 10.0
_KEPT_S: Final = 1.0
_LEFT_OVER: Final = 0.9
"""A bucket this full is more than those need whose turn it is."""
_WHOLE: Final = 1 - 1e-6
"""A token, but for what sums of seconds lose."""
_INSTANT_S: Final = 1e-6


class Waiting(msgspec.Struct, frozen=True, gc=False):
    """What decides who goes first: the class, then the second of the accept."""

    promotional: bool
    accepted_s: int


class Crowd:
    """How many wait, by the second in which they were accepted. ``known`` are those who have waited before."""

    def __init__(self, known: Mapping[int, int]) -> None:
        self._seconds = sorted(known)
        self._older = [0, *accumulate(known[second] for second in self._seconds)]
        self._told: Counter[int] = Counter()
        self._known = known

    @property
    def size(self) -> int:
        return self._older[-1]

    def is_news(self, accepted_s: int) -> bool:
        """Nobody who was accepted later is known: it was hardly counted before."""
        return not self._seconds or accepted_s >= self._seconds[-1]

    def older(self, accepted_s: int) -> int:
        """How many were accepted in earlier seconds."""
        return self._older[bisect_left(self._seconds, accepted_s)]

    def before(self, accepted_s: int) -> int:
        """How many go before the next one that is told its turn."""
        return self.older(accepted_s) + self._told[accepted_s]

    def add(self, accepted_s: int) -> None:
        """One was told its turn."""
        self._told[accepted_s] += 1
        if accepted_s not in self._known:
            self._insert(accepted_s)

    def all(self) -> Mapping[int, int]:
        """To be known to the next: who came again was counted again, and who did not is still to come."""
        return {**self._known, **self._told}

    def _insert(self, accepted_s: int) -> None:
        """Mostly at the end: the newest come last."""
        at = bisect_left(self._seconds, accepted_s)
        if at == len(self._seconds) or self._seconds[at] != accepted_s:
            self._seconds.insert(at, accepted_s)
            self._older.insert(at, self._older[at])
        for later in range(at + 1, len(self._older)):
            self._older[later] += 1


class Pace:
    """A token bucket that holds what one second gives: ``per_s`` tokens from ``from_s`` on.

    Whoever finds none is told a turn, as far ahead as those who go before need: transactional before promotional, the
    older first. So a backlog comes back in its order, and each of it is looked at once. Before its turn a call gets
    only what is left over. If the queue grows all the same, more comes in than the rate lets out, and the rate is
    doubled every half minute: it never becomes the bottleneck for good.
    """

    def __init__(self, per_s: float, from_s: float, before: "Pace | None" = None) -> None:
        """``before``: the pace of an account that was away already."""
        self._per_s = per_s
        self._from_s = self._at_s = self._looked_s = self._again_s = self._end_s = from_s
        self._queue_s = inf
        self._tokens = 1.0
        transactional, promotional = before._crowds if before else (Crowd({}), Crowd({}))
        self._crowds: tuple[Crowd, Crowd] = Crowd(transactional.all()), Crowd(promotional.all())

    def wait_s(self, now_s: float, who: Waiting) -> float:
        """0 when a call may go now, else how long until its turn."""
        needed = _WHOLE if self._is_due(now_s, who) else self._most * _LEFT_OVER
        if now_s >= self._from_s and self._filled(now_s) >= needed:
            return 0.0
        return self._next_turn_s(now_s, who) - now_s

    def passed(self, now_s: float) -> None:
        """A call goes."""
        self._tokens = self._filled(now_s) - 1
        self._at_s = now_s

    def queued(self, now_s: float, who: Waiting) -> None:
        """It was told its turn, and waits."""
        turn_s = self._next_turn_s(now_s, who)
        if self._is_due(now_s, who):
            self._again_s = turn_s
        elif now_s < self._from_s or self._crowds[who.promotional].is_news(who.accepted_s):
            self._crowds[who.promotional].add(who.accepted_s)
        self._end_s = max(self._end_s, turn_s)
        if now_s >= self._looked_s + _LOOKS_EVERY_S:
            self._look(now_s)

    def is_on(self, now_s: float) -> bool:
        """The account is back, and some may still wait for their turn."""
        return self._from_s <= now_s and not self.is_over(now_s)

    def is_over(self, now_s: float) -> bool:
        """Every turn is over, and for a while nobody was told one."""
        return now_s > self._end_s + _QUIET_S

    @property
    def _most(self) -> float:
        return max(self._per_s * _KEPT_S, 2.0)

    def _is_due(self, now_s: float, who: Waiting) -> bool:
        """Has the turn come of those who were accepted in its second?"""
        others = self._crowds[0].size if who.promotional else 0
        first = others + self._crowds[who.promotional].older(who.accepted_s)
        return now_s >= self._from_s + first / self._per_s - _INSTANT_S

    def _next_turn_s(self, now_s: float, who: Waiting) -> float:
        """One that misses its turn, because others came too, is told another, counted from now."""
        if self._is_due(now_s, who):
            return max(self._again_s, now_s) + 1 / self._per_s
        others = self._crowds[0].size if who.promotional else 0
        before = others + self._crowds[who.promotional].before(who.accepted_s)
        return max(self._from_s + before / self._per_s, now_s)

    def _look(self, now_s: float) -> None:
        queue_s = self._end_s - now_s
        if queue_s > self._queue_s + _KEPT_S:
            self._per_s *= 2
        self._queue_s, self._looked_s = queue_s, now_s

    def _filled(self, now_s: float) -> float:
        return min(self._tokens + max(now_s - self._at_s, 0.0) * self._per_s, self._most)

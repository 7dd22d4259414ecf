"""How work comes back to an account that was away: at a bounded rate, in turn. No I/O; the clock is a parameter, in
seconds that never go back."""

from math import inf
from typing import Final

_LOOKS_EVERY_S: Final = 30.0
_QUIET_S: Final = 10.0
_KEPT_S: Final = 1.0
_RESERVED: Final = 0.9
"""Of the tokens, while others wait."""
_WHOLE: Final = 1 - 1e-6
"""A token, but for what sums of seconds lose."""


class Pace:
    """A token bucket that holds what one second gives: ``per_s`` tokens from ``from_s`` on.

    Whoever finds none is told a turn, behind all who were told one before: so a backlog comes back in its order, and is
    looked at once. While others wait, promotional calls get what is left over; they have a queue of their own, which
    begins where the others' ends. If the queue grows all the same, more comes in than the rate lets out, and the rate
    is doubled every half minute: it never becomes the bottleneck for good.

    ``others_until_s``: when the last turn is that others than promotional calls were told, before this began perhaps.
    """

    __slots__ = (
        "_at_s",
        "_from_s",
        "_looked_s",
        "_per_s",
        "_promo_turn_s",
        "_queue_s",
        "_tokens",
        "_turn_s",
        "others_until_s",
    )

    def __init__(self, per_s: float, from_s: float, others_until_s: float = 0.0) -> None:
        self.others_until_s = others_until_s
        self._per_s = per_s
        self._from_s = self._at_s = self._looked_s = from_s
        self._turn_s = self._promo_turn_s = from_s
        self._queue_s = inf
        self._tokens = 1.0

    def wait_s(self, now_s: float, *, promotional: bool = False) -> float:
        """0 when a call may go now, else how long until the next turn."""
        needed = self._most * _RESERVED if promotional and now_s < self.others_until_s else _WHOLE
        if now_s >= self._from_s and self._filled(now_s) >= needed:
            return 0.0
        return self._next_turn_s(now_s, promotional) - now_s

    def passed(self, now_s: float) -> None:
        """A call goes."""
        self._tokens = self._filled(now_s) - 1
        self._at_s = now_s

    def queued(self, now_s: float, *, promotional: bool = False) -> None:
        """Somebody was told the next turn."""
        after_s = self._next_turn_s(now_s, promotional) + 1 / self._per_s
        if promotional:
            self._promo_turn_s = after_s
        else:
            self._turn_s = after_s
            self.others_until_s = max(self.others_until_s, after_s)
        if now_s >= self._looked_s + _LOOKS_EVERY_S:
            self._look(now_s)

    def is_over(self, now_s: float) -> bool:
        """Every turn is over, and for a while nobody was told one."""
        return now_s > self._end_s + _QUIET_S

    @property
    def _end_s(self) -> float:
        return max(self._turn_s, self._promo_turn_s, self.others_until_s)

    @property
    def _most(self) -> float:
        return max(self._per_s * _KEPT_S, 2.0)

    def _look(self, now_s: float) -> None:
        queue_s = self._end_s - now_s
        if queue_s > self._queue_s + _KEPT_S:
            self._per_s *= 2
        self._queue_s, self._looked_s = queue_s, now_s

    def _next_turn_s(self, now_s: float, promotional: bool) -> float:
        """A promotional call whose turn comes while others still wait is told the same turn again, counted from the
        others' end: so its queue keeps its order."""
        if promotional and self._from_s <= now_s < self.others_until_s:
            return self.others_until_s + (now_s - self._from_s)
        turn_s = self._promo_turn_s if promotional else self._turn_s
        return max(turn_s, now_s + 1 / self._per_s) if now_s >= self._from_s else turn_s

    def _filled(self, now_s: float) -> float:
        return min(self._tokens + max(now_s - self._at_s, 0.0) * self._per_s, self._most)

"""The line in which deliveries come back to accounts that were away: transactional before promotional, in each the
older first, at a set rate. No I/O; the clock is a parameter, in seconds that never go back."""

from collections.abc import Sequence
from typing import Final, TypeAlias
from uuid import UUID

from tidings.domain.ids import DeliveryId, first_at
from tidings.domain.lanes import Class

Place: TypeAlias = tuple[Class, DeliveryId]
"""Where somebody stands. Places are ordered as those who stand there leave."""

NOBODY: Final = DeliveryId(first_at(0))
FRONT: Final[Place] = (min(Class), NOBODY)
END: Final[Place] = (max(Class), DeliveryId(UUID(int=(1 << 128) - 1)))

HEAD_S: Final = 1.5
"""From an account's return to the first turn. By then every worker knows."""
_MOST_S: Final = 1.0
"""Turns that nobody took are lost after this, or after the time of one: what was missed is not made up for."""
_CLOSES_S: Final = 2.0
"""How long an empty line is looked at, for those who were told to wait right before."""
_LOOKS_EVERY_S: Final = 30.0


class Line:
    """``per_s`` leave a second, the first ``HEAD_S`` after it began. ``place`` is how far the line has come: whoever
    stands behind it waits.

    It begins at the front where an account was away, so that everybody waits; else at the end, and nobody who comes
    waits unless it turns out to be long. If for half a minute more come than leave, the rate doubles: so the line never
    becomes the bottleneck for good.
    """

    __slots__ = ("_behind", "_came", "_empty_s", "_given_s", "_left", "_looks_s", "per_s", "place")

    def __init__(self, began_s: float, per_s: float, place: Place = FRONT) -> None:
        self.per_s = per_s
        self.place = place
        self._given_s = began_s + HEAD_S
        self._behind = dict.fromkeys(Class, NOBODY)
        self._empty_s: float | None = None
        self._came = self._left = 0
        self._looks_s = self._given_s + _LOOKS_EVERY_S

    def turns(self, now_s: float) -> float:
        """How many may leave now."""
        for_s = now_s - self._given_s
        return min(for_s * self.per_s, max(_MOST_S * self.per_s, 1.0)) if for_s > 0 else 0.0

    def behind(self, class_: Class) -> DeliveryId:
        """The last of a class who had his turn."""
        return self._behind[class_]

    def moved(self, leave: Sequence[Place], now_s: float, *, all_left: bool) -> None:
        """These have their turns now, in order; ``all_left``: nobody else waits."""
        self._behind.update(leave)
        self._given_s = max(self._given_s, now_s - max(_MOST_S, 1 / self.per_s)) + len(leave) / self.per_s
        if all_left:
            self.place = END
            self._empty_s = now_s if self._empty_s is None else self._empty_s
        elif leave:
            self.place, self._empty_s = leave[-1], None
        self._keep_up(now_s)

    def is_over(self, now_s: float) -> bool:
        """Nobody waits any more, nor did a moment ago."""
        return self._empty_s is not None and now_s - self._empty_s >= _CLOSES_S

    def came(self) -> None:
        """Somebody was told to wait."""
        self._came += 1

    def left(self) -> None:
        """Somebody whose turn it was has gone."""
        self._left += 1

    def _keep_up(self, now_s: float) -> None:
        if now_s < self._looks_s:
            return
        if self._came > self._left:
            self.per_s *= 2
        self._came = self._left = 0
        self._looks_s = now_s + _LOOKS_EVERY_S

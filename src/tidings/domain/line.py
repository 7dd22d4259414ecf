"""The line in which deliveries come back to an account that was away: transactional before promotional, in each the
older first, at a set rate. No I/O; the clock is a parameter, in seconds that never go back."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from tidings.domain.lanes import Class

HEAD_S: Final = 1.5
"""From an account's return to the first turn. By then every worker knows of it."""
SHORT_S: Final = 1.0
"""Behind a shorter line nobody need wait who comes later."""
_NOT_YET_S: Final = 0.5
_BEHIND_S: Final = 2.0
"""After the end of a line, by which it has been formed again."""
_NEARLY_S: Final = 0.5
"""Before the end of a class, when it is formed again: the next class is told in time that it is not its turn yet."""
_LOOKS_EVERY_S: Final = 30.0
_SLACK: Final = (0.1, 0.01)
"""A turn may be off by so many seconds, and by such a share of the wait for it: so to form a line again that stands as
it should changes nothing."""


class Places:
    """The places of a line, given one after the other. ``head_s`` is the instant of the first turn, and ``per_s`` turns
    follow in a second."""

    __slots__ = ("_head_s", "_last_s", "_per_s", "given")

    def __init__(self, head_s: float, per_s: float) -> None:
        self._head_s, self._per_s = head_s, per_s
        self._last_s = 0.0
        self.given = 0

    def misplaced(self, turns_s: Sequence[float | None], now_s: float) -> Iterator[tuple[int, float]]:
        """Of the next, who have their turns in so many seconds or have none, those who get another: index, and seconds
        until that. Nobody's turn is before that of one in front of him, and none is over."""
        seconds, share = _SLACK
        for n, has_s in enumerate(turns_s):
            wanted_s = max(self._head_s + self.given / self._per_s - now_s, 0.0)
            least_s = self._last_s - now_s
            self.given += 1
            if has_s is not None and has_s >= least_s and abs(wanted_s - has_s) <= seconds + share * wanted_s:
                self._last_s = now_s + has_s
                continue
            turn_s = max(wanted_s, least_s)
            self._last_s = now_s + turn_s
            yield n, turn_s


class Line:
    """``head_s`` is the instant of the first turn, ``per_s`` how many leave a second.

    Who has a turn passes when it comes. Who has waited for longer than the line is old passes too, once all have their
    turns. Who comes later is told the end of its class. There the line is formed again, of those who wait for nothing
    else: it is over for a class of which hardly anybody does any more. If for half a minute more have come than have
    left, it is formed again at twice the rate, so that it never becomes the bottleneck for good.
    """

    __slots__ = ("_began_s", "_came", "_ends_s", "_left", "_looks_s", "head_s", "per_s")

    def __init__(self, began_s: float, head_s: float, per_s: float) -> None:
        self._began_s = began_s
        self.head_s = head_s
        self.per_s = per_s
        self._ends_s: Mapping[Class, float] | None = None
        self._came = self._left = 0
        self._looks_s = head_s + _LOOKS_EVERY_S

    def wait_s(self, now_s: float, class_: Class, *, has_turn: bool, since_s: float | None) -> float:
        """0 when a call may go now, else when to come back. ``since_s``: since when it waits, None for one that has not
        been told to wait before."""
        if has_turn:
            return 0.0
        if self._ends_s is None:
            return max(self.head_s - now_s, now_s - self._began_s, _NOT_YET_S)
        waited = since_s is not None and since_s < self._began_s
        if waited or class_ not in self._ends_s:
            return 0.0
        return max(self._ends_s[class_] - now_s, 0.0) + _BEHIND_S

    @property
    def is_new(self) -> bool:
        """It has not been formed yet."""
        return self._ends_s is None

    def came(self) -> None:
        """Somebody was told to wait. Until all have their turns he is told so again and again, and not counted."""
        self._came += self._ends_s is not None

    def left(self) -> None:
        """A call went."""
        self._left += 1

    def formed(self, began_s: float, ends_s: Mapping[Class, float]) -> None:
        """Everybody who waited at ``began_s`` has a turn now. ``ends_s``: when the last of a class has it, where those
        who come later are to wait for that."""
        self._began_s, self._ends_s = began_s, ends_s

    def is_due(self, now_s: float) -> bool:
        """It is to be formed now: it has not been, a class nears its end, or too many come."""
        if self._ends_s is None or any(end_s - _NEARLY_S <= now_s for end_s in self._ends_s.values()):
            return True
        return self._grows(now_s)

    def is_over(self) -> bool:
        """Nobody need wait any more who comes now."""
        return self._ends_s is not None and not self._ends_s

    def _grows(self, now_s: float) -> bool:
        if now_s < self._looks_s:
            return False
        grows = self._came > self._left
        if grows:
            self.per_s *= 2
        self._came = self._left = 0
        self._looks_s = now_s + _LOOKS_EVERY_S
        return grows

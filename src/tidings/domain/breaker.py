"""The breaker of one account, as one worker sees it: when to leave the account alone, and when to try it again.

No I/O; the clock is a parameter, in seconds that never go back.
"""

from collections import deque
from enum import StrEnum
from typing import Final

import msgspec

_SLICES: Final = 10


class BreakerState(StrEnum):
    """Closed lets every call through, open none, half open one: the probe."""

    closed = "closed"
    open = "open"
    half_open = "half_open"


class BreakerRules(msgspec.Struct, frozen=True):
    """A breaker opens at ``failures`` in a row that span at least ``failures_s``, or when more than ``share`` of at
    least ``share_of`` calls within ``window_s`` have failed.

    It stays open for ``open_s``, and twice as long each time that it has not been closed for as long as it was open
    before, up to ``open_most_s``. A probe that is not heard of within ``probe_s`` makes way for another.
    """

    failures: int
    failures_s: float
    share: float
    share_of: int
    window_s: float
    open_s: float
    open_most_s: float
    probe_s: float


class Breaker:
    """``since_s`` is when its state began, ``why`` the code of the failure that opened it last."""

    __slots__ = ("_next_s", "_open_for_s", "_recent", "_row", "_row_since_s", "_rules", "since_s", "state", "why")

    def __init__(self, rules: BreakerRules) -> None:
        self._rules = rules
        self._recent = _Recent(rules.window_s)
        self._row = 0
        self._row_since_s = self._next_s = self._open_for_s = 0.0
        self.state = BreakerState.closed
        self.since_s = 0.0
        self.why = ""

    def wait_s(self, now_s: float) -> float:
        """Until it lets a call through; 0 when it does so now."""
        return 0.0 if self.state is BreakerState.closed else max(self._next_s - now_s, 0.0)

    def passed(self, now_s: float) -> bool:
        """A call goes through. True when it is the probe of a breaker that was open."""
        if self.state is BreakerState.closed:
            return False
        self._next_s = now_s + self._rules.probe_s
        first = self.state is BreakerState.open
        if first:
            self._begin(BreakerState.half_open, now_s)
        return first

    def hurry(self, now_s: float) -> None:
        """Somebody else has reached the account since: the probe need not wait any longer."""
        if self.state is BreakerState.open:
            self._next_s = min(self._next_s, now_s)

    def heard(self, failed: str | None, began_s: float, now_s: float) -> bool:
        """What became of a call that began then: the code of a failure, None when the provider has answered. True when
        that changed the state. An answer to a call from before the present state says nothing about it."""
        if self.state is BreakerState.open or began_s < self.since_s:
            return False
        self._count(failed is not None, now_s)
        probed = self.state is BreakerState.half_open
        if failed is not None and (probed or self._too_many(now_s)):
            self._open(failed, now_s)
            return True
        if probed:
            self._begin(BreakerState.closed, now_s)
        return probed

    def _count(self, failed: bool, now_s: float) -> None:
        self._recent.add(failed, now_s)
        if not failed:
            self._row = 0
            return
        if self._row == 0:
            self._row_since_s = now_s
        self._row += 1

    def _too_many(self, now_s: float) -> bool:
        rules = self._rules
        if self._row >= rules.failures and now_s - self._row_since_s >= rules.failures_s:
            return True
        calls, failures = self._recent.totals(now_s)
        return calls >= rules.share_of and failures > rules.share * calls

    def _open(self, why: str, now_s: float) -> None:
        calm = self.state is BreakerState.closed and now_s - self.since_s >= self._open_for_s
        longer_s = 0.0 if calm else 2 * self._open_for_s
        self._open_for_s = min(max(longer_s, self._rules.open_s), self._rules.open_most_s)
        self._next_s = now_s + self._open_for_s
        self.why = why
        self._begin(BreakerState.open, now_s)

    def _begin(self, state: BreakerState, now_s: float) -> None:
        self.state, self.since_s, self._row = state, now_s, 0
        self._recent = _Recent(self._rules.window_s)


class _Recent:
    """Calls and failures of the last ``window_s``, in slices of which the oldest goes as a whole."""

    __slots__ = ("_slice_s", "_slices")

    def __init__(self, window_s: float) -> None:
        self._slice_s = window_s / _SLICES
        self._slices: deque[list[int]] = deque()

    def add(self, failed: bool, now_s: float) -> None:
        number = int(now_s / self._slice_s)
        if not self._slices or self._slices[-1][0] != number:
            self._forget(number)
            self._slices.append([number, 0, 0])
        newest = self._slices[-1]
        newest[1] += 1
        newest[2] += failed

    def totals(self, now_s: float) -> tuple[int, int]:
        self._forget(int(now_s / self._slice_s))
        return sum(one[1] for one in self._slices), sum(one[2] for one in self._slices)

    def _forget(self, number: int) -> None:
        while self._slices and self._slices[0][0] <= number - _SLICES:
            self._slices.popleft()

"""Who broke things lately is left alone for a while, so that it cannot slow the others down."""

from collections.abc import Callable


class Quarantine:
    """``strikes`` within ``for_s`` seconds of each other refuse a key for ``for_s`` seconds; then it starts anew."""

    def __init__(self, strikes: int, for_s: float, clock_s: Callable[[], float]) -> None:
        self._strikes = strikes
        self._for_s = for_s
        self._clock_s = clock_s
        self._seen: dict[int, tuple[int, float]] = {}

    def strike(self, key: int) -> bool:
        """Notes one; True when the key is now refused."""
        now_s = self._clock_s()
        self._seen = {one: seen for one, seen in self._seen.items() if now_s - seen[1] < self._for_s}
        count = self._seen.get(key, (0, now_s))[0] + 1
        self._seen[key] = (count, now_s)
        return count >= self._strikes

    def remaining_s(self, key: int) -> float:
        """How long this key is still refused; 0 when it is not."""
        count, at_s = self._seen.get(key, (0, 0.0))
        return max(0.0, at_s + self._for_s - self._clock_s()) if count >= self._strikes else 0.0

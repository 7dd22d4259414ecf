"""How far a partition is claimed. Pure."""

from collections import deque


class Progress:
    """Of one partition, for as long as it is ours: an offset is committed once it and all before it are claimed. What
    comes may be told by one thread, what is claimed by another.

    ``upto`` is the offset to go on from, None while nothing is claimed. ``lost``: the partition is another's now.
    """

    def __init__(self) -> None:
        self._open = deque[int]()
        self._ended = set[int]()
        self.upto: int | None = None
        self.lost = False

    @property
    def held(self) -> int:
        """How many have come and are not claimed, or not all before them."""
        return len(self._open)

    def came(self, offset: int) -> None:
        """In the order of the partition."""
        self._open.append(offset)

    def claimed(self, offset: int) -> None:
        self._ended.add(offset)
        while self._open and self._open[0] in self._ended:
            last = self._open.popleft()
            self._ended.discard(last)
            self.upto = last + 1

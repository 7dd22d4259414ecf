"""Backlog: the lines of what waits for accounts that are back, as one worker knows them.

A line is moved on by one worker alone, of those that found an account back the one with the lowest rank; the others
see on the board how far it has come, and let nobody overtake it. Without a board each moves a line of its own.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import TypeAlias

from tidings.domain.catalog import Catalog
from tidings.domain.ids import TenantId
from tidings.domain.lanes import Channel
from tidings.domain.line import FRONT, Line, Place
from tidings.ports import Catalogs, Clock, Seen

Queue: TypeAlias = tuple[TenantId, Channel]
"""Those who wait for the same accounts."""


@dataclass
class _Standing:
    """A line, and the accounts that those who leave it may go by. ``ours`` is None where others move it on,
    ``theirs`` how far theirs has come."""

    accounts: set[int]
    ours: Line | None = None
    theirs: Place | None = None

    def place(self) -> Place | None:
        return min((one for one in (self.ours and self.ours.place, self.theirs) if one), default=None)


@dataclass
class Backlog:
    """``rank`` is this worker's, and nobody else's. ``per_s``: how many leave each line in a second; 0 for all at
    once."""

    catalogs: Catalogs
    clock: Clock
    rank: int
    per_s: float
    _lines: dict[Queue, _Standing] = field(default_factory=dict, init=False)

    def __bool__(self) -> bool:
        return bool(self._lines)

    def begin(self, accounts: Collection[int], place: Place = FRONT) -> None:
        """All who wait for these are to leave, from the first on. Where others have begun already, they go on."""
        catalog, now_s = self.catalogs(), self.clock.boottime_s()
        for number in accounts:
            queue = queue_of(catalog, number)
            if queue is None:
                continue
            standing = self._lines.setdefault(queue, _Standing(set()))
            if standing.theirs is None or number not in standing.accounts:
                standing.ours = Line(now_s, self.per_s or inf, place)
            standing.accounts.add(number)

    def end(self, account: int) -> None:
        """It is away again. Who waits for the other accounts of its line goes on leaving."""
        queue = queue_of(self.catalogs(), account)
        standing = self._lines.get(queue) if queue else None
        if queue and standing:
            standing.accounts.discard(account)
            if not standing.accounts:
                del self._lines[queue]

    def line(self, account: int) -> Line | None:
        """The one that we move on."""
        standing = self._of(account)
        return standing.ours if standing else None

    def place(self, account: int) -> Place | None:
        """How far the line for this account has come; None where nobody need wait."""
        standing = self._of(account)
        return standing.place() if standing else None

    def stands(self, queue: Queue) -> bool:
        return queue in self._lines

    def accounts(self) -> Iterable[int]:
        """Those with a line that we move on."""
        return [number for standing in self._lines.values() if standing.ours for number in standing.accounts]

    def to_move(self) -> Mapping[Queue, Line]:
        """The lines that are ours to move on. Those that are over, or whose accounts are gone, are forgotten."""
        now_s, catalog = self.clock.boottime_s(), self.catalogs()
        for standing in self._lines.values():
            if standing.ours and standing.ours.is_over(now_s):
                standing.ours = None
        self._forget(catalog)
        return {queue: standing.ours for queue, standing in self._lines.items() if standing.ours}

    def learn(self, reports: Sequence[Sequence[Seen]]) -> None:
        """How far the lines of others have come. Ours gives way to that of a lower rank."""
        catalog = self.catalogs()
        for standing in self._lines.values():
            standing.theirs = None
        for one in (one for report in reports for one in report):
            queue = queue_of(catalog, one.account) if one.place is not None and one.rank != self.rank else None
            if queue is None or one.place is None:
                continue
            standing = self._lines.setdefault(queue, _Standing(set()))
            standing.accounts.add(one.account)
            standing.theirs = min(one.place, standing.theirs or one.place)
            if one.rank < self.rank:
                standing.ours = None
        self._forget(catalog)

    def _of(self, account: int) -> _Standing | None:
        queue = queue_of(self.catalogs(), account) if self._lines else None
        standing = self._lines.get(queue) if queue else None
        return standing if standing and account in standing.accounts else None

    def _forget(self, catalog: Catalog) -> None:
        self._lines = {
            queue: standing
            for queue, standing in self._lines.items()
            if (standing.ours or standing.theirs) and not standing.accounts.isdisjoint(catalog.accounts)
        }


def queue_of(catalog: Catalog, number: int) -> Queue | None:
    """Who waits for this account, None for one that is gone."""
    account = catalog.accounts.get(number)
    return (account.tenant, account.channel) if account else None

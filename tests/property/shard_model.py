"""One shard as a pure model: the tables that delivering touches, and every statement that changes them.

Each method is one commit, made of the pure functions of the domain. The simulator runs workers against it; the
model-based test runs the same calls on real PostgreSQL and compares.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

import msgspec

from tidings.domain import dispatch, doubt, retry
from tidings.domain.delivery import Mark, State, last_word
from tidings.domain.dispatch import Dispatch, Finish, Settlement
from tidings.domain.ids import DeliveryId
from tidings.domain.lanes import Lane
from tidings.domain.outcome import Outcome, Sent, Unsure
from tidings.ports import Marked, Settled

LEASE_S: Final = 60.0
RESERVE_S: Final = 20.0
FENCE_S: Final = 1.0
TAKEN: Final = frozenset({Mark.sent, Mark.delivered, Mark.undelivered})


def may_write(age_s: float) -> bool:
    """The self-fence: only while the mark was issued less than a second ago, on a clock that counts suspend."""
    return age_s < FENCE_S


class Rules(msgspec.Struct, frozen=True):
    """The decisions under test. A planted bug is one of them replaced."""

    claim: Callable[[Dispatch, int, datetime, float], Dispatch] = dispatch.claim
    mark: Callable[[Dispatch, int, int, datetime, float], Dispatch | None] = dispatch.mark
    holds: Callable[[Dispatch, int, int, Settlement], bool] = dispatch.holds
    settle: Callable[[Dispatch, int, int, Settlement, datetime], Dispatch | None] = dispatch.settle
    next_step: Callable[..., Settlement] = retry.next_step
    resolve: Callable[..., doubt.Resolved | doubt.Wait] = doubt.resolve
    may_write: Callable[[float], bool] = may_write
    rise: Callable[[Mark, Mark], Mark] = max
    clock_counts_suspend: bool = True
    clock_steps: bool = False
    resolver_has_its_own_clock: bool = True
    forgets_its_try: bool = False


class Delivery(msgspec.Struct):
    """The wide row: ``mark`` is its last word, ``history`` all of them in order."""

    mark: Mark = Mark.pending
    duplicate_possible: bool = False
    history: list[Mark] = []


class ShardModel:
    """The dispatch, delivery and attempt tables of one shard, with the database's clock."""

    def __init__(self, now: datetime, rules: Rules | None = None) -> None:
        self.now = now
        self.rules = rules or Rules()
        self.rows: dict[DeliveryId, Dispatch] = {}
        self.deliveries: dict[DeliveryId, Delivery] = {}
        self.attempts: dict[tuple[DeliveryId, int], Outcome] = {}
        self.receipts: dict[DeliveryId, dict[int, Mark]] = {}
        self.marks: dict[tuple[DeliveryId, int], datetime] = {}
        self.begun_although_known: list[tuple[DeliveryId, int]] = []

    def accept(self, id_: DeliveryId, home: Lane, due_in_s: float = 0.0) -> None:
        self.deliveries[id_] = Delivery()
        self.rows[id_] = Dispatch(id_, home, home, self.now + timedelta(seconds=due_in_s))

    def wait(self, s: float) -> None:
        self.now += timedelta(seconds=s)

    def due_lanes(self) -> set[Lane]:
        return {row.lane for row in self.rows.values() if row.due_at <= self.now}

    def claim(self, limits: Mapping[Lane, int], token: int) -> list[Dispatch]:
        """Up to a limit of due rows for each lane, oldest first, held for the lease. An expired in-flight row is
        moved to the in-doubt lane and not returned."""
        return [row for lane, n in limits.items() for row in self._claim_lane(lane, n, token)]

    def _claim_lane(self, lane: Lane, limit: int, token: int) -> list[Dispatch]:
        due = [row for row in self.rows.values() if row.lane == lane and row.due_at <= self.now]
        held = []
        for row in sorted(due, key=lambda row: row.due_at)[:limit]:
            after = self.rules.claim(row, token, self.now, LEASE_S)
            self.rows[row.id] = after
            if not (row.state == State.inflight and after.state == State.in_doubt):
                held.append(after)
        return held

    def mark(self, ids: Sequence[DeliveryId], tokens: Sequence[int], providers: Sequence[int]) -> list[Marked]:
        """Notes that a call is about to be made; only what comes back may be sent."""
        marked = []
        for id_, token, provider in zip(ids, tokens, providers, strict=True):
            row = self.rows.get(id_)
            after = row and self.rules.mark(row, token, provider, self.now, RESERVE_S)
            if after:
                self.rows[id_] = after
                self._note_mark(after)
                marked.append(Marked(id_, after.tries))
        return marked

    def _note_mark(self, row: Dispatch) -> None:
        self.marks[row.id, row.tries] = self.now
        if self.deliveries[row.id].mark in TAKEN:
            self.begun_although_known.append((row.id, row.tries))

    def settle(self, rows: Iterable[Settled]) -> list[DeliveryId]:
        """Attempts, deliveries and dispatches in one commit; the ids that were still held."""
        return [settled.id for settled in rows if self._settle_one(settled)]

    def _settle_one(self, settled: Settled) -> bool:
        row = self.rows.get(settled.id)
        n = row.tries if row and self.rules.forgets_its_try else settled.n
        if settled.said is not None:
            self._note_attempt(settled.id, n, settled.said)
        if row is None or not self.rules.holds(row, settled.token, n, settled.to):
            return False
        delivery = self.deliveries[settled.id]
        if isinstance(settled.to, Finish):
            self._raise(delivery, last_word(settled.to.mark, delivery.duplicate_possible))
        delivery.duplicate_possible |= settled.duplicate_possible
        after = self.rules.settle(row, settled.token, n, settled.to, self.now)
        self._put(settled.id, None if delivery.mark in TAKEN else after)
        return True

    def _note_attempt(self, id_: DeliveryId, n: int, said: Outcome) -> None:
        if not isinstance(self.attempts.get((id_, n)), Sent):
            self.attempts[id_, n] = said

    def _put(self, id_: DeliveryId, row: Dispatch | None) -> None:
        if row is None:
            del self.rows[id_]
        else:
            self.rows[id_] = row

    def _raise(self, delivery: Delivery, to: Mark) -> None:
        delivery.mark = self.rules.rise(delivery.mark, to)
        delivery.history.append(delivery.mark)

    def receive(self, id_: DeliveryId, n: int, to: Mark) -> None:
        """A receipt for try ``n``: the status moves forward, and what a provider took has nothing left to do. A call
        that is under way keeps its row, so that its own end settles it."""
        taken = self.receipts.setdefault(id_, {})
        taken[n] = max(to, taken.get(n, to))
        self._raise(self.deliveries[id_], to)
        self._note_attempt(id_, n, Sent("by receipt"))
        row = self.rows.get(id_)
        if row and row.state != State.inflight:
            del self.rows[id_]
            if row.state == State.in_doubt:
                self.attempts.setdefault((id_, row.tries), Unsure("overtaken_by_receipt"))

    def taken(self, id_: DeliveryId) -> Sequence[int]:
        """The tries that receipts report."""
        return sorted(self.receipts.get(id_, ()))

    def look_again(self, ids: Sequence[DeliveryId], tokens: Sequence[int], after_s: Sequence[float]) -> None:
        """Doubts that a look did not settle, due again later."""
        for id_, token, wait_s in zip(ids, tokens, after_s, strict=True):
            row = self.rows.get(id_)
            if row and row.token == token and row.state == State.in_doubt:
                due_at = self.now + timedelta(seconds=wait_s)
                self.rows[id_] = msgspec.structs.replace(row, token=0, due_at=due_at)

    def give_back(self, ids: Sequence[DeliveryId], tokens: Sequence[int]) -> None:
        """Untouched holds, due again at once."""
        for id_, token in zip(ids, tokens, strict=True):
            row = self.rows.get(id_)
            if row and row.token == token and row.state == State.leased:
                claims = max(row.claims - 1, 0)
                self.rows[id_] = msgspec.structs.replace(
                    row, state=State.ready, token=0, claims=claims, due_at=self.now
                )

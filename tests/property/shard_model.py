"""One shard as a pure model: the tables that delivering touches, and every statement that changes them.

Each method is one commit, made of the pure functions of the domain. The simulator runs workers against it; the
model-based test runs the same calls on real PostgreSQL and compares.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

import msgspec

from tidings.domain import dispatch, doubt, retry
from tidings.domain.delivery import Mark, State, last_word
from tidings.domain.dispatch import Dispatch, Finish, Settlement
from tidings.domain.ids import DeliveryId, parse_reference
from tidings.domain.lanes import Lane
from tidings.domain.outcome import Outcome, Receipt, Sent, Unsure
from tidings.ports import Filed, Marked, Settled

LEASE_S: Final = 60.0
RESERVE_S: Final = 20.0
FENCE_S: Final = 1.0
ANOTHER_TRY: Final = Unsure(doubt.ANOTHER_TRY)
TAKEN: Final = frozenset({Mark.sent, Mark.delivered, Mark.undelivered})


def may_write(age_s: float) -> bool:
    """The self-fence: only while the mark was issued less than a second ago, on a clock that counts suspend."""
    return age_s < FENCE_S


class Rules(msgspec.Struct, frozen=True):
    """The decisions under test. A planted bug is one of them replaced."""

    claim: Callable[[Dispatch, int, datetime, float], Dispatch] = dispatch.claim
    mark: Callable[[Dispatch, int, int, datetime, float], Dispatch | None] = dispatch.mark
    holds: Callable[[Dispatch, int, int, Settlement], bool] = dispatch.holds
    settle: Callable[[Dispatch, Settlement, datetime, datetime | None], Dispatch | None] = dispatch.settle
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
        self.receipts: dict[DeliveryId, dict[tuple[int, str], Mark | None]] = {}
        self.marks: dict[tuple[DeliveryId, int], datetime] = {}
        self.begun_although_known: list[tuple[DeliveryId, int]] = []

    def accept(self, id_: DeliveryId, home: Lane, due_in_s: float = 0.0) -> None:
        self.deliveries[id_] = Delivery()
        self.rows[id_] = Dispatch(id_, home, home, self.now + timedelta(seconds=due_in_s))

    def wait(self, ids: Sequence[DeliveryId], waits_s: Sequence[float]) -> None:
        """Each delivery's own time passes: the instants in its row move back."""
        for id_, s in zip(ids, waits_s, strict=True):
            row, by = self.rows.get(id_), timedelta(seconds=s)
            if row:
                started_at = row.started_at and row.started_at - by
                self.rows[id_] = msgspec.structs.replace(row, due_at=row.due_at - by, started_at=started_at)

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
        delivery = self.deliveries[settled.id]
        if row is None or not self.rules.holds(row, settled.token, n, settled.to):
            if delivery.mark == Mark.unknown and settled.to == Finish(Mark.sent):
                self._raise(delivery, Mark.sent)
            return False
        if isinstance(settled.to, Finish):
            self._raise(delivery, last_word(settled.to.mark, delivery.duplicate_possible or delivery.mark in TAKEN))
        after = self.rules.settle(row, settled.to, self.now, settled.expires_at)
        if after is None or delivery.mark in TAKEN:
            self._end(row, about=n)
        else:
            self.rows[settled.id] = after
            delivery.duplicate_possible |= settled.duplicate_possible
        return True

    def _note_attempt(self, id_: DeliveryId, n: int, said: Outcome) -> None:
        if not isinstance(self.attempts.get((id_, n)), Sent):
            self.attempts[id_, n] = said

    def _end(self, row: Dispatch, about: int) -> None:
        """Nothing is left to do. What became of a newer try than that of the news stays open, on record."""
        del self.rows[row.id]
        if row.state in (State.inflight, State.in_doubt) and row.tries != about:
            self.attempts.setdefault((row.id, row.tries), ANOTHER_TRY)

    def _raise(self, delivery: Delivery, to: Mark) -> None:
        delivery.mark = self.rules.rise(delivery.mark, to)
        delivery.history.append(delivery.mark)

    def file(self, rows: Iterable[Receipt]) -> list[Filed]:
        """Receipts whose references name tries of ours."""
        named = [(parse_reference(row.reference), row) for row in rows]
        return [
            self.receive(*reference, Mark[row.status] if row.status else None, row.event_key)
            for reference, row in named
            if reference
        ]

    def receive(self, id_: DeliveryId, n: int, to: Mark | None, event_key: str = "") -> Filed:
        """A receipt for try ``n``, counted once: the status moves forward, and what a provider took has nothing left to
        do. A call that is under way keeps its row, so that its own end settles it. ``to`` None says nothing of the
        status."""
        known, event = self.receipts.setdefault(id_, {}), (n, event_key or str(to))
        new = event not in known
        known.setdefault(event, to)
        resolved = new and to is not None and self._learn(id_, n, to)
        return Filed(known=True, new=new, resolved=resolved)

    def _learn(self, id_: DeliveryId, n: int, to: Mark) -> bool:
        """True when a doubt has ended."""
        self._raise(self.deliveries[id_], to)
        row = self.rows.get(id_)
        if row is None or row.state != State.inflight or row.tries != n:
            self._note_attempt(id_, n, Sent("", "receipt"))
        if row is None or row.state == State.inflight:
            return False
        self._end(row, about=n)
        return row.state == State.in_doubt

    def taken(self, id_: DeliveryId) -> Sequence[int]:
        """The tries that receipts report."""
        return sorted({n for (n, _), to in self.receipts.get(id_, {}).items() if to is not None})

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

    def cancel(self, ids: Sequence[DeliveryId]) -> list[DeliveryId]:
        """What had not left, and now never will."""
        return [id_ for id_ in ids if self._give_up(id_, (State.ready, State.leased), Mark.cancelled)]

    def discard(self, ids: Sequence[DeliveryId]) -> list[DeliveryId]:
        """Dead letters given up for good."""
        return [id_ for id_ in ids if self._give_up(id_, (State.dead,), Mark.dead)]

    def _give_up(self, id_: DeliveryId, states: Collection[State], to: Mark) -> bool:
        row, delivery = self.rows.get(id_), self.deliveries[id_]
        if row is None or row.state not in states:
            return False
        del self.rows[id_]
        self._raise(delivery, last_word(to, delivery.duplicate_possible))
        return True

    def replay(self, ids: Sequence[DeliveryId]) -> list[DeliveryId]:
        """Dead letters back to their lanes, with a fresh schedule."""
        dead = [row for id_ in ids if (row := self.rows.get(id_)) and row.state == State.dead]
        for row in dead:
            self.rows[row.id] = msgspec.structs.replace(
                row, state=State.ready, lane=row.home, due_at=self.now, token=0, claims=0, spent=0, tried=()
            )
        return [row.id for row in dead]

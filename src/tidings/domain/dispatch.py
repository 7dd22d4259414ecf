"""The hot row of a delivery, and every step it can take, as pure functions.

``storage/sql/dispatch.sql`` does the same to many rows at once. A property test runs both side by side, and the
simulator crashes this one at every step.
"""

from datetime import datetime, timedelta

import msgspec

from tidings.domain.delivery import Mark, State
from tidings.domain.ids import DeliveryId
from tidings.domain.lanes import DEAD, IN_DOUBT, Lane


class Dispatch(msgspec.Struct, frozen=True):
    """What is left to do for one delivery: queue, schedule, lease and outbox in one row.

    ``home`` is the lane it belongs to, ``lane`` where it stands now: the same, or a parked one. ``claims`` counts
    holds since the last settlement, ``tries`` marks (it numbers calls and references), ``spent`` what counts against
    the retry schedule.
    """

    id: DeliveryId
    home: Lane
    lane: Lane
    due_at: datetime
    state: State = State.ready
    token: int = 0
    claims: int = 0
    tries: int = 0
    spent: int = 0
    tried: tuple[int, ...] = ()
    provider: int = 0
    started_at: datetime | None = None


class Finish(msgspec.Struct, frozen=True, gc=False):
    """Nothing is left to do; the delivery keeps this status. ``detail`` says more about the reason."""

    mark: Mark
    reason: str | None = None
    detail: str | None = None


class Again(msgspec.Struct, frozen=True, gc=False):
    """Back to its lane, due in ``after_s`` seconds of the database's clock; ``waits`` for an account, it gets its turn
    before that when one is back."""

    after_s: float
    reason: str | None = None
    spent: int = 0
    tried: tuple[int, ...] = ()
    waits: bool = False


class Doubt(msgspec.Struct, frozen=True, gc=False):
    """It may have gone: to the in-doubt lane, looked at in ``after_s`` seconds."""

    reason: str
    after_s: float = 0.0


class Bury(msgspec.Struct, frozen=True, gc=False):
    """To the dead letters, kept with all it needs to be replayed."""

    reason: str
    detail: str | None = None


Settlement = Finish | Again | Doubt | Bury


def claim(row: Dispatch, token: int, now: datetime, lease_s: float) -> Dispatch:
    """A worker's timed hold. A row whose holder died after its mark is never sent again from here: it goes to the
    in-doubt lane, due at once, for the resolver to ask."""
    if row.state == State.inflight:
        return msgspec.structs.replace(row, state=State.in_doubt, lane=IN_DOUBT, due_at=now, token=token)
    state = State.leased if row.state in (State.ready, State.leased) else row.state
    held = now + timedelta(seconds=lease_s)
    return msgspec.structs.replace(row, state=state, token=token, claims=row.claims + 1, due_at=held)


def mark(row: Dispatch, token: int, provider: int, now: datetime, reserve_s: float) -> Dispatch | None:
    """The durable note before the call; None when the hold is lost or nearly over."""
    if row.token != token or row.state != State.leased or row.due_at <= now + timedelta(seconds=reserve_s):
        return None
    return msgspec.structs.replace(row, state=State.inflight, provider=provider, tries=row.tries + 1, started_at=now)


def holds(row: Dispatch, token: int, n: int, to: Settlement) -> bool:
    """May this holder settle the row? A late answer still may when it is the one that the doubt is about; and "sent"
    is the truth whoever says it, and about whichever try."""
    if isinstance(to, Finish) and to.mark == Mark.sent:
        return True
    return row.tries == n and (row.token == token or row.state == State.in_doubt)


def settle(row: Dispatch, to: Settlement, now: datetime, expires_at: datetime | None = None) -> Dispatch | None:
    """The row afterwards, None when it is gone. Call only where ``holds`` is true. Only what waits for its next try is
    due no later than it expires: a doubt has its own time, and a dead letter waits for a person."""
    match to:
        case Finish():
            return None
        case Again(after_s=after_s):
            changed = {"state": State.ready, "lane": row.home, "spent": row.spent + to.spent, "tried": to.tried}
        case Doubt(after_s=after_s):
            changed = {"state": State.in_doubt, "lane": IN_DOUBT}
        case Bury():
            changed, after_s = {"state": State.dead, "lane": DEAD}, 0.0
    due_at = now + timedelta(seconds=after_s)
    if isinstance(to, Again) and expires_at is not None:
        due_at = min(due_at, expires_at)
    return msgspec.structs.replace(row, due_at=due_at, token=0, claims=0, **changed)

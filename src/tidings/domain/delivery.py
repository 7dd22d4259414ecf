"""The status of a delivery, and the rules by which it moves.

Two things are stored. While something is left to do, the dispatch row says where the work stands; once it is done the
dispatch is gone and the delivery row keeps the last word. What callers see is derived from both.
"""

from datetime import datetime
from enum import IntEnum, StrEnum


class Status(StrEnum):
    """What callers see."""

    scheduled = "scheduled"
    queued = "queued"
    sending = "sending"
    in_doubt = "in_doubt"
    dead = "dead"
    unknown = "unknown"
    sent = "sent"
    delivered = "delivered"
    undelivered = "undelivered"
    failed = "failed"
    suppressed = "suppressed"
    cancelled = "cancelled"
    expired = "expired"


class Mark(IntEnum):
    """The stored status of a delivery. The number is a rank: a status only ever moves to a higher one, so receipts
    may come late, repeated and in any order, and the result is the same. Numbers are stored: never change one."""

    pending = 0
    unknown = 5
    sent = 10
    delivered = 20
    undelivered = 30
    failed = 40
    suppressed = 41
    cancelled = 42
    expired = 43
    dead = 44


def last_word(end: Mark, duplicate_possible: bool) -> Mark:
    """What to store at the end of the work. After a try that may have gone and was repeated, a refusal or an expiry
    is not the whole truth: ``unknown``, which a late receipt can still raise."""
    return Mark.unknown if duplicate_possible and end > Mark.undelivered else end


class State(IntEnum):
    """Where the dispatch stands. Numbers are stored: never change one."""

    ready = 0
    leased = 1
    inflight = 2
    in_doubt = 3
    dead = 4


UNFINISHED = frozenset({Status.scheduled, Status.queued, Status.sending, Status.in_doubt})
_BEST_FIRST = (
    Status.delivered,
    Status.sent,
    Status.unknown,
    Status.undelivered,
    Status.failed,
    Status.dead,
    Status.expired,
    Status.cancelled,
    Status.suppressed,
)


def status_of(mark: Mark, state: State | None, send_at: datetime | None, now: datetime) -> Status:
    """The status that callers see. ``state`` is the dispatch's, None without one; ``send_at`` is what was asked."""
    if mark != Mark.pending:
        return Status(mark.name)
    match state:
        case State.ready:
            return Status.scheduled if send_at is not None and send_at > now else Status.queued
        case State.leased | State.inflight:
            return Status.sending
        case State.in_doubt:
            return Status.in_doubt
        case State.dead | None:
            return Status.dead


def overall(statuses: list[Status]) -> Status:
    """A notification's status: unfinished while any delivery is, else the best one."""
    for unfinished in (Status.in_doubt, Status.sending, Status.queued, Status.scheduled):
        if unfinished in statuses:
            return unfinished
    return next(status for status in _BEST_FIRST if status in statuses)

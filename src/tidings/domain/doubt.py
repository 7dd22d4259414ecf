"""What to do about a call that may have gone. Pure."""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Final, Literal

import msgspec

from tidings.domain.catalog import DoubtPolicy
from tidings.domain.claimed import Claimed
from tidings.domain.delivery import Mark
from tidings.domain.dispatch import Again, Bury, Finish, Settlement
from tidings.domain.lanes import Channel
from tidings.domain.outcome import Outcome, Sent, TryNext, Unsure
from tidings.domain.retry import ATTEMPTS_USED

IN_DOUBT: Final = "in_doubt"
UNRESOLVED: Final = "unresolved"
ANOTHER_TRY: Final = "another_try"
_INSTANT_S: Final = 0.001
How = Literal["receipt", "look_up", "policy"]


class Resolved(msgspec.Struct, frozen=True):
    """``duplicate_possible``: it is sent again, or may be replayed, although it may have gone."""

    to: Settlement
    said: Outcome
    how: How
    duplicate_possible: bool = False


class Standing(msgspec.Struct, frozen=True):
    """Calls of one account that are in doubt ``now``: how many, and when the oldest of them was made."""

    channel: Channel
    account: int
    count: int
    oldest_at: datetime
    now: datetime

    @property
    def oldest_s(self) -> float:
        return (self.now - self.oldest_at).total_seconds()


class Learnt(msgspec.Struct, frozen=True):
    """What is known of a doubt: the tries that receipts report as ``taken``, what the provider answered, and for how
    long the resolver has watched on its own clock, because the database's may be set."""

    taken: Collection[int]
    looked_up: Outcome | None
    watched_s: float


class Wait(msgspec.Struct, frozen=True):
    """Nobody can tell yet."""

    after_s: float


class Doubts(msgspec.Struct, frozen=True):
    """``settle_s``: how long receipts and look-ups get before the policy decides; ``look_up_s``: between look-ups."""

    settle_s: float
    look_up_s: float
    schedule_s: Sequence[float]


def resolve(held: Claimed, learnt: Learnt, policy: DoubtPolicy, rules: Doubts) -> Resolved | Wait:
    """Receipts first, then the provider's answer, then, once both had their time, the policy. Never another
    provider's turn."""
    looked_up = learnt.looked_up
    if learnt.taken:
        said = Sent("", "receipt") if held.tries in learnt.taken else Unsure(ANOTHER_TRY, "another try was taken")
        return Resolved(Finish(Mark.sent), said, "receipt")
    if isinstance(looked_up, Sent):
        return Resolved(Finish(Mark.sent), looked_up, "look_up")
    left_s = rules.settle_s - min(_age_s(held.started_at, held.now), learnt.watched_s)
    if left_s > _INSTANT_S:
        return Wait(min(left_s, rules.look_up_s) if looked_up else left_s)
    if isinstance(looked_up, TryNext):
        return Resolved(_once_more(held, rules), looked_up, "look_up")
    said = Unsure(UNRESOLVED, "no receipt and no look-up could tell what became of this call")
    if policy == DoubtPolicy.at_most_once or _expired(held):
        return Resolved(Finish(Mark.unknown, IN_DOUBT), said, "policy")
    return Resolved(_once_more(held, rules), said, "policy", duplicate_possible=True)


def joined(found: Iterable[Standing]) -> Sequence[Standing]:
    """What several shards have found, the oldest first."""
    by_account = dict[tuple[Channel, int], Standing]()
    for one in found:
        known = by_account.get((one.channel, one.account))
        oldest = min(known or one, one, key=lambda each: each.oldest_at)
        count = one.count + (known.count if known else 0)
        by_account[one.channel, one.account] = msgspec.structs.replace(oldest, count=count)
    return sorted(by_account.values(), key=lambda one: one.oldest_at)


def _once_more(held: Claimed, rules: Doubts) -> Again | Bury:
    """Each round through the doubt counts against the schedule, so that it ends. Who was tried stays tried, so that
    the turn is the same provider's: never fail over from in doubt."""
    if held.spent >= len(rules.schedule_s):
        return Bury(ATTEMPTS_USED)
    return Again(0.0, IN_DOUBT, spent=1, tried=held.tried)


def _age_s(started_at: datetime | None, now: datetime) -> float:
    return (now - started_at).total_seconds() if started_at else float("inf")


def _expired(held: Claimed) -> bool:
    return held.expires_at is not None and held.expires_at <= held.now

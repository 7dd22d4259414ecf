"""From what a provider said to what happens next. Pure: the random number is a parameter."""

from collections.abc import Sequence
from typing import Final

import msgspec

from tidings.domain.delivery import Mark
from tidings.domain.dispatch import Again, Bury, Doubt, Finish, Settlement
from tidings.domain.outcome import Fenced, Outcome, Refused, Sent, TryLater, TryNext, Unsure

JITTER: Final = 0.2
ATTEMPTS_USED = "attempts_used"
PROVIDER_REFUSED = "provider_refused"


class Tried(msgspec.Struct, frozen=True, gc=False):
    """What the decision needs to know of the delivery: ``spent`` waits used of the schedule, the providers ``tried``
    in this round, the one that answered, and those of its route that take calls just now."""

    spent: int
    tried: tuple[int, ...]
    provider: int
    route: Sequence[int]


def next_step(said: Outcome, tried: Tried, schedule_s: Sequence[float], luck: float) -> Settlement:
    """``schedule_s`` holds the waits before the second attempt and the later ones, ``luck`` is in [0, 1)."""
    match said:
        case Sent():
            return Finish(Mark.sent)
        case Refused():
            return Finish(Mark.failed, PROVIDER_REFUSED)
        case Unsure(code=code):
            return Doubt(code)
        case Fenced(code=code):
            return Again(0.0, code, tried=tried.tried)
        case TryLater(account=True, code=code, after_s=after_s):
            elsewhere = _others_left(tried, (*tried.tried, tried.provider))
            if elsewhere:
                return Again(0.0, code, tried=tried.tried)
            return Again(after_s or 0.0, code, tried=tried.tried, waits=True)
        case TryLater(code=code, after_s=after_s):
            return later(code, tried.spent, schedule_s, luck, at_least_s=after_s or 0.0)
        case TryNext(code=code):
            round_ = (*tried.tried, tried.provider)
            if _others_left(tried, round_):
                return Again(0.0, code, tried=round_)
            return later(code, tried.spent, schedule_s, luck)


def _others_left(tried: Tried, round_: Sequence[int]) -> bool:
    return any(provider not in round_ for provider in tried.route)


def later(code: str, spent: int, schedule_s: Sequence[float], luck: float, *, at_least_s: float = 0.0) -> Again | Bury:
    """The next round, after the schedule's wait (± 20 %), or the dead letters when the schedule is used up."""
    if spent >= len(schedule_s):
        return Bury(ATTEMPTS_USED)
    wait_s = schedule_s[spent] * (1 - JITTER + 2 * JITTER * luck)
    return Again(max(wait_s, at_least_s), code, spent=1)

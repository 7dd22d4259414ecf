"""A running system on one screen, and what of it needs a person. Pure."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final

import msgspec

from tidings.domain.figures import Buried, LaneFigures, told_unserved, unserved
from tidings.domain.lanes import Channel
from tidings.domain.presence import API, RELAY, Present
from tidings.domain.routing import AccountState

NO_RELAY: Final = (
    "no relay is alive: doubts stay open, partitions are not made, callers are not told; start one with `tidings relay`"
)
_NOBODY_KNOWS: Final = "Valkey does not answer: who is alive, rates and breakers are not known"
_STANDS_S: Final = 10.0
_DOUBT_OVERDUE: Final = 2.0


class AccountOf(msgspec.Struct, frozen=True):
    """An account at a provider, whose it is, and what an operator wants of it."""

    id: int
    name: str
    tenant: str
    channel: Channel
    state: AccountState
    state_since: datetime | None


class ProviderView(msgspec.Struct, frozen=True):
    """How an account is: ``breaker`` as most workers find it, None where nobody knows. ``since`` and ``why`` are of the
    breaker or the rest, else of the operator's order."""

    name: str
    tenant: str
    channel: str
    state: AccountState
    breaker: str | None
    since: datetime | None = None
    why: str | None = None
    workers_open: int = 0
    rests_until: datetime | None = None

    @property
    def well(self) -> bool:
        """It takes every call."""
        return self.state is AccountState.auto and self.breaker in ("closed", None) and self.rests_until is None


class DoubtView(msgspec.Struct, frozen=True):
    """Calls that may have gone: how many, and since when the oldest."""

    open: int
    oldest_s: float


class CauseView(msgspec.Struct, frozen=True):
    """What dead letters have in common. ``provider`` is None where none was asked, or the account is gone."""

    reason: str
    channel: str
    provider: str | None
    count: int


class DeadView(msgspec.Struct, frozen=True):
    """All of them, and the causes of those that were buried last, the most frequent first."""

    count: int
    causes: Sequence[CauseView]


class ShardView(msgspec.Struct, frozen=True):
    """``fault`` says why it cannot be reached."""

    shard: int
    fault: str | None = None


class Overview(msgspec.Struct, frozen=True):
    """What all processes and all shards say just now. ``processes`` is None, and so are the rates, where nobody knows;
    figures leave out the shards that cannot be reached."""

    at: datetime
    accepted_per_s: float | None
    sent_per_s: float | None
    lanes: Sequence[LaneFigures]
    providers: Sequence[ProviderView]
    doubt: DoubtView
    dead_letters: DeadView
    processes: Sequence[Present] | None
    shards: Sequence[ShardView]
    control: str | None
    """Why the control database cannot be reached; None: it can."""


def attention(seen: Overview, settle_s: float) -> Sequence[str]:
    """What needs a person, the worst first, in words. ``settle_s``: when a doubt is to be over."""
    return [*_away(seen), *_missing(seen), *_lanes(seen), *_providers(seen), *_doubt(seen, settle_s), *_dead(seen)]


def causes(buried: Sequence[Buried], names: Mapping[int, str]) -> Sequence[CauseView]:
    """Over all shards, the most frequent first."""
    counted = Counter[tuple[str, str, str | None]]()
    for one in buried:
        counted[one.reason, one.channel.name, names.get(one.account)] += one.count
    return [CauseView(*of, count=count) for of, count in counted.most_common()]


def _away(seen: Overview) -> Iterator[str]:
    for one in seen.shards:
        if one.fault:
            yield f"shard {one.shard} does not answer ({one.fault}): its users wait, and are not counted here"
    if seen.control:
        yield f"the control database does not answer ({seen.control}): nobody learns of changes"
    if seen.processes is None:
        yield _NOBODY_KNOWS


def _missing(seen: Overview) -> Iterator[str]:
    roles = {one.role for one in seen.processes or ()}
    if seen.processes is None:
        return
    if RELAY not in roles:
        yield NO_RELAY
    if API not in roles:
        yield "no API server is alive: nothing is accepted; start one with `tidings api`"


def _lanes(seen: Overview) -> Iterator[str]:
    yield from map(told_unserved, unserved(seen.lanes))
    for one in seen.lanes:
        if one.due and one.workers and one.per_s == 0 and one.oldest_due_s > _STANDS_S:
            yield f"nothing leaves {one.lane}, which {one.workers} serve: {one.due:,} are due; look at its providers"


def _providers(seen: Overview) -> Iterator[str]:
    for one in seen.providers:
        if one.breaker == "open":
            found = f", as {one.workers_open} workers find" if one.workers_open > 1 else ""
            yield f"{one.name} ({one.channel}) takes no calls: {one.why}{found}"
        elif one.state is AccountState.paused:
            yield f"{one.name} ({one.channel}) is paused; `tidings providers resume {one.name}` ends that"


def _doubt(seen: Overview, settle_s: float) -> Iterator[str]:
    if seen.doubt.oldest_s > _DOUBT_OVERDUE * settle_s:
        yield f"{seen.doubt.open:,} in doubt, the oldest for {seen.doubt.oldest_s:,.0f} s: `tidings doubt` says where"


def _dead(seen: Overview) -> Iterator[str]:
    if seen.dead_letters.count:
        yield f"dead letters: {seen.dead_letters.count:,}; `tidings dead-letters list` says why"

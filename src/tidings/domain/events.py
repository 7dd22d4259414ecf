"""What happened, as typed values. Business code emits them, a batch at a time on the hot path; ``runtime.telemetry``
alone turns them into log lines and metrics.

To add one: a class here and a row there. These fields are all that is ever logged of it: numbers, names from our own
registries and codes, never an address, a body, a token or anything else that came from outside.
"""

from collections.abc import Mapping

import msgspec


class Event(msgspec.Struct, frozen=True, gc=False):
    """Something happened that an operator may want to count or read."""


class Started(Event, frozen=True, gc=False):
    """A role is ready to take work."""

    role: str
    pid: int


class Stopping(Event, frozen=True, gc=False):
    """A role was asked to leave and is finishing what it has."""

    role: str


class LoopFailed(Event, frozen=True, gc=False):
    """A loop met a bug and goes on after a pause. ``error`` is the type, ``where`` the frames: no message, which
    could hold values."""

    loop: str
    error: str
    where: str


class NotificationsAccepted(Event, frozen=True, gc=False):
    """One flush was committed: ``count`` new notifications, and keys that were seen before."""

    count: int
    replayed: int
    deduplicated: int


class FlushDone(Event, frozen=True, gc=False):
    """One statement of the acceptor: rows carried and how long it took, commit included."""

    rows: int
    took_s: float


class AcceptUncertain(Event, frozen=True, gc=False):
    """A commit's answer was lost or a wait for the standby was cut off: ``count`` requests were told to repeat."""

    count: int
    reason: str


class BatchClaimed(Event, frozen=True, gc=False):
    """``count`` deliveries of a lane are held."""

    lane: str
    count: int
    took_s: float


class BatchSettled(Event, frozen=True, gc=False):
    """``outcomes`` counts what became of the holds: sent, again, doubt, failed, suppressed, expired, dead…; ``lost``
    how many somebody else had settled. By lane: what has ``left`` it, whatever the end, and what was ``sent``."""

    outcomes: Mapping[str, int]
    left: Mapping[str, int]
    sent: Mapping[str, int]
    lost: int
    took_s: float


class CallsMade(Event, frozen=True, gc=False):
    """Calls to providers: what was answered, by kind, and the time from accept until that was stored."""

    outcomes: Mapping[str, int]
    latencies_s: tuple[float, ...]


class CostsIncurred(Event, frozen=True, gc=False):
    """What calls cost that were taken: in millionths, by channel, kind of provider and currency."""

    costs_micros: Mapping[tuple[str, str, str], int]


class SettleFailed(Event, frozen=True, gc=False):
    """What became of ``count`` holds could not be stored; it is tried again. ``why`` is a type of error."""

    count: int
    why: str


class StorageAway(Event, frozen=True, gc=False):
    """A loop found its database away, full or refusing to write, and waits."""

    loop: str


class HintsTaken(Event, frozen=True, gc=False):
    """Hints came."""

    count: int


class HintsLost(Event, frozen=True, gc=False):
    """Hints could not be published: workers find the rows by looking."""

    count: int


class HintsLagged(Event, frozen=True, gc=False):
    """So many hints about a lane no worker has taken yet."""

    lane: str
    lag: int


class HintsReachable(Event, frozen=True, gc=False):
    """The brokers of the hints answer again, or no longer: "found" or "lost"."""

    state: str


class AdapterFault(Event, frozen=True, gc=False):
    """A provider's adapter raised, which is a bug. ``error`` is the type, ``where`` the frames."""

    provider: int
    error: str
    where: str


class ClaimsGivenBack(Event, frozen=True, gc=False):
    """A worker that leaves returned what it had not touched."""

    count: int


class DoubtOpened(Event, frozen=True, gc=False):
    """Sends that may have gone."""

    count: int
    reason: str


class DoubtResolved(Event, frozen=True, gc=False):
    """``how``: receipt, look_up, policy, or late_answer where the worker of the call had its answer after all."""

    count: int
    how: str


class DoubtsCounted(Event, frozen=True, gc=False):
    """What is in doubt in a shard, by channel and kind of provider: how many, and how long since the oldest call."""

    shard: int
    counts: Mapping[tuple[str, str], int]
    oldest_s: Mapping[tuple[str, str], float]


class LanesCounted(Event, frozen=True, gc=False):
    """What waits in the lanes of a shard: how much, how much of it is due, and for how long the oldest has been."""

    shard: int
    waiting: Mapping[tuple[str], int]
    due: Mapping[tuple[str], int]
    oldest_due_s: Mapping[tuple[str], float]


class LaneServed(Event, frozen=True, gc=False):
    """So many workers serve a lane of all shards, and what is due there is gone in ``drain_s`` as it went lately:
    infinity where nothing leaves."""

    lane: str
    workers: int
    drain_s: float


class ProviderPaused(Event, frozen=True, gc=False):
    """An account rests: a refused key, no credit, or asked to slow down."""

    provider: int
    code: str
    for_s: float


class BreakerChanged(Event, frozen=True, gc=False):
    """The breaker of an account is now ``state``, as this worker sees it. ``why`` is the code of the failure that
    opened it last, ``wait_s`` how long no call goes there."""

    provider: int
    account: str
    state: str
    why: str
    wait_s: float


class LinedUp(Event, frozen=True, gc=False):
    """The turn of so many has come who waited for accounts that are back."""

    channel: str
    count: int


class FailedOver(Event, frozen=True, gc=False):
    """A call that was surely not taken goes to another account of its route."""

    provider: int
    code: str


class ProviderStateSet(Event, frozen=True, gc=False):
    """An operator left an account to its breaker, paused it or forced it."""

    provider: int
    account: str
    state: str


class RendererKilled(Event, frozen=True, gc=False):
    """The render process was ended and started anew: wall, memory or crash."""

    reason: str


class DeadLettered(Event, frozen=True, gc=False):
    """Moved to the dead letters."""

    count: int
    reason: str


class DeadLettersDecided(Event, frozen=True, gc=False):
    """A person decided on dead letters. ``how``: edited, replayed or discarded."""

    count: int
    how: str


class ReceiptsFiled(Event, frozen=True, gc=False):
    """``repeated`` were known already; ``unknown`` named no delivery of ours."""

    provider: int
    new: int
    repeated: int
    unknown: int


class AddressesGone(Event, frozen=True, gc=False):
    """Addresses that take nothing any more, by why: a provider said so in an answer or a receipt."""

    reasons: Mapping[str, int]


class ReceiptForged(Event, frozen=True, gc=False):
    """A webhook call whose signature is not the provider's."""

    provider: int


class CallbacksPosted(Event, frozen=True, gc=False):
    """Calls to callers' systems: ``told``, or why not."""

    outcomes: Mapping[str, int]


class CallbacksDropped(Event, frozen=True, gc=False):
    """What nobody will be told: ``tries_used``, or ``no_receiver`` where the webhook is disabled or deleted."""

    count: int
    why: str


class CallbacksCounted(Event, frozen=True, gc=False):
    """What a shard still has to tell callers' systems: how much (counted up to a hundred thousand), and for how long
    the oldest of it has been due."""

    shard: int
    waiting: int
    oldest_due_s: float


class WebhookDisabled(Event, frozen=True, gc=False):
    """A caller's system is no longer called: it is ``gone``, or was ``failing`` for too long."""

    webhook: int
    why: str


class SweepDone(Event, frozen=True, gc=False):
    """One periodic pass: ``sweep`` names it, ``rows`` is what it changed."""

    sweep: str
    rows: int
    took_s: float


class PartRestarted(Event, frozen=True, gc=False):
    """The supervisor starts a part again that died with ``code`` (negative: a signal)."""

    part: str
    code: int
    wait_s: float

"""The seeded simulator: the real state machine on a simulated clock, among crashes, pauses and lost answers.

``run(seed)`` plays one schedule: a few deliveries, two or three workers, two resolvers, two providers. Everything
random comes from the seed, so that a seed is a bug report. Each actor is a generator that yields when it may next go
on; between any two of its steps its process may be killed, or paused for longer than the lease.
"""

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush
from random import Random
from typing import Final

import msgspec
from shard_model import LEASE_S, Rules, ShardModel
from simulated_provider import Call, SimulatedProvider

from tidings.domain.catalog import DoubtPolicy
from tidings.domain.claimed import Claimed
from tidings.domain.decide import decide
from tidings.domain.delivery import Mark, State
from tidings.domain.dispatch import Again, Dispatch
from tidings.domain.doubt import Doubts, Learnt, Resolved, Wait
from tidings.domain.ids import DeliveryId, NotificationId, Slot, TenantId, UserId, compose
from tidings.domain.lanes import IN_DOUBT, Channel, Class, Lane, lane_of
from tidings.domain.outcome import Fenced, Outcome
from tidings.domain.retry import Tried
from tidings.domain.routing import Through, route
from tidings.ports import Settled

EPOCH: Final = datetime(2026, 1, 1, tzinfo=UTC)
HOME: Final = lane_of(Channel.email, Class.transactional)
SCHEDULES_S: Final = ((60.0, 300.0, 900.0), (60.0, 300.0), (60.0,), ())
SETTLE_S: Final = 30.0
LOOK_UP_S: Final = 10.0
ROUTE: Final = (1, 2)
QUARANTINE_AFTER_CLAIMS: Final = 5
FAULTY_STEPS: Final = 110
STEPS_AT_MOST: Final = 6000
PAUSES_S: Final = (0.5, 3.0, 40.0, 90.0, 200.0, 1000.0)
LEAPS_S: Final = (0.1, 2.0, 25.0, 70.0)
CLOCK_STEPS_S: Final = (-600.0, 90.0, 3600.0)
IDLE: Final = -1.0
SCHEDULES: Final = int(os.environ.get("TIDINGS_SCHEDULES", "3000"))

Life = Iterator[float]


class Plan(msgspec.Struct, frozen=True):
    """What the caller asked for."""

    id: DeliveryId
    policy: DoubtPolicy
    expires_at: datetime | None


class Host(msgspec.Struct):
    """One process. Killed, it is replaced by a fresh one with the same name."""

    name: str
    main: "Callable[[World, Host], Life]"
    lane: Lane
    paused_until_s: float = 0.0
    slept_s: float = 0.0
    actors: "list[Actor]" = []


class Actor(msgspec.Struct):
    name: str
    host: Host
    life: Life
    wake_s: float = 0.0


class World:
    """All that one schedule knows, and the dice."""

    def __init__(self, seed: int, rules: Rules, traced: bool) -> None:
        self.rng = Random(seed)
        self.now_s = 0.0
        self.stepped_s = 0.0
        self.rules = rules
        self.shard = ShardModel(EPOCH, rules)
        self.traced = traced
        self.trace: list[str] = []
        self.tokens = 0
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.sequence = 0
        self.providers = {n: SimulatedProvider(n, self.rng.random() < 0.6, self.rng) for n in (1, 2)}
        self.plans = {plan.id: plan for plan in self._plans()}
        self.doubts = Doubts(SETTLE_S, LOOK_UP_S, self.rng.choice(SCHEDULES_S))
        self.repeats_at: dict[tuple[DeliveryId, int], int] = {}
        self.strayed: list[tuple[DeliveryId, int]] = []
        self.hosts = [Host(f"worker {n}", worker, HOME) for n in range(1, self.rng.choice((3, 4)))]
        self.hosts += [Host(f"resolver {n}", resolver, IN_DOUBT) for n in (1, 2)]
        self.kill_share, self.pause_share = self.rng.choice((0.0, 0.02, 0.06)), self.rng.choice((0.0, 0.05, 0.15))
        self.clock_share = self.rng.choice((0.0, 0.02)) if rules.clock_steps else 0.0

    def _plans(self) -> Iterator[Plan]:
        for number in range(1, self.rng.choice((2, 3, 4, 5))):
            expires_at = EPOCH + timedelta(seconds=self.rng.choice((100, 600))) if self.rng.random() < 0.2 else None
            policy = DoubtPolicy.at_least_once if self.rng.random() < 0.7 else DoubtPolicy.at_most_once
            yield Plan(DeliveryId(compose(Slot(number), number, number)), policy, expires_at)

    def say(self, who: str, what: str, *about: object) -> None:
        if self.traced:
            self.trace.append(f"{self.now_s:9.2f}s  {who:<11} {what}  {' '.join(map(_short, about))}".rstrip())

    def token(self) -> int:
        self.tokens += 1
        return self.tokens

    def boot_s(self, host: Host) -> float:
        return self.now_s - (0.0 if self.rules.clock_counts_suspend else host.slept_s)

    def set_clock(self, now_s: float) -> None:
        self.now_s = now_s
        self.shard.now = EPOCH + timedelta(seconds=now_s + self.stepped_s)

    def at(self, when_s: float, what: Callable[[], None]) -> None:
        self.sequence += 1
        heappush(self.events, (when_s, self.sequence, what))

    def spawn(self, host: Host, name: str, life: Life) -> None:
        host.actors.append(Actor(name, host, life))

    def claimed(self, row: Dispatch) -> Claimed:
        """The row as a worker holds it, with all that was joined in."""
        return Claimed(
            row.id, NotificationId(row.id), row.token, row.lane, row.home, row.claims, row.tries, row.spent, row.tried,
            row.provider, row.started_at, row.state == State.in_doubt, self.shard.now, Slot(0), TenantId(1),
            UserId("user-123"), Channel.email, 1, None, None, b"", "a@example.com", b"", (), None, None, None,
            EPOCH, self.plans[row.id].expires_at,
        )  # fmt: skip

    def settle(self, who: str, settled: Settled) -> bool:
        held = bool(self.shard.settle([settled]))
        self.say(who, "settles" if held else "settles in vain", settled.id, f"try {settled.n}", settled.to)
        return held

    def write(self, who: str, id_: DeliveryId, n: int, provider: int) -> Call:
        """The bytes leave."""
        call = self.providers[provider].call(id_, n)
        self.say(who, f"writes to provider {provider}", id_, f"try {n}:", call.fate.name)
        if self.repeats_at.get((id_, n), provider) != provider:
            self.strayed.append((id_, n))
        if call.fate.takes_after_s == 0.0:
            self._take(call)
        elif call.fate.takes_after_s is not None:
            self.at(self.now_s + call.fate.takes_after_s, lambda: self._take(call))
        return call

    def _take(self, call: Call) -> None:
        provider = self.providers[call.provider]
        provider.take(call, self.now_s)
        self.say(f"provider {call.provider}", "takes", call.id, f"try {call.n}")
        for in_s, word in provider.receipts():
            self.at(self.now_s + in_s, lambda word=word: self._receive(call, word))  # type: ignore[misc]

    def _receive(self, call: Call, word: Mark) -> None:
        self.shard.receive(call.id, call.n, word)
        self.say(f"provider {call.provider}", f"reports {word.name}", call.id, f"try {call.n}")


def worker(world: World, me: Host) -> Life:
    """Claims, decides, marks, and starts one call for each mark; calls run beside each other."""
    while True:
        token = world.token()
        held = world.shard.claim({HOME: world.rng.choice((1, 2, 3))}, token)
        if not held:
            yield IDLE
            continue
        world.say(me.name, f"claims as {token}", *(row.id for row in held))
        decided = [world.claimed(row) for row in held]
        yield world.now_s
        going = [one for one in decided if not _is_stopped(world, me, one)]
        issued_s = world.boot_s(me)
        yield world.now_s
        picked = [_pick(row) for row in going]
        came_back = world.shard.mark([row.id for row in going], [token] * len(going), picked)
        marked = {one.id: one.n for one in came_back}
        world.say(me.name, "marks", *(f"{_short(id_)} try {n}" for id_, n in marked.items()))
        yield world.now_s
        for row, provider in zip(going, picked, strict=True):
            if row.id in marked:
                world.spawn(me, me.name, call(world, me, row, (marked[row.id], provider, issued_s)))


def _is_stopped(world: World, me: Host, held: Claimed) -> bool:
    to = decide(held, QUARANTINE_AFTER_CLAIMS)
    if to is not None:
        world.settle(me.name, Settled(held.id, held.token, held.tries, to))
    return to is not None


def _pick(held: Claimed) -> int:
    through = route(ROUTE, held.tried, {}, held.age_s)
    assert isinstance(through, Through)
    return through.account


def call(world: World, me: Host, row: Claimed, marked: tuple[int, int, float]) -> Life:
    """One call, and what follows from its answer. The clock check and the write are one step: what may happen between
    them is the window that the protocol names and leaves open."""
    n, provider, issued_s = marked
    yield world.now_s
    said: Outcome = Fenced()
    if world.rules.may_write(world.boot_s(me) - issued_s):
        fate = world.write(me.name, row.id, n, provider).fate
        yield world.now_s + fate.answers_after_s
        said = fate.said
    world.say(me.name, "hears", row.id, f"try {n}:", said)
    tried = Tried(row.spent, row.tried, provider, ROUTE)
    to = world.rules.next_step(said, tried, world.doubts.schedule_s, world.rng.random())
    settled = Settled(row.id, row.token, n, to, provider, said)
    yield world.now_s
    world.settle(me.name, settled)
    if world.rng.random() < 0.1:
        yield world.now_s
        world.settle(me.name, settled)


def resolver(world: World, me: Host) -> Life:
    """Looks at what is in doubt: receipts first, then the provider, then the policy."""
    seen_s: dict[tuple[DeliveryId, int], float] = {}
    while True:
        held = world.shard.claim({IN_DOUBT: 3}, world.token())
        if not held:
            yield IDLE
        for row in [world.claimed(row) for row in held]:
            yield world.now_s
            age_s = world.boot_s(me) - seen_s.setdefault((row.id, row.tries), world.boot_s(me))
            taken = world.shard.taken(row.id)
            found = None if taken else world.providers[row.provider].look_up(row.id, row.tries, world.now_s)
            world.say(me.name, "looks up", row.id, f"try {row.tries}: finds", taken or type(found).__name__)
            yield world.now_s
            policy = world.plans[row.id].policy
            watched_s = age_s if world.rules.resolver_has_its_own_clock else float("inf")
            verdict = world.rules.resolve(row, Learnt(taken, found, watched_s), policy, world.doubts)
            _settle_doubt(world, me, row, verdict)


def _settle_doubt(world: World, me: Host, row: Claimed, verdict: Resolved | Wait) -> None:
    if isinstance(verdict, Wait):
        world.shard.look_again([row.id], [row.token], [verdict.after_s])
        return
    flagged = verdict.duplicate_possible
    settled = Settled(row.id, row.token, row.tries, verdict.to, row.provider, verdict.said, duplicate_possible=flagged)
    if world.settle(me.name, settled) and verdict.how == "policy" and isinstance(verdict.to, Again):
        world.repeats_at[row.id, row.tries + 1] = row.provider


class Scheduler:
    """Picks who goes next, and what goes wrong."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.faulty = True
        for plan in world.plans.values():
            world.shard.accept(plan.id, HOME)
        for host in world.hosts:
            self._start(host)

    def _start(self, host: Host) -> None:
        host.actors = []
        self.world.spawn(host, host.name, host.main(self.world, host))

    def run(self) -> bool:
        """True when everything came to rest."""
        for step in range(STEPS_AT_MOST):
            if self.faulty and step >= FAULTY_STEPS:
                self._heal()
            if not self._step():
                return True
        return False

    def _heal(self) -> None:
        self.faulty = False
        self.world.say("scheduler", "stops all faults")
        for provider in self.world.providers.values():
            provider.moody = False

    def _step(self) -> bool:
        world, rng = self.world, self.world.rng
        if self.faulty:
            self._hurt(rng.choice(world.hosts), 0.3)
            if rng.random() < 0.05:
                self._advance_to(world.now_s + rng.choice(LEAPS_S))
        ready = self._ready()
        if ready:
            actor = rng.choice(ready)
            self._resume(actor)
            if self.faulty and actor.wake_s != IDLE:
                self._hurt(actor.host, 1.0)
            return True
        return self._advance()

    def _hurt(self, host: Host, share: float) -> None:
        world = self.world
        dice = world.rng.random() / share
        if dice < world.kill_share:
            world.say("scheduler", f"kills {host.name}")
            self._start(host)
        elif dice < world.kill_share + world.pause_share:
            self._pause(host, world.rng.choice(PAUSES_S))
        elif share == 1.0 and dice > 1 - world.clock_share and world.stepped_s == 0:
            world.stepped_s = world.rng.choice(CLOCK_STEPS_S)
            world.say("scheduler", f"steps the database's clock by {world.stepped_s:.0f} s")
            world.set_clock(world.now_s)

    def _pause(self, host: Host, pause_s: float) -> None:
        now_s = self.world.now_s
        self.world.say("scheduler", f"pauses {host.name} for {pause_s:.1f} s")
        until_s = max(now_s + pause_s, host.paused_until_s)
        host.slept_s += until_s - max(now_s, host.paused_until_s)
        host.paused_until_s = until_s

    def _ready(self) -> list[Actor]:
        now_s, due = self.world.now_s, self.world.shard.due_lanes()
        awake = [a for host in self.world.hosts if host.paused_until_s <= now_s for a in host.actors]
        return [a for a in awake if (a.wake_s <= now_s if a.wake_s != IDLE else a.host.lane in due)]

    def _resume(self, actor: Actor) -> None:
        try:
            actor.wake_s = next(actor.life)
        except StopIteration:
            actor.host.actors.remove(actor)

    def _advance(self) -> bool:
        """To the next instant at which anything can happen; False when nothing ever will."""
        world = self.world
        ends = [row.due_at for row in world.shard.rows.values() if row.state != State.dead]
        instants_s = [(end - EPOCH).total_seconds() - world.stepped_s for end in ends]
        instants_s += [a.wake_s for host in world.hosts for a in host.actors if a.wake_s != IDLE]
        instants_s += [event[0] for event in world.events[:1]]
        if not instants_s:
            return False
        pauses_s = [host.paused_until_s for host in world.hosts]
        self._advance_to(min((s for s in instants_s + pauses_s if s > world.now_s), default=world.now_s + LEASE_S))
        return True

    def _advance_to(self, now_s: float) -> None:
        world = self.world
        while world.events and world.events[0][0] <= now_s:
            at_s, _, what = heappop(world.events)
            world.set_clock(max(at_s, world.now_s))
            what()
        world.set_clock(now_s)


def _short(thing: object) -> str:
    return f"#{thing.int & 0xF}" if hasattr(thing, "int") else str(thing)

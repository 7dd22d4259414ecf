"""One checker for every schedule: what the shard says against what the providers took (D, L, P, A, M and more)."""

from collections import Counter
from collections.abc import Iterable, Iterator

import msgspec
from shard_model import TAKEN, Rules
from simulator import Scheduler, World

from tidings.domain.catalog import DoubtPolicy
from tidings.domain.delivery import Mark, State
from tidings.domain.ids import DeliveryId
from tidings.domain.outcome import Sent, Unsure


class Violation(msgspec.Struct, frozen=True):
    """A seed whose schedule broke a promise; run it again and it breaks the same way."""

    seed: int
    broken: tuple[str, ...]
    trace: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join((f"seed {self.seed} broke:", *self.broken, "steps:", *self.trace))


def play(seed: int, rules: Rules | None = None, *, traced: bool = False) -> tuple[World, tuple[str, ...]]:
    """One schedule to its end, and the promises that it broke."""
    world = World(seed, rules or Rules(), traced)
    rests = Scheduler(world).run()
    broken = [] if rests else ["L: did not come to rest"]
    return world, tuple(broken + sorted(check(world)))


def run(seed: int, rules: Rules | None = None) -> Violation | None:
    """One schedule; None when every promise was kept. A broken one is played again to write down its steps."""
    if not play(seed, rules)[1]:
        return None
    world, broken = play(seed, rules, traced=True)
    return Violation(seed, broken, tuple(world.trace))


def first_violation(seeds: Iterable[int], rules: Rules | None = None) -> Violation | None:
    return next((found for seed in seeds if (found := run(seed, rules))), None)


def check(world: World) -> Iterator[str]:
    taken = Counter((id_, n) for provider in world.providers.values() for id_, n, _ in provider.taken)
    for plan_id in world.plans:
        yield from _check_end(world, plan_id)
        yield from _check_copies(world, plan_id, sum(count for (id_, _), count in taken.items() if id_ == plan_id))
        yield from _check_history(world, plan_id)
    yield from _check_calls(world)
    yield from _check_attempts(world, set(taken))
    for id_, n in world.shard.begun_although_known:
        yield f"D: try {n} of {_name(id_)} was marked although the shard knew that it was sent"
    for id_, n in world.strayed:
        yield f"D: try {n} of {_name(id_)} failed over from in doubt"


def _check_end(world: World, id_: DeliveryId) -> Iterator[str]:
    row, mark = world.shard.rows.get(id_), world.shard.deliveries[id_].mark
    if row is not None and row.state != State.dead:
        yield f"L: {_name(id_)} was left {row.state.name}"
    if row is None and mark == Mark.pending:
        yield f"L: {_name(id_)} is gone without a last word"


def _check_copies(world: World, id_: DeliveryId, copies: int) -> Iterator[str]:
    plan, delivery, repeats = (
        world.plans[id_],
        world.shard.deliveries[id_],
        sum(at[0] == id_ for at in world.repeats_at),
    )
    if copies > 1 + repeats:
        yield f"D: {_name(id_)} was taken {copies} times, the policy repeated {repeats}"
    if copies > 1 and not delivery.duplicate_possible:
        yield f"D: {_name(id_)} was taken {copies} times and does not say so"
    if delivery.duplicate_possible and plan.policy == DoubtPolicy.at_most_once:
        yield f"D: {_name(id_)} was repeated against its policy"
    if copies and delivery.mark not in TAKEN | {Mark.unknown, Mark.pending}:
        yield f"L: {_name(id_)} ended {delivery.mark.name}, and a provider took it"
    if copies and delivery.mark == Mark.pending and not delivery.duplicate_possible:
        yield f"L: {_name(id_)} is among the dead letters, and a provider took it"
    if not copies and delivery.mark in TAKEN:
        yield f"P: {_name(id_)} ended {delivery.mark.name}, and no provider took it"


def _check_history(world: World, id_: DeliveryId) -> Iterator[str]:
    history = world.shard.deliveries[id_].history
    if history != sorted(history):
        yield f"M: {_name(id_)} went {' → '.join(mark.name for mark in history)}"


def _check_calls(world: World) -> Iterator[str]:
    calls = Counter((call.id, call.n) for provider in world.providers.values() for call in provider.calls)
    for (id_, n), count in calls.items():
        if count > 1:
            yield f"A: {count} calls were made as try {n} of {_name(id_)}"
        if (id_, n) not in world.shard.marks:
            yield f"A: try {n} of {_name(id_)} was called without a mark"


def _check_attempts(world: World, taken: set[tuple[DeliveryId, int]]) -> Iterator[str]:
    for id_, n in world.shard.marks.keys() ^ world.shard.attempts.keys():
        yield f"A: try {n} of {_name(id_)} has a mark or an attempt, not both"
    for (id_, n), said in world.shard.attempts.items():
        if not isinstance(said, Unsure) and isinstance(said, Sent) != ((id_, n) in taken):
            yield f"A: try {n} of {_name(id_)} is recorded as {type(said).__name__}, which is not what became of it"


def _name(id_: DeliveryId) -> str:
    return f"#{id_.int & 0xF}"

"""Random steps in the life of a few deliveries, and the model that they are played on.

A step is symbolic ("settle the third hold, as if one try ago"), so that any list of steps can be played, and any
shortened one too. ``Player`` turns it into a call with the names and arguments of ``tidings.ports``: play it on
``ShardModel``, on real SQL, or on both side by side:

    for step in steps(rng, 40):
        order = player.order(step)
        player.note(order, order.on(model))

Claims take everything that is due, because among rows due at one instant the order is free. Waiting means moving the
clock of the model, or the times in the rows of a real shard back.
"""

from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Final

import msgspec

from tidings.domain.delivery import Mark
from tidings.domain.dispatch import Again, Bury, Doubt, Finish, Settlement
from tidings.domain.ids import DeliveryId
from tidings.domain.lanes import IN_DOUBT, Lane
from tidings.domain.outcome import Outcome, Refused, Sent, TryLater, TryNext, Unsure
from tidings.ports import Settled

WAITS_S: Final = (0.0, 5.0, 30.0, 45.0, 61.0, 400.0)
ENDS: Final[tuple[tuple[Settlement, Outcome | None], ...]] = (
    (Finish(Mark.sent), Sent("m")),
    (Finish(Mark.failed, "provider_refused"), Refused("http_400")),
    (Finish(Mark.unknown, "no_answer"), Unsure("no_answer")),
    (Finish(Mark.expired, "expired"), None),
    (Finish(Mark.suppressed, "suppressed"), None),
    (Again(60.0, "http_503", spent=1), TryNext("http_503")),
    (Again(0.0, "http_503", tried=(1,)), TryNext("http_503")),
    (Again(20.0, "http_429", tried=(2,)), TryLater("http_429", account=True)),
    (Doubt("timeout"), Unsure("timeout")),
    (Doubt("reset", 10.0), Unsure("reset")),
    (Bury("attempts_used"), TryNext("http_503")),
)


class ClaimDue(msgspec.Struct, frozen=True):
    parked: bool


class MarkHold(msgspec.Struct, frozen=True):
    hold: int
    provider: int


class SettleHold(msgspec.Struct, frozen=True):
    """``tries_ago`` 0 is the newest try of the hold's delivery."""

    hold: int
    tries_ago: int
    to: Settlement
    said: Outcome | None
    duplicate_possible: bool


class LookAgain(msgspec.Struct, frozen=True):
    hold: int
    after_s: float


class GiveBack(msgspec.Struct, frozen=True):
    hold: int


class Receive(msgspec.Struct, frozen=True):
    delivery: int
    to: Mark


class Wait(msgspec.Struct, frozen=True):
    s: float


Step = ClaimDue | MarkHold | SettleHold | LookAgain | GiveBack | Receive | Wait


def _settle_hold(rng: Random) -> Step:
    to, said = rng.choice(ENDS)
    flagged = isinstance(to, Again) and rng.random() < 0.2
    return SettleHold(rng.randrange(8), rng.choice((0, 0, 0, 1)), to, said, flagged)


_DRAW: Final[Sequence[Callable[[Random], Step]]] = (
    lambda rng: ClaimDue(parked=False),
    lambda rng: ClaimDue(parked=False),
    lambda rng: ClaimDue(parked=True),
    lambda rng: MarkHold(rng.randrange(8), rng.choice((1, 2))),
    lambda rng: MarkHold(rng.randrange(3), rng.choice((1, 2))),
    _settle_hold,
    _settle_hold,
    lambda rng: LookAgain(rng.randrange(8), rng.choice((0.0, 10.0))),
    lambda rng: GiveBack(rng.randrange(8)),
    lambda rng: Receive(rng.randrange(8), rng.choice((Mark.sent, Mark.delivered, Mark.undelivered))),
    lambda rng: Wait(rng.choice(WAITS_S)),
    lambda rng: Wait(rng.choice(WAITS_S)),
)


def steps(rng: Random, length: int) -> list[Step]:
    """The same list for the same dice."""
    return [rng.choice(_DRAW)(rng) for _ in range(length)]


class Order(msgspec.Struct, frozen=True):
    """A call: a method of ``ports.Dispatches`` without its shard, or ``receive`` or ``wait``, which a real shard plays
    in its own way."""

    method: str
    args: tuple[Any, ...]

    def on(self, board: object) -> Any:
        return getattr(board, self.method)(*self.args)


NOTHING: Final = Order("wait", (0.0,))


class Player:
    """Turns steps into calls. Remembers every hold, the newest first, long after it was lost: that is the point."""

    def __init__(self, ids: Sequence[DeliveryId], home: Lane) -> None:
        self.ids = ids
        self.home = home
        self.holds: list[tuple[DeliveryId, int]] = []
        self.tries: dict[DeliveryId, int] = dict.fromkeys(ids, 0)
        self.tokens = 0

    def order(self, step: Step) -> Order:
        match step:
            case ClaimDue(parked=parked):
                self.tokens += 1
                return Order("claim", ({IN_DOUBT if parked else self.home: 100}, self.tokens))
            case Wait(s=s):
                return Order("wait", (s,))
            case Receive(delivery=number, to=to):
                id_ = self.ids[number % len(self.ids)]
                return Order("receive", (id_, self.tries[id_], to)) if self.tries[id_] else NOTHING
            case MarkHold() | SettleHold() | LookAgain() | GiveBack():
                return self._on_hold(step) if self.holds else NOTHING

    def _on_hold(self, step: MarkHold | SettleHold | LookAgain | GiveBack) -> Order:
        id_, token = self.holds[step.hold % len(self.holds)]
        match step:
            case MarkHold(provider=provider):
                return Order("mark", ([id_], [token], [provider]))
            case LookAgain(after_s=after_s):
                return Order("look_again", ([id_], [token], [after_s]))
            case GiveBack():
                return Order("give_back", ([id_], [token]))
            case SettleHold():
                n = max(self.tries[id_] - step.tries_ago, 0)
                return Order("settle", ([_settled(step, id_, token, n)],))

    def note(self, order: Order, seen: Any) -> None:
        """Call it with what the model answered."""
        if order.method == "claim":
            self.holds = [(hold.id, hold.token) for hold in seen] + self.holds
        elif order.method == "mark":
            self.tries.update({marked.id: marked.n for marked in seen})


def _settled(step: SettleHold, id_: DeliveryId, token: int, n: int) -> Settled:
    """A try that was never made has no outcome."""
    said = step.said if n else None
    return Settled(id_, token, n, step.to, provider=1, said=said, duplicate_possible=step.duplicate_possible)

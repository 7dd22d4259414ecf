"""Random rounds in the life of some deliveries, and the calls that they become.

A round is one kind of step for some of the deliveries at once: "settle these, each in its own way, this one as if one
try ago". Each has one step in it, or two receipts. It is symbolic, so that any list of rounds can be played. ``Player``
turns it into one call with the names and arguments of ``tidings.ports``: play it on ``ShardModel``, on real SQL, or on
both side by side:

    for round_ in rounds(rng, 40, deliveries=3, homes=(HOME,)):
        order = player.order(round_)
        player.note(order, order.on(model))

Deliveries do not touch each other, so a hundred of them are a hundred random sequences. Claims take everything that is
due, because among rows due at one instant the order is free. Waiting moves the times in the rows back, for each
delivery as far as it likes; the clock stands still.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, Final

import msgspec

from tidings.domain import ids
from tidings.domain.delivery import Mark
from tidings.domain.dispatch import Again, Bury, Doubt, Finish, Settlement
from tidings.domain.ids import DeliveryId
from tidings.domain.lanes import DEAD, IN_DOUBT, Lane
from tidings.domain.outcome import Outcome, Receipt, Refused, Sent, TryLater, TryNext, Unsure
from tidings.ports import Settled

WAITS_S: Final = (5.0, 30.0, 45.0, 61.0, 400.0)
FOREIGN_TOKEN: Final = -1
LONG_AGO: Final = datetime(2025, 1, 1, tzinfo=UTC)
ENDS: Final[tuple[tuple[Settlement, Outcome | None], ...]] = (
    (Finish(Mark.sent), Sent("m")),
    (Finish(Mark.failed, "provider_refused"), Refused("http_400")),
    (Finish(Mark.unknown, "in_doubt"), Unsure("unresolved")),
    (Finish(Mark.expired, "expired"), None),
    (Finish(Mark.suppressed, "suppressed"), None),
)
OTHERS: Final[tuple[tuple[Settlement, Outcome | None], ...]] = (
    (Again(60.0, "http_503", spent=1), TryNext("http_503")),
    (Again(0.0, "http_503", tried=(1,)), TryNext("http_503")),
    (Again(0.0, "http_503", tried=(1, 2)), TryNext("http_503")),
    (Again(20.0, "http_429", tried=(2,)), TryLater("http_429", account=True)),
    (Again(5.0, "no_route"), None),
    (Doubt("timeout"), Unsure("timeout")),
    (Doubt("reset", 10.0), Unsure("reset")),
    (Bury("attempts_used"), TryNext("http_503")),
    (Bury("template_error", "name is undefined"), None),
)


class Claim(msgspec.Struct, frozen=True):
    lanes: tuple[Lane, ...]


class MarkHold(msgspec.Struct, frozen=True):
    """``hold`` 0 is the newest hold of the delivery, 1 the one before; a hold that it never had has a foreign token."""

    delivery: int
    hold: int
    provider: int


class SettleHold(msgspec.Struct, frozen=True):
    """``tries_ago`` 0 is the newest try of the delivery."""

    delivery: int
    hold: int
    tries_ago: int
    to: Settlement
    said: Outcome | None
    duplicate_possible: bool = False
    expires_in_s: float | None = None


class LookAgain(msgspec.Struct, frozen=True):
    delivery: int
    hold: int
    after_s: float


class GiveBack(msgspec.Struct, frozen=True):
    delivery: int
    hold: int


class Receive(msgspec.Struct, frozen=True):
    """``to`` None: news that says nothing of the status. ``event`` tells two receipts with the same word apart."""

    delivery: int
    tries_ago: int
    to: Mark | None
    event: int = 0


class Cancel(msgspec.Struct, frozen=True):
    delivery: int


class Replay(msgspec.Struct, frozen=True):
    delivery: int


class Discard(msgspec.Struct, frozen=True):
    delivery: int


class Wait(msgspec.Struct, frozen=True):
    delivery: int
    s: float


Step = Claim | MarkHold | SettleHold | LookAgain | GiveBack | Receive | Cancel | Replay | Discard | Wait
Round = Sequence[Step]
Draw = Callable[[Random, int], Step]


def _hold(rng: Random) -> int:
    return rng.choices((0, 1, 2, 99), (85, 7, 3, 5))[0]


def _tries_ago(rng: Random) -> int:
    return rng.choices((0, 1, 2), (80, 15, 5))[0]


def _settle(rng: Random, delivery: int) -> Step:
    to, said = rng.choice(ENDS if rng.random() < 0.25 else OTHERS)
    flagged = not isinstance(to, Finish) and rng.random() < 0.2
    expires_in_s = rng.choice((None, None, -5.0, 3.0, 30.0))
    return SettleHold(delivery, _hold(rng), _tries_ago(rng), to, said, flagged, expires_in_s)


def _receive(rng: Random, delivery: int) -> Step:
    to = rng.choice((Mark.sent, Mark.delivered, Mark.undelivered, None))
    return Receive(delivery, _tries_ago(rng), to, rng.choice((0, 0, 1)))


_DRAW: Final[Sequence[tuple[int, float, Draw]]] = (
    # how often, for which share of the deliveries, which step
    (5, 0.8, lambda rng, delivery: MarkHold(delivery, _hold(rng), rng.choice((1, 2)))),
    (5, 0.6, _settle),
    (1, 0.5, lambda rng, delivery: LookAgain(delivery, _hold(rng), rng.choice((0.0, 10.0)))),
    (1, 0.4, lambda rng, delivery: GiveBack(delivery, _hold(rng))),
    (2, 0.2, _receive),
    (1, 0.05, lambda rng, delivery: Cancel(delivery)),
    (1, 0.7, lambda rng, delivery: Replay(delivery)),
    (1, 0.2, lambda rng, delivery: Discard(delivery)),
    (5, 0.7, lambda rng, delivery: Wait(delivery, rng.choice(WAITS_S))),
)
_WEIGHTS: Final = tuple(weight for weight, _, _ in _DRAW)
_CLAIMS: Final = 0.3


def rounds(rng: Random, length: int, deliveries: int, homes: Sequence[Lane]) -> list[Round]:
    """The same for the same dice."""
    return [_round(rng, deliveries, homes) for _ in range(length)]


def _round(rng: Random, deliveries: int, homes: Sequence[Lane]) -> Round:
    if rng.random() < _CLAIMS:
        return [Claim(_lanes(rng, homes))]
    _, share, draw = rng.choices(_DRAW, _WEIGHTS)[0]
    numbers = [number for number in range(deliveries) if rng.random() < share]
    if draw is _receive:
        numbers += [number for number in numbers if rng.random() < 0.3]
    return [draw(rng, number) for number in numbers]


def _lanes(rng: Random, homes: Sequence[Lane]) -> tuple[Lane, ...]:
    parked = rng.random()
    if parked < 0.3:
        return (IN_DOUBT,)
    return (DEAD,) if parked < 0.35 else tuple(rng.sample(homes, rng.randint(1, len(homes))))


class Order(msgspec.Struct, frozen=True):
    """A call: a method of ``ports.Dispatches`` or ``ports.Receipts`` without its shard, or ``wait``, which a real shard
    plays in its own way. But for a claim, its arguments are columns: an entry of each for every row."""

    method: str
    args: tuple[Any, ...]

    def on(self, board: object) -> Any:
        return getattr(board, self.method)(*self.args)

    def singles(self) -> Sequence["Order"]:
        """The same rows, one call for each."""
        if self.method == "claim":
            return [self]
        return [Order(self.method, tuple([entry] for entry in row)) for row in self.rows()]

    def rows(self) -> Sequence[tuple[Any, ...]]:
        return list(zip(*self.args, strict=True)) if self.method != "claim" else []


NOTHING: Final = Order("wait", ([], []))
_METHODS: Final[Mapping[type[Step], str]] = {
    MarkHold: "mark",
    SettleHold: "settle",
    LookAgain: "look_again",
    GiveBack: "give_back",
    Receive: "file",
    Cancel: "cancel",
    Replay: "replay",
    Discard: "discard",
    Wait: "wait",
}


class Player:
    """Turns rounds into calls. Remembers every hold long after it was lost: that is the point."""

    def __init__(self, ids: Sequence[DeliveryId], now: datetime) -> None:
        self.ids = ids
        self.now = now
        self.tokens: dict[DeliveryId, list[int]] = {id_: [] for id_ in ids}
        self.tries: dict[DeliveryId, int] = dict.fromkeys(ids, 0)
        self.last_token = 0

    def order(self, round_: Round) -> Order:
        if not round_:
            return NOTHING
        first = round_[0]
        if isinstance(first, Claim):
            self.last_token += 1
            return Order("claim", (dict.fromkeys(first.lanes, len(self.ids)), self.last_token))
        rows = list(dict.fromkeys(row for step in round_ if (row := self._row(step)) is not None))
        return Order(_METHODS[type(first)], tuple(map(list, zip(*rows, strict=True)))) if rows else NOTHING

    def _row(self, step: Step) -> tuple[Any, ...] | None:
        match step:
            case Cancel(delivery=number) | Replay(delivery=number) | Discard(delivery=number):
                return (self.ids[number],)
            case Wait(delivery=number, s=s):
                return self.ids[number], s
            case GiveBack():
                return self._held(step)
            case MarkHold(provider=provider):
                return *self._held(step), provider
            case LookAgain(after_s=after_s):
                return *self._held(step), after_s
            case SettleHold():
                settled = self._settled(step)
                return None if settled.n == 0 and settled.to == Finish(Mark.sent) else (settled,)
            case Receive():
                return self._received(step)

    def _held(self, step: MarkHold | SettleHold | LookAgain | GiveBack) -> tuple[DeliveryId, int]:
        tokens = self.tokens[self.ids[step.delivery]]
        return self.ids[step.delivery], tokens[-1 - step.hold] if step.hold < len(tokens) else FOREIGN_TOKEN

    def _settled(self, step: SettleHold) -> Settled:
        """A try that was never made has no outcome, and was not sent."""
        id_, token = self._held(step)
        n = max(self.tries[id_] - step.tries_ago, 0)
        expires_at = self.now + timedelta(seconds=step.expires_in_s) if step.expires_in_s is not None else None
        said, flagged = step.said if n else None, step.duplicate_possible
        return Settled(id_, token, n, step.to, 1, said, expires_at=expires_at, duplicate_possible=flagged)

    def _received(self, step: Receive) -> tuple[Receipt] | None:
        """Nobody reports a try that was never made."""
        id_ = self.ids[step.delivery]
        n = self.tries[id_] - step.tries_ago
        return (receipt(id_, n, step.to, step.event),) if n > 0 else None

    def note(self, order: Order, seen: Any) -> None:
        """Call it with what the model answered."""
        if order.method == "claim":
            for hold in seen:
                self.tokens[hold.id].append(hold.token)
        elif order.method == "mark":
            self.tries.update({marked.id: marked.n for marked in seen})


def receipt(id_: DeliveryId, n: int, to: Mark | None, event: int = 0) -> Receipt:
    word = to.name if to is not None else None
    key = f"{n}-{word}-{event}"
    return Receipt(ids.reference(id_, n), key, word or "open", word, None, f"m-{n}", LONG_AGO, b"{}")

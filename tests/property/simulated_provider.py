"""A simulated provider: what becomes of a call, what it answers, what it says later, and a ledger of what it took."""

from random import Random
from typing import Final

import msgspec

from tidings.domain.delivery import Mark
from tidings.domain.ids import DeliveryId
from tidings.domain.outcome import Outcome, Refused, Sent, TryLater, TryNext, Unsure

CALL_TIMEOUT_S: Final = 10.0
SLOWEST_S: Final = 20.0
INDEX_LAG_S: Final = 5.0
LATEST_RECEIPT_S: Final = 400.0


class Fate(msgspec.Struct, frozen=True):
    """``takes_after_s`` None: never taken. ``said`` is what the caller sees, ``answers_after_s`` when."""

    name: str
    takes_after_s: float | None
    said: Outcome
    answers_after_s: float = 0.05


HEALTHY: Final = Fate("taken", 0.0, Sent("m"))
FATES: Final = (
    HEALTHY,
    HEALTHY,
    Fate("taken late, answered late", 5.0, Sent("m"), 6.0),
    Fate("taken, answer lost", 0.0, Unsure("timeout"), CALL_TIMEOUT_S),
    Fate("taken, then reset", 0.0, Unsure("reset")),
    Fate("taken, then 500", 0.0, Unsure("http_500")),
    Fate("taken after we gave up", SLOWEST_S, Unsure("timeout"), CALL_TIMEOUT_S),
    Fate("lost on the way", None, Unsure("timeout"), CALL_TIMEOUT_S),
    Fate("reset before it was read", None, Unsure("reset")),
    Fate("connection refused", None, TryNext("connect_refused"), 0.0),
    Fate("503", None, TryNext("http_503")),
    Fate("slow 503", None, TryNext("http_503"), 8.0),
    Fate("429", None, TryLater("http_429", after_s=20.0, account=True)),
    Fate("401", None, TryLater("http_401", account=True, after_s=30.0)),
    Fate("try later", None, TryLater("busy", after_s=5.0)),
    Fate("slow try later", None, TryLater("busy"), 9.0),
    Fate("refused", None, Refused("http_400")),
)


class Call(msgspec.Struct, frozen=True):
    id: DeliveryId
    n: int
    provider: int
    fate: Fate


class SimulatedProvider:
    """One account. ``answers_look_ups`` says whether it can be asked what became of a call."""

    def __init__(self, number: int, answers_look_ups: bool, rng: Random) -> None:
        self.number = number
        self.answers_look_ups = answers_look_ups
        self.rng = rng
        self.moody = True
        self.fates = rng.sample(FATES, rng.choice((2, 6, len(FATES))))
        self.calls: list[Call] = []
        self.taken: list[tuple[DeliveryId, int, float]] = []

    def call(self, id_: DeliveryId, n: int) -> Call:
        fate = self.rng.choice(self.fates) if self.moody else HEALTHY
        call = Call(id_, n, self.number, fate)
        self.calls.append(call)
        return call

    def take(self, call: Call, now_s: float) -> None:
        self.taken.append((call.id, call.n, now_s))

    def receipts(self) -> list[tuple[float, Mark]]:
        """``(in seconds, status)`` for one message taken: early, late, repeated, shuffled or lost."""
        last = self.rng.choice((Mark.delivered, Mark.delivered, Mark.undelivered))
        words = self.rng.choice(((), (last,), (Mark.sent, last), (Mark.sent, last, last)))
        return [
            (self.rng.choice((0.0, 0.02, 1.0, 70.0, self.rng.uniform(0, LATEST_RECEIPT_S))), word) for word in words
        ]

    def look_up(self, id_: DeliveryId, n: int, now_s: float) -> Outcome | None:
        """What the provider's own index shows, which lags; None where it cannot tell, or just now cannot."""
        if not self.answers_look_ups or (self.moody and self.rng.random() < 0.2):
            return None
        shown = any(d == id_ and k == n and at_s <= now_s - INDEX_LAG_S for d, k, at_s in self.taken)
        return Sent("m") if shown else TryNext("not_found")

"""Which account a delivery goes through. Pure; the health of accounts comes in as a value."""

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from itertools import groupby
from math import log
from typing import Final

import msgspec
from xxhash import xxh3_64_intdigest

from tidings.domain.ids import DeliveryId

_LOOKS_AGAIN_S: Final = (0.5, 60.0)
_DRAWS: Final = 1 << 64


class AccountState(StrEnum):
    """What an operator wants of an account: left to its breaker, given no calls, or used whatever its breaker says."""

    auto = "auto"
    paused = "paused"
    forced = "forced"


class Why(StrEnum):
    """Why a delivery waits for an account: the channel has none; all rest, or were paused; the breakers of all are
    open; one is only just back, and takes first what has waited for longer; or its turn there is still to come."""

    no_route = "no_route"
    provider_paused = "provider_paused"
    provider_open = "provider_open"
    provider_backlog = "provider_backlog"
    provider_paced = "provider_paced"


class Hop(msgspec.Struct, frozen=True, gc=False):
    """A place in a route. Neighbours with weights are of equal rank: which of them comes first, each delivery draws
    for itself, always the same."""

    account: int
    weight: int | None = None


class Order(msgspec.Struct, frozen=True):
    """Accounts in the order in which they are tried; ``drawn`` says that it is another one for each delivery."""

    hops: tuple[Hop, ...]
    accounts: tuple[int, ...]
    drawn: bool

    @classmethod
    def of(cls, hops: Sequence[Hop]) -> "Order":
        return cls(tuple(hops), tuple(hop.account for hop in hops), any(hop.weight is not None for hop in hops))

    def for_one(self, delivery: DeliveryId) -> Sequence[int]:
        return self.accounts if not self.drawn else tuple(_drawn(self.hops, delivery))


class Rule(msgspec.Struct, frozen=True):
    """An order of its own for a category, by its number, or for a country, by its two letters, or for both at once."""

    order: Order
    category: int | None = None
    country: str | None = None


class Route(msgspec.Struct, frozen=True):
    """A channel's: the first rule that fits, else ``order``. ``by_country``: some rule asks for the country."""

    order: Order
    rules: tuple[Rule, ...] = ()
    by_country: bool = False

    @classmethod
    def of(cls, hops: Sequence[Hop], rules: Sequence[Rule] = ()) -> "Route":
        return cls(Order.of(hops), tuple(rules), any(rule.country is not None for rule in rules))

    def order_for(self, category: int, country: str | None) -> Order:
        for rule in self.rules:
            if rule.category in (None, category) and rule.country in (None, country):
                return rule.order
        return self.order


class Gate(msgspec.Struct, frozen=True, gc=False):
    """What stands between deliveries and an account, and why: the next one may pass in ``wait_s``, now if that is 0."""

    wait_s: float
    why: Why


class Through(msgspec.Struct, frozen=True, gc=False):
    """Send it through this account."""

    account: int


class Wait(msgspec.Struct, frozen=True, gc=False):
    """No account takes it now. ``account`` is the one whose turn comes first, 0 where the route is empty."""

    account: int
    after_s: float
    why: Why


def open_to(accounts: Sequence[int], provider: int, *, duplicate_possible: bool) -> Sequence[int]:
    """The part of a route that a delivery may take. One that may have gone already stays with the provider that may
    have taken it, so that nobody hears the same from two senders."""
    return (provider,) if duplicate_possible and provider in accounts else accounts


def route(accounts: Sequence[int], tried: Sequence[int], gates: Mapping[int, Gate], age_s: float) -> Through | Wait:
    """The first account that was not tried in this round and lets a delivery pass.

    ``gates`` holds those accounts alone that do not simply let everything pass. ``age_s`` is the notification's: a
    route may have been made a moment before it, so a young one looks again soon. Waiting uses up no attempt.
    """
    left = [account for account in accounts if account not in tried] or accounts
    if not left:
        return Wait(0, looks_again_s(age_s), Why.no_route)
    for account in left:
        if account not in gates or gates[account].wait_s <= 0:
            return Through(account)
    soonest = min(left, key=lambda account: gates[account].wait_s)
    return Wait(soonest, gates[soonest].wait_s, gates[soonest].why)


def looks_again_s(waited_s: float) -> float:
    """When to look again at what nobody can tell the end of: after as long as it has lasted, within bounds."""
    soon_s, late_s = _LOOKS_AGAIN_S
    return min(max(waited_s, soon_s), late_s)


def _drawn(hops: Sequence[Hop], delivery: DeliveryId) -> Iterator[int]:
    for weighed, rank in groupby(hops, lambda hop: hop.weight is not None):
        one_rank = list(rank)
        if weighed and len(one_rank) > 1:
            one_rank.sort(key=lambda hop: _draw(hop, delivery))
        yield from (hop.account for hop in one_rank)


def _draw(hop: Hop, delivery: DeliveryId) -> float:
    """The least comes first: with exponential draws, each does so in proportion to its weight. An account that joins or
    leaves moves no delivery between the others."""
    drawn = (xxh3_64_intdigest(delivery.bytes, seed=hop.account) + 1) / _DRAWS
    return -log(drawn) / (hop.weight or 1)

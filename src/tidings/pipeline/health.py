"""Health: what one worker knows of the accounts that it calls, and so which of them take calls just now.

An account that is well costs a look-up in an empty table. The others have a breaker that is not closed, or rest because
they asked for it or refused the key, or are only just back: then what waited for them comes first.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from math import inf
from typing import Final

from msgspec.structs import replace

from tidings.domain.breaker import Breaker, BreakerRules, BreakerState
from tidings.domain.catalog import Catalog
from tidings.domain.claimed import Claimed
from tidings.domain.dispatch import Again
from tidings.domain.events import BreakerChanged, ProviderPaused
from tidings.domain.ids import DeliveryId
from tidings.domain.lanes import class_of
from tidings.domain.line import END, NOBODY
from tidings.domain.outcome import Fenced, Outcome, TryLater, TryNext, Unsure
from tidings.domain.routing import AccountState, Gate, Through, Wait, Why, route
from tidings.pipeline.backlog import Backlog, Queue, queue_of
from tidings.ports import Catalogs, Clock, Emit, Seen

_LONG_REST_S: Final = 5.0
_PROBE_ANSWERS_S: Final = 0.2
_AFTER_OTHERS_S: Final = 0.5
_RARELY_S: Final = (600.0, 7200.0)


@dataclass
class _Account:
    """Instants are of the boot-time clock. It rests until ``rests_until_s``, as far as it told this worker itself until
    ``asked_until_s``. ``away_s`` is since when it takes nothing for longer than a moment, ``back_s`` since when it does
    so again. ``answered_s`` is when it last answered; ``waited_for``: somebody may wait for it; ``probe`` is the
    last delivery that tried it."""

    breaker: Breaker
    rests_until_s: float = 0.0
    asked_until_s: float = 0.0
    rests_why: str = ""
    away_s: float | None = None
    back_s: float | None = None
    waited_for: bool = False
    answered_s: float = -inf
    probe: DeliveryId = NOBODY


@dataclass
class Health:
    """``pause_s``: how long an account rests that does not say for how long."""

    catalogs: Catalogs
    clock: Clock
    emit: Emit
    rules: BreakerRules
    pause_s: float
    backlog: Backlog
    _accounts: dict[int, _Account] = field(default_factory=dict, init=False)
    _unwell: dict[int, _Account] = field(default_factory=dict, init=False)
    _waited_for: frozenset[int] = field(default=frozenset(), init=False)
    _routed_by: Catalog | None = field(default=None, init=False)

    # before a call

    def route(self, accounts: Sequence[int], held: Claimed) -> Through | Again:
        """The account that takes this delivery now, or when to look again."""
        gates = self._gates(accounts, held) if self._unwell or self.backlog or self.catalogs().ordered else _NONE
        to = route(accounts, held.tried, gates, held.age_s)
        if isinstance(to, Through):
            if to.account in gates:
                self._pass(to.account, held)
            return to
        for number in accounts:
            if number in self._unwell:
                self._unwell[number].waited_for = True
            if line := self.backlog.line(number):
                line.came()
        return Again(to.after_s, to.why, tried=held.tried, waits=to.why is not Why.no_route)

    def is_shut(self, account: int) -> bool:
        """It takes no calls. One that has its probe under way, or gets its work back bit by bit, is not shut."""
        why, known = self._why_shut(account), self._unwell.get(account)
        probed = known is not None and known.breaker.state is BreakerState.half_open
        return why is not None and not (why is Why.provider_open and probed)

    def outage(self, accounts: Sequence[int], held: Claimed) -> Again | None:
        """When to try again what was just surely not taken, if no account takes calls any more, but for probes: then
        that was the outage's fault, and costs the delivery nothing."""
        if any(self._why_shut(account) is None for account in accounts):
            return None
        to = route(accounts, (), self._gates(accounts, held), held.age_s)
        return Again(to.after_s if isinstance(to, Wait) else _AFTER_OTHERS_S, Why.provider_open, waits=True)

    # after a call

    def heard(self, number: int, said: Outcome, began_s: float) -> Outcome:
        """Takes note of what a call said that began then, and gives it back, with the time of the rest filled in."""
        if isinstance(said, TryLater) and said.account:
            said = self._rest(number, said)
        elif isinstance(said, Fenced | TryLater):
            return said
        failed = said.code if isinstance(said, TryNext | Unsure) else None
        account, now_s = self._account(number), self.clock.boottime_s()
        if failed is None:
            account.answered_s = now_s
        if account.breaker.heard(failed, began_s, now_s):
            self._unwell[number] = account
            self._look(number, now_s)
            self._tell(number, account)
        return said

    # what others see, and what they have seen

    def seen(self) -> Sequence[Seen]:
        """The accounts that are not as they should be."""
        numbers = {*self._unwell, *self.backlog.accounts()} & self.catalogs().accounts.keys()
        shown = [self._seen(number, self._account(number)) for number in sorted(numbers)]
        return [one for one in shown if one.since or one.rests_until or one.place or one.waited_for]

    def learn(self, reports: Sequence[Sequence[Seen]]) -> None:
        """What an account told another worker to wait holds for us too. Only a hint: it never shortens a rest. Where
        it has come back for another since we last found it away, it may be tried at once."""
        now_s = self.clock.boottime_s()
        for one in (one for report in reports for one in report):
            if one.rests_s > 0:
                self._rest_until(one.account, now_s + one.rests_s, one.why)
            known = self._unwell.get(one.account)
            if known and one.back_for_s is not None and now_s - one.back_for_s > known.breaker.since_s:
                known.breaker.hurry(now_s)
        self._waited_for = frozenset(one.account for report in reports for one in report if one.waited_for)
        self.backlog.learn(reports)

    # what comes back to accounts

    def look(self) -> None:
        """Notes which accounts are away and which are back. What waits may also go by another one of a new route."""
        catalog, now_s = self.catalogs(), self.clock.boottime_s()
        for number in {*self._unwell, *catalog.ordered} & catalog.accounts.keys():
            self._look(number, now_s)
        before, self._routed_by = self._routed_by, catalog
        if before and before is not catalog:
            waiting = [queue_of(catalog, number) for number, one in self._unwell.items() if one.waited_for]
            self._let_in(one for one in waiting if one and before.routes.get(one) != catalog.routes.get(one))

    def found_waiting(self, queues: Collection[Queue]) -> None:
        """Who waits there has nobody who would call him, unless for one of the accounts that are away."""
        catalog, alone = self.catalogs(), list[Queue]()
        members = defaultdict[Queue | None, list[int]](list)
        for number in catalog.accounts if queues else ():
            members[queue_of(catalog, number)].append(number)
        for queue in queues:
            away = [one for number in members[queue] if (one := self._unwell.get(number)) and one.away_s is not None]
            if len(away) == len(members[queue]):
                for one in away:
                    one.waited_for = True
            elif not any(one.waited_for for one in away) and not any(map(self._waits_elsewhere, members[queue])):
                alone.append(queue)
        self._let_in(alone)

    def to_probe(self) -> Mapping[int, tuple[Queue, DeliveryId]]:
        """The accounts for which somebody is to be called forward, who is behind the last that tried them. While a line
        moves on, somebody comes by himself."""
        now_s, catalog = self.clock.boottime_s(), self.catalogs()
        return {
            number: (queue, account.probe)
            for number, account in self._unwell.items()
            if _wants_probe(account, now_s) and self._shut(number, account, now_s) is Why.provider_open
            if (queue := queue_of(catalog, number)) and not self.backlog.stands(queue)
        }

    def called(self, number: int, *, found: bool) -> None:
        """Whether anybody was behind the last one. If not, the next look is from the front; and if nobody is there
        either, whoever comes first may try."""
        account = self._account(number)
        if not found:
            account.waited_for, account.probe = account.probe != NOBODY, NOBODY

    def _waits_elsewhere(self, number: int) -> bool:
        """Somebody waits for it at another worker, and nothing here says that he does so in vain."""
        known = self._accounts.get(number)
        answered_s = known.answered_s if known else -inf
        return number in self._waited_for and self.clock.boottime_s() - answered_s > self.rules.window_s

    def _let_in(self, queues: Iterable[Queue]) -> None:
        """Who waits there may go by the accounts that are not away; nobody who comes need wait for him, unless there
        are many."""
        wanted, catalog = {queue for queue in queues if not self.backlog.stands(queue)}, self.catalogs()
        away = {number for number, one in self._unwell.items() if one.away_s is not None}
        if wanted:
            self.backlog.begin([one for one in catalog.accounts.keys() - away if queue_of(catalog, one) in wanted], END)

    # how an account is

    def _gates(self, accounts: Sequence[int], held: Claimed) -> Mapping[int, Gate]:
        gates = {account: self._gate(account, held) for account in accounts}
        return {account: gate for account, gate in gates.items() if gate}

    def _gate(self, number: int, held: Claimed) -> Gate | None:
        now_s = self.clock.boottime_s()
        account = self._look(number, now_s)
        shut = self._shut(number, account, now_s) if account else None
        place = self.backlog.place(number)
        if account and shut is Why.provider_open:
            wait_s = self._probe_s(account, held, now_s)
            if wait_s > _AFTER_OTHERS_S and _has_turn(held) and place is not None:
                return Gate(_AFTER_OTHERS_S, Why.provider_paced)
            return Gate(wait_s, shut)
        if account and shut:
            return Gate(account.rests_until_s - now_s if account.away_s is None else _rarely_s(held), shut)
        if place is None:
            return None
        waits = not _has_turn(held) and (class_of(held.home), held.id) > place
        return Gate(_rarely_s(held) if waits else 0.0, Why.provider_backlog)

    def _probe_s(self, account: _Account, held: Claimed, now_s: float) -> float:
        """One that waits is called forward to try the account. Only where nobody waits, whoever comes first does."""
        wait_s = account.breaker.wait_s(now_s)
        if account.breaker.state is BreakerState.half_open:
            return min(wait_s, _PROBE_ANSWERS_S)
        may_try = _has_turn(held) or not account.waited_for
        return 0.0 if may_try and wait_s <= 0 else _rarely_s(held)

    def _look(self, number: int, now_s: float) -> _Account | None:
        """The account, None if it is well. Notes that it is away, or back."""
        account = self._unwell.get(number)
        paused = self._ordered(number) is AccountState.paused
        if account is None and not paused:
            return None
        account = account or self._account(number)
        shut = self._shut(number, account, now_s)
        if paused or shut is Why.provider_open:
            self._leave(number, account)
        elif account.away_s is not None and not shut:
            account.away_s, account.back_s, account.waited_for = None, now_s, False
            self.backlog.begin([number])
        if shut or account.breaker.state is not BreakerState.closed:
            return account
        self._unwell.pop(number, None)
        return None

    def _why_shut(self, account: int) -> Why | None:
        known = self._unwell.get(account)
        if known is None:
            return Why.provider_paused if self._ordered(account) is AccountState.paused else None
        return self._shut(account, known, self.clock.boottime_s())

    def _shut(self, number: int, account: _Account, now_s: float) -> Why | None:
        """Why it takes nothing, or nothing but a probe."""
        ordered = self._ordered(number)
        if ordered is AccountState.paused or account.rests_until_s > now_s:
            return Why.provider_paused
        closed = account.breaker.state is BreakerState.closed or ordered is AccountState.forced
        return None if closed else Why.provider_open

    def _leave(self, number: int, account: _Account) -> None:
        self._unwell[number] = account
        if account.away_s is None:
            account.away_s, account.back_s, account.probe = self.clock.boottime_s(), None, NOBODY
            account.waited_for = self.backlog.place(number) is not None
            self.backlog.end(number)

    def _pass(self, number: int, held: Claimed) -> None:
        line = self.backlog.line(number)
        if line and _has_turn(held):
            line.left()
        account = self._account(number)
        if self._ordered(number) is AccountState.forced or account.breaker.state is BreakerState.closed:
            return
        account.probe = held.id
        if account.breaker.passed(self.clock.boottime_s()):
            self._tell(number, account)

    def _rest(self, number: int, said: TryLater) -> TryLater:
        rest_s = said.after_s if said.after_s is not None else self.pause_s
        until_s = self.clock.boottime_s() + rest_s
        account = self._account(number)
        account.asked_until_s = max(account.asked_until_s, until_s)
        if self._rest_until(number, until_s, said.code):
            self.emit(ProviderPaused(number, said.code, rest_s))
        return replace(said, after_s=rest_s)

    def _rest_until(self, number: int, until_s: float, why: str) -> bool:
        account, now_s = self._account(number), self.clock.boottime_s()
        if until_s <= max(account.rests_until_s, now_s):
            return False
        account.rests_until_s, account.rests_why = until_s, why
        self._unwell[number] = account
        if until_s - now_s >= _LONG_REST_S:
            self._leave(number, account)
        return True

    def _ordered(self, number: int) -> AccountState:
        ordered = self.catalogs().ordered.get(number)
        return ordered.state if ordered else AccountState.auto

    def _account(self, number: int) -> _Account:
        account = self._accounts.get(number)
        if account is None:
            account = self._accounts[number] = _Account(Breaker(self.rules))
        return account

    def _tell(self, number: int, account: _Account) -> None:
        named = self.catalogs().accounts.get(number)
        state, wait_s = account.breaker.state, account.breaker.wait_s(self.clock.boottime_s())
        self.emit(BreakerChanged(number, named.name if named else "", state, account.breaker.why, wait_s))

    def _seen(self, number: int, account: _Account) -> Seen:
        """For people instants of the wall's clock, for other workers durations: their clocks may differ."""
        now_s, now = self.clock.boottime_s(), self.clock.now()
        rests_s, breaker, line = account.rests_until_s - now_s, account.breaker, self.backlog.line(number)
        broken = breaker.state is not BreakerState.closed
        return Seen(
            account=number,
            breaker=breaker.state,
            since=now - timedelta(seconds=now_s - breaker.since_s) if broken else None,
            why=breaker.why if broken else account.rests_why,
            rests_until=now + timedelta(seconds=rests_s) if rests_s > 0 else None,
            rests_s=max(account.asked_until_s - now_s, 0.0),
            waited_for=account.waited_for and account.away_s is not None,
            back_for_s=now_s - account.back_s if account.back_s is not None else None,
            place=line.place if line else None,
            rank=self.backlog.rank,
        )


_NONE: Final[Mapping[int, Gate]] = {}


def _has_turn(held: Claimed) -> bool:
    return held.reason == Why.provider_paced


def _wants_probe(account: _Account, now_s: float) -> bool:
    breaker = account.breaker
    return account.waited_for and breaker.state is BreakerState.open and breaker.wait_s(now_s) <= 0


def _rarely_s(held: Claimed) -> float:
    """When to look again at one that is called forward long before: after as long as it is old, or up to three times
    as long, so that all do not come at the same time."""
    least_s, most_s = _RARELY_S
    return min(max(held.age_s, least_s), most_s) * (1 + held.id.int % 20_000 / 10_000)

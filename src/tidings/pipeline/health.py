"""Health: what one worker knows of the accounts that it calls, and so which of them take calls just now.

An account that is well costs a look-up in an empty table. The others have a breaker that is not closed, or rest because
they asked for it or refused the key, or are only just back: then what waited for them stands in a line.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from math import inf
from typing import Final, TypeAlias

from msgspec.structs import replace

from tidings.domain.breaker import Breaker, BreakerRules, BreakerState
from tidings.domain.catalog import Catalog
from tidings.domain.claimed import Claimed
from tidings.domain.dispatch import Again
from tidings.domain.events import BreakerChanged, ProviderPaused
from tidings.domain.ids import DeliveryId, TenantId, first_at
from tidings.domain.lanes import Channel, class_of
from tidings.domain.line import HEAD_S, Line
from tidings.domain.outcome import Fenced, Outcome, TryLater, TryNext, Unsure
from tidings.domain.routing import AccountState, Gate, Through, Wait, Why, route
from tidings.ports import Catalogs, Clock, Emit, Seen

Queue: TypeAlias = tuple[TenantId, Channel]
"""Those who wait for the same accounts."""

NOBODY: Final = DeliveryId(first_at(0))
_LONG_REST_S: Final = 5.0
_PROBE_ANSWERS_S: Final = 0.2
_AFTER_OTHERS_S: Final = 1.0
_BETWEEN_TURNS_S: Final = 0.1
_RARELY_S: Final = (600, 1800)


@dataclass
class _Account:
    """``rests_until_s`` is an instant of the boot-time clock. ``away_at`` is since when it takes nothing for longer
    than a moment, ``back_at`` when it was last back, here or for another worker. ``waited_for``: somebody may wait for
    it; ``probe`` is the last delivery that tried it."""

    breaker: Breaker
    rests_until_s: float = 0.0
    rests_why: str = ""
    away_at: datetime | None = None
    back_at: datetime | None = None
    waited_for: bool = False
    probe: DeliveryId = NOBODY
    line: Line | None = None


@dataclass
class Health:
    """``pause_s``: how long an account rests that does not say for how long. ``drain_per_s``: the rate at which what
    waited comes back to one that was away, from all workers together; 0 for at once."""

    catalogs: Catalogs
    clock: Clock
    emit: Emit
    rules: BreakerRules
    pause_s: float
    drain_per_s: float
    _accounts: dict[int, _Account] = field(default_factory=dict, init=False)
    _unwell: dict[int, _Account] = field(default_factory=dict, init=False)
    _routed_by: Catalog | None = field(default=None, init=False)

    # before a call

    def route(self, accounts: Sequence[int], held: Claimed) -> Through | Again:
        """The account that takes this delivery now, or when to look again."""
        gates = self._gates(accounts, held) if self._unwell or self.catalogs().ordered else _NONE
        to = route(accounts, held.tried, gates, held.age_s)
        if isinstance(to, Through):
            if to.account in gates:
                self._pass(to.account, held.id)
            return to
        for account in (self._unwell[number] for number in accounts if number in self._unwell):
            account.waited_for = True
            if account.line:
                account.line.came()
        return Again(to.after_s, to.why, tried=held.tried, waits=to.why is not Why.no_route)

    def is_shut(self, account: int) -> bool:
        """It takes no calls. One that has its probe under way, or gets its work back bit by bit, is not shut."""
        why, known = self._why_shut(account), self._unwell.get(account)
        probed = known is not None and known.breaker.state is BreakerState.half_open
        return why is not None and not (why is Why.provider_open and probed)

    def _why_shut(self, account: int) -> Why | None:
        if not self._unwell and not self.catalogs().ordered:
            return None
        known = self._unwell.get(account)
        if known is None:
            return Why.provider_paused if self._ordered(account) is AccountState.paused else None
        return self._shut(account, known, self.clock.boottime_s())

    def outage(self, accounts: Sequence[int], held: Claimed) -> Again | None:
        """When to try again what was just surely not taken, if no account takes calls any more, but for probes: then
        that was the outage's fault, and costs the delivery nothing."""
        if any(self._why_shut(account) is None for account in accounts):
            return None
        to = route(accounts, (), self._gates(accounts, held), held.age_s)
        return Again(to.after_s if isinstance(to, Wait) else _AFTER_OTHERS_S, Why.provider_open, waits=True)

    def patience_s(self, usual_s: float) -> float:
        """How long a worker may sleep that nobody wakes: not long while turns come one after the other, or somebody is
        to try an account."""
        now_s = self.clock.boottime_s()
        busy = any(account.line or _wants_probe(account, now_s) for account in self._unwell.values())
        return min(_BETWEEN_TURNS_S, usual_s) if busy else usual_s

    # after a call

    def heard(self, number: int, said: Outcome, began_s: float) -> Outcome:
        """Takes note of what a call said that began then, and gives it back, with the time of the rest filled in."""
        if isinstance(said, TryLater) and said.account:
            said = self._rest(number, said)
        elif isinstance(said, Fenced | TryLater):
            return said
        failed = said.code if isinstance(said, TryNext | Unsure) else None
        account, now_s = self._account(number), self.clock.boottime_s()
        if account.breaker.heard(failed, began_s, now_s):
            if account.breaker.state is BreakerState.open:
                self._leave(number, account)
            else:
                self._look(number, now_s)
            self._tell(number, account)
        return said

    # what others see, and what they have seen

    def seen(self) -> Sequence[Seen]:
        """The accounts that are not as they should be."""
        now_s, now = self.clock.boottime_s(), self.clock.now()
        known = self.catalogs().accounts
        shown = [_seen(number, one, now_s, now) for number, one in self._unwell.items() if number in known]
        return [one for one in shown if one.since or one.rests_until or one.back_at]

    def learn(self, reports: Sequence[Sequence[Seen]]) -> None:
        """What an account told another worker to wait holds for us too. Only a hint: it never shortens a rest. Where
        it is back for another, it is back for us if it was never away, and may be tried at once if it was."""
        now_s, now = self.clock.boottime_s(), self.clock.now()
        for one in (one for report in reports for one in report):
            if one.rests_until is not None:
                self._rest_until(one.account, now_s + (one.rests_until - now).total_seconds(), one.why)
            if one.back_at is not None and one.account in self.catalogs().accounts:
                self._back_elsewhere(one.account, one.back_at)

    # what comes back to accounts

    def look(self) -> None:
        """Notes which accounts are away and which are back. What waits may also go by another one of a new route."""
        catalog, now_s = self.catalogs(), self.clock.boottime_s()
        for number in {*self._unwell, *catalog.ordered} & catalog.accounts.keys():
            self._look(number, now_s)
        before, self._routed_by = self._routed_by, catalog
        if before and before is not catalog:
            waiting = [queue_of(catalog, number) for number, one in self._unwell.items() if one.waited_for]
            self.let_in(one for one in waiting if one and before.routes.get(one) != catalog.routes.get(one))

    def let_in(self, queues: Iterable[Queue], *, anew: bool = True) -> None:
        """What waits there is to be lined up for those accounts that are not away. Unless ``anew``, only where no line
        stands already, and nobody has a reason to wait: that another account of the same channel is away, say."""
        wanted, catalog = set(queues), self.catalogs()
        if not anew:
            away = (number for number, one in self._unwell.items() if one.away_at and one.waited_for)
            wanted.difference_update(map(partial(queue_of, catalog), away))
        for number in catalog.accounts if wanted else ():
            account = self._account(number)
            due = account.away_at is None and (anew or account.line is None)
            if due and queue_of(catalog, number) in wanted:
                self._come_back(number, account)

    def to_form(self) -> Mapping[Queue, Sequence[Line]]:
        """The lines that are to be formed now."""
        now_s, lines = self.clock.boottime_s(), dict[Queue, list[Line]]()
        for number, account in self._unwell.items():
            queue = queue_of(self.catalogs(), number)
            if account.line and queue:
                lines.setdefault(queue, []).append(account.line)
        return {queue: some for queue, some in lines.items() if any(line.is_due(now_s) for line in some)}

    def to_probe(self) -> Mapping[int, tuple[Queue, DeliveryId]]:
        """The accounts for which somebody is to be called forward, who is behind the last that tried them. While a line
        stands, somebody comes by himself."""
        now_s, catalog = self.clock.boottime_s(), self.catalogs()
        lined = {queue_of(catalog, number) for number, account in self._unwell.items() if account.line}
        return {
            number: (queue, account.probe)
            for number, account in self._unwell.items()
            if _wants_probe(account, now_s) and self._shut(number, account, now_s) is Why.provider_open
            if (queue := queue_of(catalog, number)) and queue not in lined
        }

    def called(self, number: int, *, found: bool) -> None:
        """Whether anybody was behind the last one. If not, the next look is from the front; and if nobody is there
        either, whoever comes first may try."""
        account = self._account(number)
        if not found:
            account.waited_for, account.probe = account.probe != NOBODY, NOBODY

    # how an account is

    def _gates(self, accounts: Sequence[int], held: Claimed) -> Mapping[int, Gate]:
        gates = {account: self._gate(account, held) for account in accounts}
        return {account: gate for account, gate in gates.items() if gate}

    def _gate(self, number: int, held: Claimed) -> Gate | None:
        now_s = self.clock.boottime_s()
        account = self._look(number, now_s)
        if account is None:
            return None
        has_turn, shut = held.reason == Why.provider_paced, self._shut(number, account, now_s)
        if shut is Why.provider_open:
            return Gate(self._probe_s(account, held, now_s), shut)
        if shut:
            return Gate(account.rests_until_s - now_s if account.away_at is None else _rarely_s(held.id), shut)
        if account.line:
            since_s = now_s - held.age_s if held.reason in _WAITING else None
            wait_s = account.line.wait_s(now_s, class_of(held.home), has_turn=has_turn, since_s=since_s)
            return Gate(wait_s, Why.provider_backlog)
        return None

    def _probe_s(self, account: _Account, held: Claimed, now_s: float) -> float:
        """One that waits is called forward to try the account. Only where nobody waits, whoever comes first does."""
        wait_s = account.breaker.wait_s(now_s)
        if account.breaker.state is BreakerState.half_open:
            return min(wait_s, _PROBE_ANSWERS_S)
        may_try = held.reason == Why.provider_paced or not account.waited_for
        return 0.0 if may_try and wait_s <= 0 else _rarely_s(held.id)

    def _look(self, number: int, now_s: float) -> _Account | None:
        """The account, None if it is well. Notes that it is away, or back."""
        account = self._unwell.get(number)
        paused = self._ordered(number) is AccountState.paused
        if account is None and not paused:
            return None
        account = account or self._account(number)
        if paused:
            self._leave(number, account)
        elif account.away_at and not self._shut(number, account, now_s):
            self._come_back(number, account)
        if account.line and account.line.is_over():
            account.line = None
        if account.line or self._shut(number, account, now_s) or account.breaker.state is not BreakerState.closed:
            return account
        self._unwell.pop(number, None)
        return None

    def _shut(self, number: int, account: _Account, now_s: float) -> Why | None:
        """Why it takes nothing, or nothing but a probe."""
        ordered = self._ordered(number)
        if ordered is AccountState.paused or account.rests_until_s > now_s:
            return Why.provider_paused
        closed = account.breaker.state is BreakerState.closed or ordered is AccountState.forced
        return None if closed else Why.provider_open

    def _leave(self, number: int, account: _Account) -> None:
        self._unwell[number] = account
        if account.away_at is None:
            account.away_at, account.probe = self.clock.now(), NOBODY
            account.waited_for, account.line = account.line is not None, None

    def _come_back(self, number: int, account: _Account) -> None:
        """What waits is to be lined up, from when the first worker has found that it is back."""
        now_s, now = self.clock.boottime_s(), self.clock.now()
        if account.back_at is None or (account.away_at and account.back_at <= account.away_at):
            account.back_at = now
        head_s = now_s + max(HEAD_S - (now - account.back_at).total_seconds(), 0.0)
        account.away_at, account.line = None, Line(now_s, head_s, self.drain_per_s or inf)
        self._unwell[number] = account

    def _back_elsewhere(self, number: int, back_at: datetime) -> None:
        account = self._account(number)
        if account.back_at and back_at <= account.back_at:
            return
        account.back_at = back_at
        if account.away_at:
            account.breaker.hurry(self.clock.boottime_s())
        elif not account.line:
            self._come_back(number, account)

    def _pass(self, number: int, delivery: DeliveryId) -> None:
        account = self._unwell[number]
        if account.line:
            account.line.left()
        if self._ordered(number) is AccountState.forced or account.breaker.state is BreakerState.closed:
            return
        account.probe = delivery
        if account.breaker.passed(self.clock.boottime_s()):
            self._tell(number, account)

    def _rest(self, number: int, said: TryLater) -> TryLater:
        rest_s = said.after_s if said.after_s is not None else self.pause_s
        if self._rest_until(number, self.clock.boottime_s() + rest_s, said.code):
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


_NONE: Final[Mapping[int, Gate]] = {}
_WAITING: Final = frozenset(why.value for why in Why if why is not Why.no_route)


def queue_of(catalog: Catalog, number: int) -> Queue | None:
    """Who waits for this account, None for one that is gone."""
    account = catalog.accounts.get(number)
    return (account.tenant, account.channel) if account else None


def _wants_probe(account: _Account, now_s: float) -> bool:
    breaker = account.breaker
    return account.waited_for and breaker.state is BreakerState.open and breaker.wait_s(now_s) <= 0


def _rarely_s(delivery: DeliveryId) -> float:
    """When to look again at one that is lined up, or called forward, long before: not all at the same time."""
    least_s, most_s = _RARELY_S
    return least_s + delivery.int % (1000 * (most_s - least_s)) / 1000


def _seen(number: int, account: _Account, now_s: float, now: datetime) -> Seen:
    """Instants of the boot-time clock mean nothing to others: told by the wall's."""
    rests_s, breaker = account.rests_until_s - now_s, account.breaker
    broken = breaker.state is not BreakerState.closed
    return Seen(
        account=number,
        breaker=breaker.state,
        since=now - timedelta(seconds=now_s - breaker.since_s) if broken else None,
        why=breaker.why if broken else account.rests_why,
        rests_until=now + timedelta(seconds=rests_s) if rests_s > 0 else None,
        back_at=account.back_at if account.line else None,
    )

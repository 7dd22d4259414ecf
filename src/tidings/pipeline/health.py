"""Health: what one worker knows of the accounts that it calls, and so which of them take calls just now.

An account that is well costs a look-up in an empty table. The others have a breaker that is not closed, or rest because
they asked for it or refused the key, or are only just back and get their work at a bounded rate.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from msgspec.structs import replace

from tidings.domain.breaker import Breaker, BreakerRules, BreakerState
from tidings.domain.claimed import Claimed
from tidings.domain.dispatch import Again
from tidings.domain.events import BreakerChanged, ProviderPaused
from tidings.domain.ids import unix_ms_in
from tidings.domain.lanes import Class, class_of
from tidings.domain.outcome import Fenced, Outcome, TryLater, TryNext, Unsure
from tidings.domain.pace import Pace, Waiting
from tidings.domain.routing import AccountState, Gate, Through, Wait, Why, looks_again_s, route
from tidings.ports import Catalogs, Clock, Emit, Seen

_LONG_REST_S: Final = 5.0
_PROBE_ANSWERS_S: Final = 0.5
_AFTER_OTHERS_S: Final = 1.0
_BETWEEN_TURNS_S: Final = 0.25


@dataclass
class _Account:
    """``rests_until_s`` and ``paused_s`` (since an operator paused it) are instants of the boot-time clock."""

    breaker: Breaker
    rests_until_s: float = 0.0
    rests_why: str = ""
    paused_s: float | None = None
    pace: Pace | None = None


@dataclass
class Health:
    """``pause_s``: how long an account rests that does not say for how long. ``drain_per_s``: the rate at which work
    comes back to one that was away, 0 for at once."""

    catalogs: Catalogs
    clock: Clock
    emit: Emit
    rules: BreakerRules
    pause_s: float
    drain_per_s: float
    _accounts: dict[int, _Account] = field(default_factory=dict, init=False)
    _unwell: dict[int, _Account] = field(default_factory=dict, init=False)

    # before a call

    def route(self, accounts: Sequence[int], held: Claimed) -> Through | Again:
        """The account that takes this delivery now, or when to look again."""
        gates = self._gates(accounts, held) if self._unwell or self.catalogs().ordered else _NONE
        to = route(accounts, held.tried, gates, held.age_s)
        if isinstance(to, Through):
            if to.account in gates:
                self._pass(to.account)
            return to
        if (account := self._unwell.get(to.account)) and account.pace:
            account.pace.queued(self.clock.boottime_s(), _waiting(held))
        return Again(to.after_s, to.why, tried=held.tried)

    def is_shut(self, account: int) -> bool:
        """It takes no calls. One that has its probe under way, or gets its work back bit by bit, is not shut."""
        if not self._unwell and not self.catalogs().ordered:
            return False
        ordered, known, now_s = self._ordered(account), self._unwell.get(account), self.clock.boottime_s()
        if ordered is AccountState.paused:
            return True
        if known is None:
            return False
        broken = known.breaker.state is BreakerState.open and ordered is not AccountState.forced
        return broken or known.rests_until_s > now_s

    def outage(self, accounts: Sequence[int], held: Claimed) -> Again | None:
        """When to try again what was just surely not taken, if no account takes calls any more: then that was the
        outage's fault, and costs the delivery nothing. It lets others go first, lest one that always fails be every
        probe."""
        if not all(map(self.is_shut, accounts)):
            return None
        to = route(accounts, (), self._gates(accounts, held), held.age_s)
        return Again((to.after_s if isinstance(to, Wait) else 0.0) + _AFTER_OTHERS_S, Why.provider_open)

    def patience_s(self, usual_s: float) -> float:
        """How long a worker may sleep that nobody wakes: not long while turns come one after the other."""
        now_s = self.clock.boottime_s()
        paced = any(account.pace and account.pace.is_on(now_s) for account in self._unwell.values())
        return min(_BETWEEN_TURNS_S, usual_s) if paced else usual_s

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
            self._unwell[number] = account
            if account.breaker.state is BreakerState.open:
                account.pace = self._paced(account, now_s + account.breaker.wait_s(now_s))
            self._tell(number, account)
        return said

    # what others see, and what they have seen

    def seen(self) -> Sequence[Seen]:
        """The accounts that are not as they should be."""
        now_s, now = self.clock.boottime_s(), self.clock.now()
        known = self.catalogs().accounts
        return [
            _seen(number, account, now_s, now)
            for number, account in self._unwell.items()
            if number in known and (account.breaker.state is not BreakerState.closed or account.rests_until_s > now_s)
        ]

    def learn(self, reports: Sequence[Sequence[Seen]]) -> None:
        """What an account told another worker to wait holds for us too. Only a hint: it never shortens a rest."""
        now_s, now = self.clock.boottime_s(), self.clock.now()
        for one in (one for report in reports for one in report):
            if one.rests_until is not None:
                self._rest_until(one.account, now_s + (one.rests_until - now).total_seconds(), one.why)

    def _gates(self, accounts: Sequence[int], held: Claimed) -> Mapping[int, Gate]:
        who = _waiting(held)
        gates = {account: self._gate(account, who) for account in accounts}
        return {account: gate for account, gate in gates.items() if gate}

    def _gate(self, number: int, who: Waiting) -> Gate | None:
        ordered, now_s = self._ordered(number), self.clock.boottime_s()
        account = self._unwell.get(number)
        if ordered is AccountState.paused:
            account = self._pause(number, now_s)
        if account is None:
            return None
        wait_s, why = self._shut_s(account, ordered, now_s)
        if why is Why.provider_paced and self._is_well(number, account, now_s):
            return None
        paced_s = account.pace.wait_s(now_s, who) if account.pace else 0.0
        return Gate(max(wait_s, paced_s), why)

    def _shut_s(self, account: _Account, ordered: AccountState, now_s: float) -> tuple[float, Why]:
        """For how long the account takes nothing at all, and why."""
        if ordered is AccountState.paused:
            return looks_again_s(now_s - (account.paused_s or now_s)), Why.provider_paused
        if account.paused_s is not None:
            account.paused_s, account.pace = None, self._paced(account, now_s)
        if account.rests_until_s > now_s:
            return account.rests_until_s - now_s, Why.provider_paused
        if account.breaker.state is BreakerState.closed:
            return 0.0, Why.provider_paced
        if ordered is AccountState.forced:
            account.pace = None
            return 0.0, Why.provider_paced
        wait_s = account.breaker.wait_s(now_s)
        probing = account.breaker.state is BreakerState.half_open
        return (min(wait_s, _PROBE_ANSWERS_S) if probing else wait_s), Why.provider_open

    def _is_well(self, number: int, account: _Account, now_s: float) -> bool:
        if account.pace and account.pace.is_over(now_s):
            account.pace = None
        well = account.pace is None and account.breaker.state is BreakerState.closed
        if well:
            self._unwell.pop(number, None)
        return well

    def _pause(self, number: int, now_s: float) -> _Account:
        account = self._unwell.setdefault(number, self._account(number))
        if account.paused_s is None:
            account.paused_s, account.pace = now_s, self._paced(account, now_s)
        return account

    def _pass(self, number: int) -> None:
        account, now_s = self._unwell[number], self.clock.boottime_s()
        if account.pace:
            account.pace.passed(now_s)
        if self._ordered(number) is not AccountState.forced and account.breaker.passed(now_s):
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
        if until_s - now_s >= _LONG_REST_S:
            account.pace = self._paced(account, until_s)
        self._unwell[number] = account
        return True

    def _paced(self, account: _Account, from_s: float) -> Pace | None:
        return Pace(self.drain_per_s, from_s, account.pace) if self.drain_per_s else None

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


def _waiting(held: Claimed) -> Waiting:
    return Waiting(class_of(held.home) == Class.promotional, unix_ms_in(held.id) // 1000)


_NONE: Final[Mapping[int, Gate]] = {}


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
    )

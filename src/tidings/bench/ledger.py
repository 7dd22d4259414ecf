"""The ledger check: four ledgers of one run, compared after it has settled.

The client's says what was answered, the database's what is on record, the provider's what was taken, the receipts what
was said later. Ids are the 16 bytes of a UUID, because there may be half a million of each.

    L  no loss         every 202 has its row, every row its end, and what is called sent is with a provider
    D  no duplicate    a provider took a delivery once, but for those flagged ``duplicate_possible``
    P  no phantom      what a provider took has its row; a row without a 202 has a client that got no answer
    I  idempotency     one key, one id, one body
    A  audit           attempts are the calls that were made
    M  forward         a status never moves back
    T  tenant          a call went out with its own tenant's credentials
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Final, NamedTuple

import msgspec

from tidings.domain.delivery import Mark, State

SAMPLES: Final = 20
_TAKEN_MARKS: Final = frozenset({Mark.sent, Mark.delivered, Mark.undelivered})


class Call(NamedTuple):
    """One notification as its client asked for it. ``key`` is the idempotency key within its scope, "" for none;
    ``status`` the HTTP status, 0 without an answer; ``body`` tells one body from another."""

    key: str
    status: int
    id: bytes | None = None
    body: int = 0
    deduplicated: bool = False


class Delivery(NamedTuple):
    """A delivery row; ``mark`` is a ``domain.delivery.Mark``."""

    notification: bytes
    tenant: int
    mark: int
    duplicate_possible: bool = False


class Attempt(NamedTuple):
    """An attempt row: the account that was called, and whether it took the message."""

    account: int
    sent: bool


class Receipt(NamedTuple):
    """A receipt row: ``mark`` is what it says of the delivery, 0 when it says nothing."""

    delivery: bytes
    mark: int


class Taken(NamedTuple):
    """One reference in a provider's ledger: delivery and try, when it first arrived (unix ns), how often it was taken,
    and a hash of the credential that it came with ("" when that is not known)."""

    delivery: bytes
    n: int
    arrived_ns: int
    times: int = 1
    credential: str = ""


class Database(msgspec.Struct, frozen=True):
    """What all shards hold: notification → tenant, delivery → row, dispatches left → state, (delivery, n) → attempt."""

    notifications: Mapping[bytes, int]
    deliveries: Mapping[bytes, Delivery]
    dispatches: Mapping[bytes, int]
    attempts: Mapping[tuple[bytes, int], Attempt]
    receipts: Sequence[Receipt] = ()


class Ledgers(msgspec.Struct, frozen=True):
    """``client`` and ``provider`` are None where nobody kept one: then what needs them is not checked, and the report
    says so. ``sightings`` are marks of deliveries in the order in which a reader saw them."""

    database: Database
    client: Sequence[Call] | None = None
    provider: Sequence[Taken] | None = None
    sightings: Sequence[tuple[bytes, int]] = ()


class Rules(msgspec.Struct, frozen=True):
    """What the run allows. ``duplicates_allowed`` bounds the flagged deliveries that were taken twice. ``accounts``
    (account → tenant) and ``credentials`` (hash → tenant) say whose they are; empty means not checked."""

    duplicates_allowed: int = 0
    accounts: Mapping[int, int] = {}
    credentials: Mapping[str, int] = {}


class Violation(msgspec.Struct, frozen=True):
    """``id`` is that of a notification, a delivery, a reference or a key, whichever the sentence is about."""

    letter: str
    what: str
    id: str


class Report(msgspec.Struct, frozen=True):
    """``found`` counts every violation by its letter; ``violations`` holds the first few of each. ``unchecked`` says
    what could not be compared, ``skipped`` names the letters of which nothing could."""

    found: Mapping[str, int]
    violations: tuple[Violation, ...]
    counts: Mapping[str, int]
    unchecked: tuple[str, ...]
    skipped: frozenset[str]

    @property
    def clean(self) -> bool:
        return not self.found

    @property
    def lost(self) -> int:
        return self.found.get("L", 0)

    @property
    def repeated(self) -> int:
        return self.found.get("D", 0)

    def summary(self) -> dict[str, object]:
        """The report as JSON shows it."""
        return {
            "clean": self.clean,
            "lost": self.lost,
            "repeated": self.repeated,
            "violations": dict(self.found),
            "examples": [msgspec.structs.asdict(violation) for violation in self.violations],
            "counts": dict(self.counts),
            "unchecked": list(self.unchecked),
        }


Found = Iterator[tuple[str, str]]
"""Sentences and the id that each is about."""


def check(ledgers: Ledgers, rules: Rules | None = None) -> Report:
    """Compares everything with everything. A report without violations is ``clean``; see ``unchecked`` for what could
    not be compared."""
    found: dict[str, int] = {}
    examples: list[Violation] = []
    for letter, look in _CHECKS.items():
        violations = look(ledgers, rules or Rules())
        first = [Violation(letter, what, id_) for what, id_ in islice(violations, SAMPLES)]
        if first:
            found[letter] = len(first) + sum(1 for _ in violations)
            examples += first
    unchecked = _unchecked(ledgers, rules or Rules())
    return Report(found, tuple(examples), _counts(ledgers), unchecked, _skipped(ledgers))


def _loss(ledgers: Ledgers, _: Rules) -> Found:
    rows = ledgers.database
    for id_ in _answered(ledgers) - rows.notifications.keys():
        yield "answered 202, and there is no such notification", id_.hex()
    for id_ in rows.notifications.keys() - {row.notification for row in rows.deliveries.values()}:
        yield "a notification without a delivery", id_.hex()
    for id_, row in rows.deliveries.items():
        if row.mark == Mark.pending and rows.dispatches.get(id_) != State.dead:
            yield _unfinished(rows.dispatches.get(id_)), id_.hex()
    if ledgers.provider is not None:
        called_sent = {id_ for id_, row in rows.deliveries.items() if row.mark in _TAKEN_MARKS}
        for id_ in called_sent - {taken.delivery for taken in ledgers.provider}:
            yield "called sent, and no provider has it", id_.hex()


def _unfinished(state: int | None) -> str:
    if state is None:
        return "without a final status, and nothing is left that would give it one"
    return f"not finished: {State(state).name}"


def _answered(ledgers: Ledgers) -> set[bytes]:
    return {call.id for call in ledgers.client or () if call.status == 202 and call.id is not None}


def _duplicates(ledgers: Ledgers, rules: Rules) -> Found:
    deliveries = ledgers.database.deliveries
    repeated = _taken_more_than_once(ledgers.provider or ())
    flagged = [id_ for id_ in repeated if id_ in deliveries and deliveries[id_].duplicate_possible]
    for id_ in repeated.keys() - set(flagged):
        yield f"taken {repeated[id_]} times and not flagged duplicate_possible", id_.hex()
    for id_ in flagged[rules.duplicates_allowed :]:
        yield f"taken {repeated[id_]} times: more flagged ones than the policy allows", id_.hex()


def _taken_more_than_once(provider: Sequence[Taken]) -> dict[bytes, int]:
    times: Counter[bytes] = Counter()
    for taken in provider:
        times[taken.delivery] += taken.times
    return {id_: count for id_, count in times.items() if count > 1}


def _phantoms(ledgers: Ledgers, _: Rules) -> Found:
    rows = ledgers.database
    for id_ in {taken.delivery for taken in ledgers.provider or ()} - rows.deliveries.keys():
        yield "a provider took it, and there is no such delivery", id_.hex()
    for id_ in {row.notification for row in rows.deliveries.values()} - rows.notifications.keys():
        yield "deliveries of a notification that does not exist", id_.hex()
    if ledgers.client is not None:
        unexplained = sorted(rows.notifications.keys() - _answered(ledgers))
        for id_ in unexplained[_without_an_answer(ledgers.client) :]:
            yield "a row without a 202, and no client without an answer left to explain it", id_.hex()


def _without_an_answer(client: Sequence[Call]) -> int:
    """How many rows may stand there without a 202: one for each key whose every call ended in silence or a 5xx (or
    409, still being committed), and one for each such call without a key."""
    told = {call.key for call in client if call.status == 202}
    silent = [call.key for call in client if call.status in (0, 409) or call.status >= 500]
    return len(set(silent) - told - {""}) + silent.count("")


def _idempotency(ledgers: Ledgers, _: Rules) -> Found:
    id_of: dict[str, bytes] = {}
    body_of: dict[str, int] = {}
    key_of: dict[bytes, str] = {}
    for call in ledgers.client or ():
        if call.status != 202 or call.id is None or not call.key:
            continue
        if id_of.setdefault(call.key, call.id) != call.id:
            yield f"one key, two ids: {id_of[call.key].hex()} and {call.id.hex()}", call.key
        if body_of.setdefault(call.key, call.body) != call.body:
            yield "one key, two bodies, and both were accepted", call.key
        if not call.deduplicated and key_of.setdefault(call.id, call.key) != call.key:
            yield f"one id for two keys: {key_of[call.id]} and {call.key}", call.id.hex()


def _audit(ledgers: Ledgers, _: Rules) -> Found:
    if ledgers.provider is None:
        return
    attempts = ledgers.database.attempts
    calls = {(taken.delivery, taken.n) for taken in ledgers.provider}
    for call in calls - attempts.keys():
        yield "a provider took it, and there is no attempt row", _reference(call)
    for call in {key for key, attempt in attempts.items() if attempt.sent} - calls:
        yield "the attempt says sent, and no provider has it", _reference(call)
    for taken in ledgers.provider:
        if taken.times > 1:
            yield f"one attempt, {taken.times} calls", _reference((taken.delivery, taken.n))


def _reference(call: tuple[bytes, int]) -> str:
    return f"{call[0].hex()}-{call[1]}"


def _backwards(ledgers: Ledgers, _: Rules) -> Found:
    rows = ledgers.database
    for id_, state in rows.dispatches.items():
        if id_ in rows.deliveries and rows.deliveries[id_].mark != Mark.pending:
            yield f"{_mark(rows, id_)}, and something is still left to do: {State(state).name}", id_.hex()
    for (id_, n), attempt in rows.attempts.items():
        if attempt.sent and id_ in rows.deliveries and rows.deliveries[id_].mark < Mark.sent:
            yield f"attempt {n} was taken, and the delivery is {_mark(rows, id_)}", id_.hex()
    for id_, mark in rows.receipts:
        if id_ in rows.deliveries and rows.deliveries[id_].mark < mark:
            yield f"a receipt said {Mark(mark).name}, and the delivery is {_mark(rows, id_)}", id_.hex()
    yield from _seen_backwards(ledgers)


def _seen_backwards(ledgers: Ledgers) -> Found:
    highest: dict[bytes, int] = {}
    last = ((id_, row.mark) for id_, row in ledgers.database.deliveries.items() if ledgers.sightings)
    for sightings in (ledgers.sightings, last):
        for id_, mark in sightings:
            if mark < highest.setdefault(id_, mark):
                yield f"seen {Mark(highest[id_]).name}, then {Mark(mark).name}", id_.hex()
            highest[id_] = max(mark, highest[id_])


def _mark(rows: Database, id_: bytes) -> str:
    return Mark(rows.deliveries[id_].mark).name


def _tenants(ledgers: Ledgers, rules: Rules) -> Found:
    rows = ledgers.database
    tenant_of = {id_: row.tenant for id_, row in rows.deliveries.items()}
    for id_, row in rows.deliveries.items():
        if rows.notifications.get(row.notification, row.tenant) != row.tenant:
            yield "the delivery is one tenant's, its notification another's", id_.hex()
    if rules.accounts:
        for (id_, n), attempt in rows.attempts.items():
            if id_ in tenant_of and attempt.account and rules.accounts.get(attempt.account) != tenant_of[id_]:
                yield "called with another tenant's account", _reference((id_, n))
    if rules.credentials:
        for taken in ledgers.provider or ():
            if rules.credentials.get(taken.credential) != tenant_of.get(taken.delivery):
                yield "came with credentials that are not its tenant's", _reference((taken.delivery, taken.n))


_CHECKS: Final[Mapping[str, Callable[[Ledgers, Rules], Found]]] = {
    "L": _loss,
    "D": _duplicates,
    "P": _phantoms,
    "I": _idempotency,
    "A": _audit,
    "M": _backwards,
    "T": _tenants,
}


def _counts(ledgers: Ledgers) -> dict[str, int]:
    rows = ledgers.database
    return {
        "calls": len(ledgers.client or ()),
        "answered_202": sum(call.status == 202 for call in ledgers.client or ()),
        "notifications": len(rows.notifications),
        "deliveries": len(rows.deliveries),
        "attempts": len(rows.attempts),
        "references_taken": len(ledgers.provider or ()),
        "receipts": len(rows.receipts),
        "dispatches_left": len(rows.dispatches),
        "dead": sum(state == State.dead for state in rows.dispatches.values()),
        "duplicate_possible": sum(row.duplicate_possible for row in rows.deliveries.values()),
    }


def _unchecked(ledgers: Ledgers, rules: Rules) -> tuple[str, ...]:
    missing = {
        "I, and P for rows without a 202: no client ledger": ledgers.client is None,
        "D, A, and L for what is called sent: no provider ledger": ledgers.provider is None,
        "T for accounts: their tenants were not given": not rules.accounts,
        "T for credentials: their tenants were not given": not rules.credentials,
    }
    return tuple(sentence for sentence, is_missing in missing.items() if is_missing)


def _skipped(ledgers: Ledgers) -> frozenset[str]:
    return frozenset("I" * (ledgers.client is None) + "DA" * (ledgers.provider is None))

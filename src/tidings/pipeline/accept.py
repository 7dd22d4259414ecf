"""Accept: from what was asked to what is durable, then the answer.

plan (pure) → group by shard → one statement per shard, which carries whatever requests have gathered → answer after the
commit → a hint, not awaited. A commit is never cancelled: a client that goes away changes nothing.
"""

import asyncio
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime

import msgspec

from tidings.domain.asked import Answer, Asked, PlannedAnswer
from tidings.domain.delivery import Status
from tidings.domain.errors import KeyReused, Refusal, StillCommitting, Unavailable
from tidings.domain.events import AcceptUncertain, FlushDone, NotificationsAccepted
from tidings.domain.ids import ShardNumber
from tidings.domain.notification import Acceptance, Accepted, Verdict
from tidings.domain.plan import AddressHash, RandomBits, plan
from tidings.pipeline.gather import Clash, Gather
from tidings.ports import Acceptor, Catalogs, Clock, Emit, Hints, Reach


class AcceptLimits(msgspec.Struct, frozen=True):
    """``flush_max`` requests share a commit, ``side_by_side`` commits run at once for each shard, and after
    ``deadline_s`` the caller is told that nothing is certain."""

    flush_max: int
    side_by_side: int
    deadline_s: float


@dataclass
class Accept:
    """Accepts for all shards."""

    acceptor: Acceptor
    hints: Hints
    catalogs: Catalogs
    clock: Clock
    emit: Emit
    random_bits: RandomBits
    address_hash: AddressHash
    limits: AcceptLimits
    reach: Reach
    _gathers: dict[ShardNumber, Gather[Acceptance, Accepted]] = field(default_factory=dict, init=False)

    @property
    def waiting(self) -> int:
        """Requests that no flush has taken yet, over all shards."""
        return sum(gather.waiting for gather in self._gathers.values())

    async def submit(self, asked: Sequence[Asked]) -> Sequence[Answer | Refusal]:
        """One answer or refusal for each, in order, when all of them are settled or the deadline has passed."""
        now = self.clock.now()
        put = [self._put(one, now) for one in asked]
        futures = [future for _, future in put]
        deadline = asyncio.get_running_loop().call_later(self.limits.deadline_s, _give_up, futures)
        try:
            for future in futures:
                with suppress(Refusal):
                    await future
        finally:
            deadline.cancel()
        return [_answer(row, future, now) for row, future in put]

    def submit_one(self, asked: Asked, tell: Callable[[Answer | Exception], None]) -> None:
        """The same for a single one without a task: ``tell`` is called once, later, with a bug too."""
        now = self.clock.now()
        row, future = self._put(asked, now)
        deadline = asyncio.get_running_loop().call_later(self.limits.deadline_s, _give_up, (future,))

        def settled(future: "asyncio.Future[Accepted]") -> None:
            deadline.cancel()
            fault = future.exception()
            tell(fault if isinstance(fault, Exception) else _answer(row, future, now))

        future.add_done_callback(settled)

    def _put(self, asked: Asked, now: datetime) -> tuple[Acceptance, "asyncio.Future[Accepted]"]:
        row = plan(asked, now, self.random_bits, self.address_hash)
        return row, self._gather(self.catalogs().shard(row.slot)).put(row)

    async def drain(self) -> None:
        """Returns when every commit under way has ended."""
        await asyncio.gather(*(gather.drain() for gather in self._gathers.values()))

    def _gather(self, shard: ShardNumber) -> Gather[Acceptance, Accepted]:
        if shard not in self._gathers:

            async def flush(rows: Sequence[Acceptance]) -> Sequence[Accepted | Exception]:
                return await self._flush(shard, rows)

            clash = Clash(_keys, self._follow)
            self._gathers[shard] = Gather(flush, self.limits.flush_max, self.limits.side_by_side, clash)
        return self._gathers[shard]

    async def _flush(self, shard: ShardNumber, rows: Sequence[Acceptance]) -> Sequence[Accepted | Exception]:
        self.reach("before_commit")
        began_s = self.clock.boottime_s()
        accepted = await self._accept(shard, rows)
        self.emit(FlushDone(len(rows), self.clock.boottime_s() - began_s))
        self.reach("after_commit")
        self._publish(shard, rows)
        self.reach("after_publish")
        self._count(accepted)
        return accepted

    def _follow(
        self, first: Acceptance, said: Accepted | Exception, later: Sequence[Acceptance]
    ) -> Sequence[Accepted | Exception | None]:
        """The commit that answered the first one has waited for the standby, and holds for the others too."""
        answers = [said if isinstance(said, Exception) else follow(first, said, one) for one in later]
        self._count(answers)
        return answers

    def _count(self, accepted: Sequence[Accepted | Exception | None]) -> None:
        verdicts = [one.verdict for one in accepted if isinstance(one, Accepted)]
        self.emit(
            NotificationsAccepted(
                count=verdicts.count(Verdict.stored),
                replayed=verdicts.count(Verdict.replayed),
                deduplicated=verdicts.count(Verdict.deduplicated),
            )
        )

    async def _accept(self, shard: ShardNumber, rows: Sequence[Acceptance]) -> Sequence[Accepted | Exception]:
        """A key that is locked for too long holds up only its own request: the others go again, one by one."""
        try:
            return await self.acceptor.accept(shard, rows)
        except StillCommitting as fault:
            if len(rows) == 1:
                return [fault]
            return [(await self._accept(shard, [row]))[0] for row in rows]
        except Unavailable as fault:
            self.emit(AcceptUncertain(len(rows), type(fault.__cause__ or fault).__name__))
            return [fault] * len(rows)

    def _publish(self, shard: ShardNumber, rows: Sequence[Acceptance]) -> None:
        due_now = {one.id: one.lane for row in rows for one in row.deliveries if one.due_at is None}
        if due_now:
            self.hints.publish(shard, due_now)


def follow(first: Acceptance, said: Accepted, later: Acceptance) -> Accepted | None:
    """What a row would be answered that waited for another with a key of its own, once that one has ``said``; None when
    only the shard can tell. Pure.

    Known then are the idempotency key of the first, with its body, and its deduplication key, unless a conflict or a
    replay left that one unread.
    """
    if later.key_hash is not None and later.key_hash == first.key_hash:
        conflict = said.verdict == Verdict.conflict
        body = said.fingerprint if conflict else first.fingerprint
        if later.fingerprint != body:
            return Accepted(said.id, Verdict.conflict, body)
        known = not conflict or later.deduplication_hash is None
        return Accepted(said.id, Verdict.replayed) if known else None
    if later.key_hash is None and said.verdict in (Verdict.stored, Verdict.deduplicated):
        return Accepted(said.id, Verdict.deduplicated)
    return None


def _keys(row: Acceptance) -> Sequence[Hashable]:
    """Two rows with one key must not meet in one statement; both kinds of key count."""
    kinds = ((1, row.key_hash), (2, row.deduplication_hash))
    return [(row.tenant, row.user, kind, key) for kind, key in kinds if key is not None]


def _give_up(futures: Sequence["asyncio.Future[Accepted]"]) -> None:
    """What is not certain by now is answered with that; a commit that is under way goes on."""
    for future in futures:
        if not future.done():
            future.set_exception(Unavailable())


def _answer(row: Acceptance, future: "asyncio.Future[Accepted]", now: datetime) -> Answer | Refusal:
    """Of a future that is settled."""
    fault = future.exception()
    if isinstance(fault, Refusal):
        return fault
    accepted = future.result()
    if accepted.verdict == Verdict.conflict:
        return KeyReused(pointer="/idempotency_key")
    if accepted.verdict != Verdict.stored:
        return Answer(
            accepted.id,
            Status.queued,
            None,
            replayed=accepted.verdict == Verdict.replayed,
            deduplicated=accepted.verdict == Verdict.deduplicated,
        )
    status = Status.scheduled if row.send_at else Status.queued
    deliveries = [PlannedAnswer(one.id, one.channel.name, status, one.due_at or now) for one in row.deliveries]
    return Answer(row.id, status, tuple(deliveries))

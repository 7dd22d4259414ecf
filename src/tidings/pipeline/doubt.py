"""Doubt: what became of calls that may have gone. Receipts first, then the provider, then the category's policy."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tidings.domain import ids
from tidings.domain.claimed import Claimed
from tidings.domain.doubt import Doubts, Learnt, Resolved, Wait, resolve
from tidings.domain.events import DoubtResolved
from tidings.domain.ids import DeliveryId, ShardNumber
from tidings.domain.lanes import IN_DOUBT
from tidings.domain.outcome import Outcome
from tidings.pipeline.settle import Settle
from tidings.ports import Catalogs, Clock, Dispatches, Emit, Hints, Providers, Receipts, Settled


@dataclass
class ResolveDoubt:
    """Resolves for all shards. ``limit`` doubts are looked at together."""

    dispatches: Dispatches
    receipts: Receipts
    settle: Settle
    providers: Providers
    catalogs: Catalogs
    hints: Hints
    emit: Emit
    adapter_fault: Callable[[int, Exception], object]
    new_token: Callable[[], int]
    clock: Clock
    rules: Doubts
    limit: int
    _watched_since_s: dict[tuple[DeliveryId, int], float] = field(default_factory=dict, init=False)

    async def round(self, shard: ShardNumber) -> bool:
        """Looks at the doubts that are due; True when there may be more."""
        held = await self.dispatches.claim(shard, {IN_DOUBT: self.limit}, self.new_token())
        if not held:
            return False
        taken = await self.receipts.taken(shard, [one.id for one in held])
        verdicts = [(one, await self._resolve(one, taken.get(one.id, ()))) for one in held]
        await self._look_again(shard, [(one, verdict) for one, verdict in verdicts if isinstance(verdict, Wait)])
        for one, verdict in verdicts:
            if isinstance(verdict, Resolved):
                self._settle(shard, one, verdict)
        await self.settle.drain()
        self.hints.publish(shard, {one.id: one.home for one in held})
        return len(held) >= self.limit

    async def _resolve(self, held: Claimed, taken: Sequence[int]) -> Resolved | Wait:
        looked_up = None if taken else await self._look_up(held)
        category = self.catalogs().categories_by_id.get(held.category)
        if category is None:  # newer than what this relay has read: its policy must not be guessed
            return Wait(self.rules.look_up_s)
        verdict = resolve(held, Learnt(taken, looked_up, self._watched_s(held)), category.doubt_policy, self.rules)
        if isinstance(verdict, Resolved):
            self._watched_since_s.pop((held.id, held.tries), None)
        return verdict

    def _watched_s(self, held: Claimed) -> float:
        """How long this resolver has known of the doubt. One that starts anew gives it the whole time again."""
        now_s = self.clock.boottime_s()
        return now_s - self._watched_since_s.setdefault((held.id, held.tries), now_s)

    async def _look_up(self, held: Claimed) -> Outcome | None:
        provider = self.providers(held.provider)
        if provider is None or held.address is None or held.started_at is None:
            return None
        try:
            return await provider.look_up(ids.reference(held.id, held.tries), held.address, held.started_at)
        except Exception as fault:  # an adapter's bug must not hold up the other doubts
            self.emit(self.adapter_fault(held.provider, fault))
            return None

    async def _look_again(self, shard: ShardNumber, waiting: Sequence[tuple[Claimed, Wait]]) -> None:
        if waiting:
            await self.dispatches.look_again(
                shard,
                [one.id for one, _ in waiting],
                [one.token for one, _ in waiting],
                [wait.after_s for _, wait in waiting],
            )

    def _settle(self, shard: ShardNumber, held: Claimed, verdict: Resolved) -> None:
        self.settle.put(
            shard,
            Settled(
                id=held.id,
                token=held.token,
                n=held.tries,
                to=verdict.to,
                provider=held.provider,
                said=verdict.said,
                address=held.address,
                address_hash=held.address_hash,
                started_at=held.started_at,
                expires_at=held.expires_at,
                duplicate_possible=verdict.duplicate_possible,
                home=held.home,
            ),
        )
        self.emit(DoubtResolved(1, verdict.how))

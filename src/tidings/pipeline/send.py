"""Send: one call for each marked delivery, and from its answer to what happens next."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec

from tidings.domain.dispatch import Again, Settlement
from tidings.domain.events import FailedOver
from tidings.domain.ids import ShardNumber
from tidings.domain.outcome import Outcome, Sent, TryLater, TryNext, Unsure
from tidings.domain.retry import Tried, next_step
from tidings.pipeline.charge import Charges
from tidings.pipeline.health import Health
from tidings.pipeline.letter import Call, Routed, message
from tidings.pipeline.room import Room
from tidings.pipeline.settle import Settle
from tidings.ports import Clock, Emit, Providers, Reach, Settled


class SendLimits(msgspec.Struct, frozen=True):
    """A mark older than ``fence_s`` is not sent on; ``schedule_s`` are the waits before the second attempt and the
    later ones."""

    fence_s: float
    schedule_s: Sequence[float]


@dataclass
class Send:
    """Makes the calls of one worker."""

    providers: Providers
    health: Health
    settle: Settle
    charges: Charges
    clock: Clock
    emit: Emit
    adapter_fault: Callable[[int, Exception], object]
    luck: Callable[[], float]
    limits: SendLimits
    room: Room
    reach: Reach
    _calls: set[asyncio.Task[None]] = field(default_factory=set, init=False)

    def start(self, shard: ShardNumber, calls: Sequence[Call]) -> None:
        """Starts the calls; each gives its place back when it ends."""
        loop = asyncio.get_running_loop()
        for call in calls:
            task = loop.create_task(self._call(shard, call))
            self._calls.add(task)
            task.add_done_callback(self._calls.discard)

    async def drain(self) -> None:
        """Returns when the calls under way have ended and what became of them is stored."""
        while self._calls:
            await asyncio.wait(self._calls)
        await self.settle.drain()

    async def _call(self, shard: ShardNumber, call: Call) -> None:
        started_s, started_at = self.clock.boottime_s(), self.clock.now()
        try:
            said = await self._ask(call)
        finally:
            self.room.give(call.lane)
        self.reach("after_response")
        routed = call.ready.routed
        held = routed.held
        said = self.health.heard(routed.account, said, started_s)
        to = self._next(routed, said)
        self.settle.put(
            shard,
            Settled(
                id=held.id,
                token=held.token,
                n=call.n,
                to=to,
                provider=routed.account,
                said=said,
                address=held.address,
                address_hash=held.address_hash,
                started_at=started_at,
                took_ms=int((self.clock.boottime_s() - started_s) * 1000),
                expires_at=held.expires_at,
                again_in=held.home if isinstance(to, Again) and to.after_s <= 0 else None,
                waits_for=held.tenant if isinstance(to, Again) and to.waits else None,
                charge=self.charges.of(call, said),
                home=held.home,
            ),
        )

    def _next(self, routed: Routed, said: Outcome) -> Settlement:
        """At once with another account that takes calls, where this one surely did not take it."""
        held = routed.held
        if isinstance(said, TryNext) and (again := self.health.outage(routed.route, held)):
            return again
        takers = () if isinstance(said, Sent) else [one for one in routed.route if not self.health.is_shut(one)]
        to = next_step(said, Tried(held.spent, held.tried, routed.account, takers), self.limits.schedule_s, self.luck())
        if isinstance(said, TryNext | TryLater) and isinstance(to, Again) and to.after_s <= 0:
            self.emit(FailedOver(routed.account, said.code))
        return to

    async def _ask(self, call: Call) -> Outcome:
        """The provider's word. An adapter that breaks is unsure once it was about to write, and harmless before."""
        fence_s, asked = call.issued_s + self.limits.fence_s, False

        def may_write() -> bool:
            nonlocal asked
            asked = True
            self.reach("before_write")
            return self.clock.boottime_s() < fence_s

        provider = self.providers(call.ready.routed.account)
        if provider is None:
            return TryNext("account_unusable", "the account is gone, or its settings cannot be used")
        try:
            return await provider.send(message(call), may_write)
        except Exception as fault:
            self.emit(self.adapter_fault(call.ready.routed.account, fault))
            detail = f"the adapter failed: {type(fault).__name__}"
            return Unsure("adapter_fault", detail) if asked else TryLater("adapter_fault", detail)

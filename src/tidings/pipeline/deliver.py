"""Deliver: a batch of due deliveries from claim to finish, in flat steps.

claim → decide → route → render → mark in flight, durably, a few at a time → send concurrently, with a look at the clock
right before the bytes leave → finish, the attempts in the same commit. Each step takes and returns many; what drops out
on the way is settled with its reason.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
from msgspec.structs import replace

from tidings.domain.claimed import Claimed
from tidings.domain.decide import company, decide
from tidings.domain.dispatch import Again, Bury
from tidings.domain.errors import TemplateFault, Unavailable
from tidings.domain.events import BatchClaimed, ClaimsGivenBack
from tidings.domain.ids import DeliveryId, ShardNumber
from tidings.domain.lanes import Channel, Lane, lane_name
from tidings.domain.routing import Through, open_to
from tidings.pipeline.health import Health
from tidings.pipeline.letter import Call, Ready, Routed, sender_of
from tidings.pipeline.send import Send
from tidings.pipeline.settle import Settle
from tidings.ports import (
    Catalogs,
    Clock,
    Country,
    Dispatches,
    Emit,
    Reach,
    Rendered,
    Renderer,
    RenderRequest,
    Settled,
    Shape,
)

TEMPLATE_ERROR: Final = "template_error"
TEMPLATE_RESTS: Final = "template_rests"
"""The template brought the renderer down; for a while it is not tried, so that it holds up nobody else."""
NO_SENDER: Final = "no_sender"
MARK_LOST: Final = "mark_lost"
"""The database went away while a call was being noted; it was not made."""
_CATALOG_LAG_S: Final = 10.0
_LOOK_AGAIN_S: Final = 0.5


class DeliverLimits(msgspec.Struct, frozen=True):
    """``claim`` and ``mark`` are batch sizes."""

    claim: int
    mark: int
    quarantine_after_claims: int


@dataclass
class Deliver:
    """Delivers for all shards of one worker."""

    dispatches: Dispatches
    settle: Settle
    health: Health
    send: Send
    renderer: Renderer
    shapes: Mapping[Channel, Shape]
    countries: Mapping[Channel, Country]
    catalogs: Catalogs
    clock: Clock
    emit: Emit
    new_token: Callable[[], int]
    limits: DeliverLimits
    reach: Reach

    def appetite(self, lane: Lane) -> int:
        """How many of a lane are claimed at once just now: little more than there is room for."""
        return min(self.limits.claim, 2 * max(1, self.send.room.free(lane)))

    async def round(self, shard: ShardNumber, lane: Lane, named: Sequence[DeliveryId] | None = None) -> bool:
        """One batch of a lane: what is ``named``, else whatever is due. True when there may be more due. Returns once
        its calls are under way."""
        limit, token, began_s = self.appetite(lane), self.new_token(), self.clock.boottime_s()
        if named is None:
            held = await self.dispatches.claim(shard, {lane: limit}, token)
        else:
            held = await self.dispatches.claim_named(shard, [lane], named, token)
        if not held:
            return False
        self.reach("after_claim")
        self.emit(BatchClaimed(lane_name(lane), len(held), self.clock.boottime_s() - began_s))
        together, later = company(held, self.limits.claim, self.limits.quarantine_after_claims)
        await self._give_back(shard, later)
        routed = self._route(shard, self._decide(shard, together))
        try:
            ready = await self._render(shard, routed)
        except Unavailable:
            await self._give_back(shard, [one.held for one in routed])
            raise
        await self._start(shard, lane, ready)
        full = named is None and len(held) >= limit
        return full or bool(later) or any(one.siblings for one in held)

    def _decide(self, shard: ShardNumber, held: Sequence[Claimed]) -> Sequence[Claimed]:
        catalog, going = self.catalogs(), list[Claimed]()
        for one in held:
            percent = catalog.percent(one.tenant, one.channel)
            verdict = decide(one, self.limits.quarantine_after_claims, percent)
            if verdict is None:
                going.append(one)
            else:
                self.settle.untried(shard, one, verdict)
        return going

    def _route(self, shard: ShardNumber, held: Sequence[Claimed]) -> Sequence[Routed]:
        going = list[Routed]()
        for one in held:
            accounts = self._accounts(one)
            through = self.health.route(accounts, one)
            if isinstance(through, Through):
                going.append(Routed(one, through.account, accounts))
            else:
                self.settle.untried(shard, one, through)
        return going

    def _accounts(self, held: Claimed) -> Sequence[int]:
        """Those that may take it, in its order."""
        route = self.catalogs().routes.get((held.tenant, held.channel))
        if route is None:
            return ()
        order = route.order
        if route.rules:
            country_of = self.countries.get(held.channel) if route.by_country else None
            country = country_of(held.address) if country_of and held.address else None
            order = route.order_for(held.category, country)
        return open_to(order.for_one(held.id), held.provider, duplicate_possible=held.duplicate_possible)

    async def _render(self, shard: ShardNumber, routed: Sequence[Routed]) -> Sequence[Ready]:
        asked = [RenderRequest(one.held.channel, one.held.template_version or 0, one.held.payload) for one in routed]
        rendered = await self.renderer.render(asked) if asked else ()
        ready = list[Ready]()
        for one, result in zip(routed, rendered, strict=True):
            fitted = self._fit(one, result)
            if isinstance(fitted, Ready):
                ready.append(fitted)
            else:
                self.settle.untried(shard, one.held, fitted)
        return ready

    def _fit(self, routed: Routed, rendered: Rendered) -> Ready | Bury | Again:
        """The content as its channel wants it, with the sender it goes out under."""
        sender = sender_of(self.catalogs(), routed.held)
        if sender is None:
            return _without_sender(routed.held)
        if rendered.retry_after_s is not None:
            return Again(rendered.retry_after_s, TEMPLATE_RESTS, tried=routed.held.tried)
        if rendered.content is None:
            return Bury(TEMPLATE_ERROR, rendered.fault)
        try:
            return Ready(routed, self.shapes[routed.held.channel](rendered.content), sender, rendered.reply_to)
        except TemplateFault as fault:
            return Bury(TEMPLATE_ERROR, str(fault))

    async def _start(self, shard: ShardNumber, lane: Lane, ready: Sequence[Ready]) -> None:
        """Marks a few, starts their calls, and goes on with the next few while there is room."""
        left = list(ready)
        while left:
            most = min(self.limits.mark, len(left))
            places = await self.send.room.take(lane, most)
            if not places:
                break
            few, left, calls = left[:places], left[places:], list[Call]()
            try:
                going = self._still_open(shard, few)
                calls += await self._mark(shard, going) if going else ()
            finally:
                self.send.room.give(lane, places - len(calls))
            self.send.start(shard, calls)
        await self._give_back(shard, [one.routed.held for one in left])

    def _still_open(self, shard: ShardNumber, ready: Sequence[Ready]) -> Sequence[Ready]:
        """An account that was shut since they were routed gets no more calls."""
        going = list[Ready]()
        for one in ready:
            if not self.health.is_shut(one.routed.account):
                going.append(one)
                continue
            held = one.routed.held
            through = self.health.route(one.routed.route, held)
            if isinstance(through, Through):
                going.append(replace(one, routed=replace(one.routed, account=through.account)))
            else:
                self.settle.untried(shard, held, through)
        return going

    async def _mark(self, shard: ShardNumber, few: Sequence[Ready]) -> Sequence[Call]:
        issued_s = self.clock.boottime_s()
        held = [one.routed.held for one in few]
        accounts = [one.routed.account for one in few]
        try:
            marked = await self.dispatches.mark(shard, [one.id for one in held], [one.token for one in held], accounts)
        except Unavailable:
            self._mark_lost(shard, held)
            raise
        self.reach("after_mark")
        tries = {one.id: one.n for one in marked}
        if len(tries) < len(held):
            await self._give_back(shard, [one for one in held if one.id not in tries])
        return [Call(one, n, issued_s) for one in few if (n := tries.get(one.routed.held.id)) is not None]

    def _mark_lost(self, shard: ShardNumber, held: Sequence[Claimed]) -> None:
        """The mark may be committed although its answer was lost. Nothing was sent, and nobody else knows: said here,
        it spares a doubt. Where the mark was not committed, no such try exists and this changes nothing."""
        for one in held:
            again = Again(0.0, MARK_LOST, tried=one.tried)
            self.settle.put(shard, Settled(one.id, one.token, one.tries + 1, again, expires_at=one.expires_at))

    async def _give_back(self, shard: ShardNumber, untouched: Sequence[Claimed]) -> None:
        if untouched:
            ids, tokens = [one.id for one in untouched], [one.token for one in untouched]
            await self.dispatches.give_back(shard, ids, tokens)
            self.emit(ClaimsGivenBack(len(untouched)))


def _without_sender(held: Claimed) -> Again | Bury:
    """A sender that was made a moment before the notification may not be in this worker's catalog yet."""
    if held.age_s < _CATALOG_LAG_S:
        return Again(_LOOK_AGAIN_S, NO_SENDER, tried=held.tried)
    return Bury(NO_SENDER, f"no sender for {held.channel.name}")

"""Callbacks: from a change of status to a caller's system that knows of it, at least once.

claim, a few for each webhook → sign and post, concurrently → finish, many in one commit. Each webhook has places of its
own, so that one that is slow, or away, holds up nobody else.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import msgspec

from tidings.domain.callback import Disabled, Held, Notice, Posted, Webhook, event_of, notices_of, wait_s
from tidings.domain.events import CallbacksDropped, CallbacksPosted
from tidings.domain.ids import ShardNumber, slot_in
from tidings.pipeline.gather import Gather
from tidings.pipeline.receivers import Receivers
from tidings.ports import Callbacks, Catalogs, Clock, Emit, Finished, Listen, Post, Reach

_TOGETHER: Final = 200
_APART_S: Final = 0.01
_KEEP_UP_S: Final = 30.0
_DROP_BATCH: Final = 5_000
ADAPTER_FAULT: Final = "adapter_fault"


class CallbackLimits(msgspec.Struct, frozen=True):
    """``places``: calls under way for one webhook and shard. ``schedule_s`` are the waits before the second try and the
    later ones. ``poll_s``: the longest that a due callback is not looked at."""

    places: int
    schedule_s: Sequence[float]
    poll_s: float


@dataclass
class TellCallers:
    """Tells for all shards."""

    callbacks: Callbacks
    listen: Listen
    receivers: Receivers
    post: Post
    catalogs: Catalogs
    clock: Clock
    emit: Emit
    failure: Callable[[str, BaseException], object]
    new_token: Callable[[], int]
    luck: Callable[[], float]
    limits: CallbackLimits
    reach: Reach
    _under_way: Counter[tuple[ShardNumber, int]] = field(default_factory=Counter, init=False)
    _calls: set[asyncio.Task[None]] = field(default_factory=set, init=False)
    _freed: dict[ShardNumber, asyncio.Event] = field(default_factory=lambda: defaultdict(asyncio.Event), init=False)
    _kept_up: dict[ShardNumber, tuple[int, float]] = field(default_factory=dict, init=False)
    _gathers: dict[ShardNumber, Gather[Finished, None]] = field(default_factory=dict, init=False)

    async def round(self, shard: ShardNumber) -> None:
        """Starts what is due and finds a place."""
        await self._keep_up(shard)
        webhooks = self.catalogs().webhooks
        free = {one.id: n for one in webhooks.values() if one.enabled and (n := self._places(shard, one)) > 0}
        held = await self.callbacks.claim(shard, free, self.new_token()) if free else ()
        self.reach("after_callback_claim")
        for one in held:
            self._start(shard, one, webhooks[one.webhook])

    async def rest(self, shard: ShardNumber) -> None:
        """Until a place is free again, or it is time to look."""
        freed = self._freed[shard]
        with suppress(TimeoutError):
            await asyncio.wait_for(freed.wait(), self.limits.poll_s)
            await asyncio.sleep(_APART_S)
        freed.clear()

    async def look(self) -> None:
        """Learns how receivers are, and sees to it that the tenants of those that were disabled hear of it. One who
        dies in between leaves it to the next. Raises ``errors.Unavailable``."""
        await self.receivers.look()
        for one in await self.receivers.health.untold():
            await self._announce(one)
            await self.receivers.health.told(one)

    async def drain(self) -> None:
        """Returns when the calls under way have ended and that is stored."""
        while self._calls:
            await asyncio.wait(self._calls)
        await asyncio.gather(*(gather.drain() for gather in self._gathers.values()))

    async def _keep_up(self, shard: ShardNumber) -> None:
        """Tells the shard who listens, whenever that changes and now and then; what nobody waits for goes."""
        catalog, now_s = self.catalogs(), self.clock.boottime_s()
        version, again_s = self._kept_up.get(shard, (-1, 0.0))
        if version == catalog.version and now_s < again_s:
            return
        await self.listen(shard, catalog)
        dropped = batch = await self.callbacks.drop(shard, _DROP_BATCH)
        while batch == _DROP_BATCH:
            batch = await self.callbacks.drop(shard, _DROP_BATCH)
            dropped += batch
        if dropped:
            self.emit(CallbacksDropped(dropped, "no_receiver"))
        self._kept_up[shard] = (catalog.version, now_s + _KEEP_UP_S)

    async def _announce(self, disabled: Disabled) -> None:
        catalog = self.catalogs()
        if notices := notices_of(disabled, catalog.webhooks.values()):
            await self.callbacks.put(catalog.shard(slot_in(notices[0].id)), notices)

    def _places(self, shard: ShardNumber, webhook: Webhook) -> int:
        """One that fails is asked one at a time, so that it costs little while it is away."""
        if self.receivers.rests(webhook):
            return 0
        places = 1 if webhook.id in self.receivers.failing else self.limits.places
        return places - self._under_way[shard, webhook.id]

    def _start(self, shard: ShardNumber, held: Held, webhook: Webhook) -> None:
        self._under_way[shard, webhook.id] += 1
        task = asyncio.get_running_loop().create_task(self._tell(shard, held, webhook))
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    async def _tell(self, shard: ShardNumber, held: Held, webhook: Webhook) -> None:
        try:
            posted = await self._posted(held, webhook)
        finally:
            self._under_way[shard, webhook.id] -= 1
            self._freed[shard].set()
        self.reach("after_callback_post")
        self.emit(CallbacksPosted({"told" if posted.ok else posted.code: 1}))
        self._finish(shard, Finished(held.id, held.token, self._again_s(held, posted)))
        await self.receivers.heard(webhook, posted)

    def _again_s(self, held: Held, posted: Posted) -> float | None:
        if posted.ok:
            return None
        after_s = wait_s(held.tries, self.limits.schedule_s, self.luck())
        if after_s is None:
            self.emit(CallbacksDropped(1, "tries_used"))
            return None
        return max(after_s, posted.after_s)

    async def _posted(self, held: Held, webhook: Webhook) -> Posted:
        try:
            return await self.post(webhook, str(held.id), self._body(held), self.clock.now())
        except Exception as fault:  # the top of a call: the callback is tried again like any other
            self.emit(self.failure("callback", fault))
            return Posted(ok=False, code=ADAPTER_FAULT)

    def _body(self, held: Held) -> bytes:
        if isinstance(held, Notice):
            return held.body
        category = self.catalogs().categories_by_id.get(held.category or 0)
        return event_of(held, category.name if category else None)

    def _finish(self, shard: ShardNumber, row: Finished) -> None:
        """With the next commit; nobody waits. One that cannot be stored leaves holds that run out: told once more."""
        if shard not in self._gathers:

            async def flush(rows: Sequence[Finished]) -> Sequence[None]:
                await self.callbacks.finish(shard, rows)
                return [None] * len(rows)

            self._gathers[shard] = Gather(flush, _TOGETHER, 1, apart_s=_APART_S)
        self._gathers[shard].put(row)

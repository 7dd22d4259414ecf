"""Receivers: how callers' systems take their callbacks, and when one is no longer called."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from tidings.domain.callback import FAILING, GONE, Posted, Webhook
from tidings.domain.errors import Unavailable
from tidings.domain.events import StorageAway, WebhookDisabled
from tidings.ports import Clock, Emit, Failing, WebhookHealth


@dataclass
class Receivers:
    """What all processes know of their health. One that has failed for ``disable_after_s`` and fails again is disabled,
    and so is one that says that it is gone. Without the control database nothing is learnt, and nobody is disabled. One
    that asks for a pause has it, from this process; its address is what counts, so that another one begins anew."""

    health: WebhookHealth
    clock: Clock
    emit: Emit
    disable_after_s: float
    failing: Mapping[int, Failing] = field(default_factory=dict, init=False)
    _succeeded_at: dict[int, datetime] = field(default_factory=dict, init=False)
    _rests_until_s: dict[tuple[int, str], float] = field(default_factory=dict, init=False)

    async def look(self) -> None:
        """Learns what others have found, and corrects them where they are behind. Raises ``errors.Unavailable``."""
        found = await self.health.failing()
        ours = self._succeeded_at
        behind = [id_ for id_, one in found.items() if id_ in ours and ours[id_] > one.since]
        self.failing = {id_: one for id_, one in found.items() if id_ not in behind}
        for id_ in behind:
            await self.health.recovered(id_)

    def rests(self, webhook: Webhook) -> bool:
        """Whether it asked not to be called now."""
        until_s = self._rests_until_s.get((webhook.id, webhook.url))
        return until_s is not None and self.clock.boottime_s() < until_s

    async def heard(self, webhook: Webhook, posted: Posted) -> None:
        """One call more."""
        if posted.after_s:
            self._rests_until_s[webhook.id, webhook.url] = self.clock.boottime_s() + posted.after_s
        try:
            if posted.ok:
                await self._succeeded(webhook)
            elif posted.gone:
                self._disabled(webhook, GONE, done=await self.health.disable_gone(webhook.id, webhook.url))
            else:
                await self._failed(webhook, posted.code)
        except Unavailable:
            self.emit(StorageAway("webhooks"))

    async def _succeeded(self, webhook: Webhook) -> None:
        self._succeeded_at[webhook.id] = self.clock.now()
        if webhook.id in self.failing:
            self.failing = {id_: one for id_, one in self.failing.items() if id_ != webhook.id}
            await self.health.recovered(webhook.id)

    async def _failed(self, webhook: Webhook, code: str) -> None:
        known, now = self.failing.get(webhook.id), self.clock.now()
        if known is None or known.code != code:
            since = known.since if known else now
            self.failing = {**self.failing, webhook.id: Failing(since, code)}
            await self.health.failed(webhook.id, code)
        elif (now - known.since).total_seconds() >= self.disable_after_s:
            done = await self.health.disable_failing(webhook.id, self.disable_after_s)
            self._disabled(webhook, FAILING, done=done)

    def _disabled(self, webhook: Webhook, because: str, *, done: bool) -> None:
        if done:
            self.emit(WebhookDisabled(webhook.id, because))

"""A process shows that it is there, and looks whether a relay is."""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from tidings.domain.overview import NO_RELAY
from tidings.domain.presence import RELAY, Present
from tidings.ports import Clock, RollCall
from tidings.runtime.telemetry import Telemetry, failure

_SHOWN_EVERY_S: Final = 1.0


@dataclass
class Presence:
    """``lanes`` are those that this process serves, by name. What it has done is what ``telemetry`` counted."""

    roll: RollCall
    telemetry: Telemetry
    clock: Clock
    lanes: tuple[str, ...]
    started_at: datetime
    _no_relay: bool = field(default=False, init=False)

    @asynccontextmanager
    async def shown(self) -> AsyncIterator[None]:
        """For the length of a block."""
        showing = asyncio.create_task(self._keep())
        try:
            yield
        finally:
            showing.cancel()
            await asyncio.gather(showing, return_exceptions=True)
            await self.roll.leave(self._present())

    def warnings(self) -> Sequence[str]:
        """What is wrong with the system around, as far as this process can see."""
        return [NO_RELAY] if self._no_relay else []

    async def _keep(self) -> None:
        while True:
            await self._look()
            await asyncio.sleep(_SHOWN_EVERY_S)

    async def _look(self) -> None:
        try:
            await self.roll.show(self._present())
            relays = await self.roll.read(RELAY)
            self._no_relay = relays is not None and not relays
        except Exception as fault:  # the top of a loop: who is there is worth no delivery
            self.telemetry.emit(failure("presence", fault))

    def _present(self) -> Present:
        counted = self.telemetry.counted
        return Present(
            role=self.telemetry.role,
            host=os.uname().nodename,
            pid=os.getpid(),
            started_at=self.started_at,
            at=self.clock.now(),
            lanes=self.lanes,
            accepted=counted("tidings_accepted")[""],
            claimed=counted("tidings_claimed"),
            left=counted("tidings_left"),
            sent=counted("tidings_sent"),
        )

"""What goes wrong on demand, one fault at a time for each provider."""

import asyncio
import contextlib
import random
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Final, Protocol

import msgspec
from msgspec import Meta

SLOW_MS: Final = 1000

Share = Annotated[float, Meta(gt=0, le=1)]


class FaultKind(StrEnum):
    """What a provider can do wrong. Nothing is taken, unless the name says ``accept``, or when ``slow``."""

    down = "down"
    refuse = "refuse"
    slow = "slow"
    rate_limit = "rate_limit"
    error = "error"
    accept_then_error = "accept_then_error"
    accept_then_hang = "accept_then_hang"
    accept_then_reset = "accept_then_reset"
    reset = "reset"
    garbage = "garbage"
    bad_address = "bad_address"
    unauthorized = "unauthorized"


TAKES: Final[Mapping[FaultKind, str | None]] = {
    FaultKind.slow: None,
    FaultKind.accept_then_error: None,
    FaultKind.accept_then_hang: "hang",
    FaultKind.accept_then_reset: "reset",
}
"""Those under which a message is taken, and what the ledger notes in place of an answer where there is none."""


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``share`` of the calls are hit; ``delay_ms`` passes before the answer; after ``for_s`` it is over by itself.

    ``status`` replaces the usual one of the answer. ``retry_after_s`` is what the client is told to wait.
    """

    fault: FaultKind
    share: Share = 1.0
    status: Annotated[int, Meta(ge=200, le=599)] | None = None
    delay_ms: Annotated[int, Meta(ge=0)] | None = None
    retry_after_s: Annotated[float, Meta(ge=0)] | None = None
    for_s: Annotated[float, Meta(gt=0)] | None = None

    def __post_init__(self) -> None:
        if self.fault == FaultKind.down and self.share < 1:
            raise ValueError("down takes no share: a listener is there or it is not")

    @property
    def delay_s(self) -> float:
        usual_ms = SLOW_MS if self.fault == FaultKind.slow else 0
        return (usual_ms if self.delay_ms is None else self.delay_ms) / 1000


class Shutter(Protocol):
    """What ``down`` closes and its end opens again."""

    async def open(self) -> None: ...

    async def shut(self) -> None: ...


class Faults:
    """The fault in force at each provider."""

    def __init__(self) -> None:
        self._in_force: dict[str, Fault] = {}
        self._ends: dict[str, asyncio.Task[None]] = {}
        self._shutters: dict[str, Shutter] = {}

    def watch(self, provider: str, shutter: Shutter) -> None:
        """From now on ``down`` shuts this."""
        self._shutters[provider] = shutter

    def at(self, provider: str) -> Fault | None:
        return self._in_force.get(provider)

    def draw(self, provider: str) -> Fault | None:
        """The fault that hits this call, None for most."""
        fault = self._in_force.get(provider)
        if fault is None or (fault.share < 1 and random.random() >= fault.share):
            return None
        return fault

    async def put(self, provider: str, fault: Fault) -> None:
        """Replaces the fault in force. When it returns, ``down`` is down."""
        await self.clear(provider)
        self._in_force[provider] = fault
        if fault.fault == FaultKind.down and provider in self._shutters:
            await self._shutters[provider].shut()
        if fault.for_s is not None:
            self._ends[provider] = asyncio.create_task(self._end(provider, fault.for_s))

    async def clear(self, provider: str) -> None:
        """When it returns, the provider answers again. No fault in force is no error."""
        if end := self._ends.pop(provider, None):
            end.cancel()
        fault = self._in_force.pop(provider, None)
        if fault and fault.fault == FaultKind.down and provider in self._shutters:
            await self._shutters[provider].open()

    async def close(self) -> None:
        """Ends what waits for its ``for_s``."""
        for end in self._ends.values():
            end.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await end

    async def _end(self, provider: str, after_s: float) -> None:
        await asyncio.sleep(after_s)
        # Out of the way first: clear() would cancel the very task that it runs in.
        self._ends.pop(provider)
        await self.clear(provider)

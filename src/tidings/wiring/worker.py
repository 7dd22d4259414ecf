"""A worker, from settings to one that runs."""

from collections.abc import Sequence
from typing import Final

from tidings.channels.registry import COUNTRIES
from tidings.domain.breaker import BreakerRules
from tidings.domain.lanes import Lane, lane_name, lane_named, sending_lanes
from tidings.pipeline.backlog import Backlog
from tidings.pipeline.charge import Charges
from tidings.pipeline.deliver import Deliver, DeliverLimits
from tidings.pipeline.health import Health
from tidings.pipeline.line_up import LineUp
from tidings.pipeline.room import Room
from tidings.pipeline.send import Send, SendLimits
from tidings.runtime.telemetry import adapter_fault
from tidings.runtime.worker import Worker
from tidings.storage.dispatches import DispatchStore
from tidings.storage.lines import LineStore
from tidings.storage.shards import BY_ID, Shards
from tidings.wiring.core import Core, board_of, renderer_of, settle_of

_LINED_UP_TOGETHER: Final = 5_000


async def build_worker(core: Core) -> tuple[Worker, Shards]:
    """A worker, and the shards it must reach to be ready."""
    settings, durability = core.settings.worker, core.settings.durability
    quick = await core.shards(8, durability.claim, BY_ID)
    durable = await core.shards(4, durability.mark, BY_ID)
    dispatches = DispatchStore(quick, durable, settings.lease_s, settings.send_reserve_s, core.emit)
    settle, health = settle_of(core, dispatches), health_of(core)
    send = Send(
        providers=core.providers,
        health=health,
        settle=settle,
        charges=Charges(core.catalog, {name: plugin.units for name, plugin in core.channels.items()}, COUNTRIES),
        clock=core.clock,
        emit=core.emit,
        adapter_fault=adapter_fault,
        luck=core.random.luck,
        limits=SendLimits(settings.fence_s, settings.retry_schedule_s),
        room=Room(settings.concurrency, lanes_of(settings.lanes)),
        reach=core.reach,
    )
    deliver = Deliver(
        dispatches=dispatches,
        settle=settle,
        health=health,
        send=send,
        renderer=renderer_of(core),
        shapes={name: plugin.shape for name, plugin in core.channels.items()},
        countries=COUNTRIES,
        catalogs=core.catalog,
        clock=core.clock,
        emit=core.emit,
        new_token=core.random.token,
        limits=DeliverLimits(settings.claim_limit, settings.mark_limit, settings.quarantine_after_claims),
        reach=core.reach,
    )
    worker = Worker(
        deliver=deliver,
        line_up=LineUp(LineStore(quick), health, core.hints, core.clock, core.emit, quick.numbers, _LINED_UP_TOGETHER),
        hints=core.hints,
        board=board_of(core),
        shards=quick.numbers,
        lanes=lanes_of(settings.lanes),
        emit=core.emit,
        clock=core.clock,
        poll_s=settings.poll_s,
        gather_s=settings.gather_s,
        drain_s=settings.drain_s,
    )
    return worker, quick


def health_of(core: Core) -> Health:
    settings, breaker = core.settings.worker, core.settings.breaker
    rules = BreakerRules(
        failures=breaker.failures,
        failures_s=breaker.failures_s,
        share=breaker.share,
        share_of=breaker.share_of,
        window_s=breaker.window_s,
        open_s=breaker.open_s,
        open_most_s=breaker.open_most_s,
        probe_s=settings.send_reserve_s,
    )
    backlog = Backlog(core.catalog, core.clock, core.random.token(), settings.drain_per_s)
    return Health(core.catalog, core.clock, core.emit, rules, settings.account_pause_s, backlog)


def lanes_of(names: Sequence[str]) -> Sequence[Lane]:
    """Raises ValueError for a lane that does not exist."""
    lanes = [lane_named(name) for name in names] or sending_lanes()
    if parked := [lane_name(lane) for lane in lanes if lane not in sending_lanes()]:
        raise ValueError(f"{', '.join(parked)} holds parked work, which no worker serves")
    return lanes

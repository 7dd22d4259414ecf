"""A relay, from settings to one that runs."""

from functools import partial
from math import ceil
from typing import Final

from tidings.domain.doubt import Doubts
from tidings.pipeline.callbacks import CallbackLimits, TellCallers
from tidings.pipeline.doubt import ResolveDoubt
from tidings.pipeline.lookout import Lookout
from tidings.pipeline.receivers import Receivers
from tidings.pipeline.sweep import Sweep
from tidings.runtime.relay import Relay
from tidings.runtime.telemetry import adapter_fault, failure
from tidings.storage.accepting import AcceptStore
from tidings.storage.callbacks import CallbackStore, ListenerStore
from tidings.storage.dispatches import DispatchStore
from tidings.storage.doubts import DoubtFigures
from tidings.storage.figures import Figures
from tidings.storage.migrate import make_partitions
from tidings.storage.receipts import ReceiptStore
from tidings.storage.shards import BY_ID, Shards
from tidings.storage.suppressions import SuppressionStore
from tidings.wiring.core import Core, post_of, settle_of
from tidings.wiring.hints import lag_of

_DOUBTS_TOGETHER: Final = 200
_LEASE_MORE_S: Final = 2.0


async def build_relay(core: Core) -> tuple[Relay, Shards]:
    """A relay, and the shards it must reach to be ready."""
    settings = core.settings
    quick = await core.shards(4, settings.durability.settle, BY_ID)
    plain = await core.shards(2, settings.durability.settle, {})
    dispatches = DispatchStore(quick, quick, settings.worker.lease_s, settings.worker.send_reserve_s)
    doubt = ResolveDoubt(
        dispatches=dispatches,
        receipts=ReceiptStore(quick, core.address_hash),
        settle=settle_of(core, dispatches),
        providers=core.providers,
        catalogs=core.catalog,
        hints=core.hints,
        emit=core.emit,
        adapter_fault=adapter_fault,
        new_token=core.random.token,
        clock=core.clock,
        rules=Doubts(settings.doubt.settle_s, settings.doubt.look_up_s, settings.worker.retry_schedule_s),
        limit=_DOUBTS_TOGETHER,
    )
    keys = AcceptStore(plain, settings.retention.idempotency_s, settings.retention.deduplication_s)
    callbacks = CallbackStore(quick, plain, 2 * settings.webhooks.timeout_s + _LEASE_MORE_S)
    sweep = Sweep(
        empty_keys=keys.empty_keys,
        make_partitions=partial(make_partitions, plain),
        spread=SuppressionStore(plain).spread,
        in_doubt=DoubtFigures(quick).standing,
        owed=callbacks.owed,
        catalogs=core.catalog,
        clock=core.clock,
        emit=core.emit,
        keys_batch=settings.relay.keys_empty_batch,
        ahead_days=settings.relay.partitions_ahead_days,
        figures_s=settings.relay.figures_s,
    )
    relay = Relay(
        doubt=doubt,
        sweep=sweep,
        lookout=Lookout(Figures(quick).lanes, core.roll, lag_of(settings), quick.numbers, core.emit),
        callers=_callers_of(core, callbacks, plain),
        hints=core.hints,
        shards=quick.numbers,
        emit=core.emit,
        sweep_s=settings.relay.sweep_s,
        figures_s=settings.relay.figures_s,
    )
    return relay, quick


def _callers_of(core: Core, callbacks: CallbackStore, plain: Shards) -> TellCallers:
    settings = core.settings.webhooks
    places = ceil(settings.concurrency / max(1, len(plain.numbers)))
    return TellCallers(
        callbacks=callbacks,
        listen=ListenerStore(plain).listen,
        receivers=Receivers(core.webhooks, core.clock, core.emit, settings.disable_after_s),
        post=post_of(core),
        catalogs=core.catalog,
        clock=core.clock,
        emit=core.emit,
        failure=failure,
        new_token=core.random.token,
        luck=core.random.luck,
        limits=CallbackLimits(places, settings.retry_schedule_s, settings.poll_s),
        reach=core.reach,
    )

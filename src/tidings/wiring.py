"""The only module that knows all concrete classes: from settings to a role that runs."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
from starlette.types import ASGIApp

from tidings.channels.base import Plugin
from tidings.channels.registry import build_channels
from tidings.domain.catalog import Account
from tidings.domain.doubt import Doubts
from tidings.domain.ids import TenantId
from tidings.domain.lanes import Channel, Lane, lane_named, sending_lanes
from tidings.hints.poll import Unwoken, WakeByValkey
from tidings.pipeline.accept import Accept, AcceptLimits
from tidings.pipeline.deliver import Deliver, DeliverLimits
from tidings.pipeline.doubt import ResolveDoubt
from tidings.pipeline.receipts import FileReceipts
from tidings.pipeline.room import Room
from tidings.pipeline.send import Send, SendLimits
from tidings.pipeline.settle import Settle
from tidings.pipeline.sweep import Sweep
from tidings.ports import Emit, Hints, Provider, Reach
from tidings.providers import registry as providers
from tidings.runtime.catalog import CatalogCache, LiveProviders
from tidings.runtime.clock import RandomSource, SystemClock
from tidings.runtime.faults import kill_once, nowhere
from tidings.runtime.ops import Check, Ops
from tidings.runtime.relay import Relay
from tidings.runtime.renderer import ChildRenderer, RendererSettings
from tidings.runtime.renderer_wire import Limits as RenderLimits
from tidings.runtime.telemetry import Telemetry, adapter_fault, failure
from tidings.runtime.worker import Worker
from tidings.settings import Settings, pairs
from tidings.storage.accepting import AcceptStore
from tidings.storage.control import Control
from tidings.storage.dispatches import DispatchStore
from tidings.storage.migrate import make_partitions, migrate
from tidings.storage.people import People
from tidings.storage.queries import Queries
from tidings.storage.receipts import ReceiptStore
from tidings.storage.secrets import Secrets
from tidings.storage.shards import BY_ID, ONE_PLAN, Shards, open_pool
from tidings.web.app import build_app
from tidings.web.edge import Edge, Limits

_SETTLE_BATCH: Final = 200
_SIDE_BY_SIDE: Final = 2
_DOUBTS_TOGETHER: Final = 200
_START_AGAIN_S: Final = 0.5


@dataclass
class Core:
    """What every role has."""

    settings: Settings
    telemetry: Telemetry
    stack: AsyncExitStack
    secrets: Secrets
    control: Control
    catalog: CatalogCache
    providers: LiveProviders
    hints: Hints
    clock: SystemClock
    random: RandomSource
    reach: Reach
    channels: Mapping[Channel, Plugin]

    def address_hash(self, tenant: TenantId, channel: Channel, address: str) -> bytes:
        """Equal for addresses that reach the same recipient. A channel that is not served has no rules for that."""
        plugin = self.channels.get(channel)
        return self.secrets.address_hash(tenant, channel, plugin.same(address) if plugin else address)

    @property
    def emit(self) -> Emit:
        return self.telemetry.emit

    async def shards(self, size: int, commit: str, plan: Mapping[str, str]) -> Shards:
        """Pools whose commits are as durable as ``commit`` (a value of synchronous_commit) says."""
        dsns = self.settings.shard_dsns
        shards = await Shards.open(dsns, size, {**plan, "synchronous_commit": commit})
        self.stack.push_async_callback(shards.close)
        return shards


@asynccontextmanager
async def core(settings: Settings, telemetry: Telemetry, *, listen: bool = False) -> AsyncIterator[Core]:
    """``listen``: somebody here waits for hints. Waits for the control database when it is not there yet."""
    async with AsyncExitStack() as stack:
        secrets = Secrets(settings.master_key)
        pool = await open_pool(settings.control_dsn, 4, {})
        stack.callback(pool.terminate)
        control = Control(pool, secrets)
        catalog = CatalogCache(control.catalog, control.version, telemetry.emit)
        await _loaded(catalog)
        following = asyncio.create_task(catalog.follow())
        stack.callback(following.cancel)
        live = LiveProviders(catalog, partial(_provider, settings, catalog), telemetry.emit)
        stack.push_async_callback(live.close)
        yield Core(
            settings=settings,
            telemetry=telemetry,
            stack=stack,
            secrets=secrets,
            control=control,
            catalog=catalog,
            providers=live,
            hints=await _hints(settings, stack, listen=listen),
            clock=SystemClock(),
            random=RandomSource(),
            reach=kill_once(Path(settings.test.fault_file)) if settings.test.fault_file else nowhere,
            channels=build_channels(),
        )


def _provider(settings: Settings, catalog: CatalogCache, account: Account) -> Provider:
    """What an account does not set itself is set for all of them, and a test tenant's goes to the sandbox whatever it
    says. Raises ValueError."""
    usual, forced = settings.worker, dict[str, str]()
    if catalog().tenants[account.tenant].twin_of is not None:
        forced = {"url": _sandbox_url(settings, account.kind)}
    common = {
        # As many as there may be calls: one that waits here for its turn outlives its mark.
        "connections": str(usual.concurrency),
        "timeout_s": str(usual.provider_timeout_s),
        "connect_timeout_s": str(usual.connect_timeout_s),
        "pause_s": str(usual.account_pause_s),
    }
    return providers.build(msgspec.structs.replace(account, settings={**common, **account.settings, **forced}))


def _sandbox_url(settings: Settings, kind: str) -> str:
    url = pairs(settings.sandbox_providers).get(kind)
    if url is None:
        raise ValueError(f"a test tenant sends to the sandbox only, and there is none for {kind}")
    return url


def _flaw(settings: Settings, catalog: CatalogCache, account: Account) -> str | None:
    """Why no provider can be made of this account."""
    try:
        _provider(settings, catalog, account)
    except ValueError as fault:
        return str(fault)
    return None


async def _loaded(catalog: CatalogCache) -> None:
    while True:
        try:
            return await catalog.load()
        except OSError:
            await asyncio.sleep(_START_AGAIN_S)


async def _hints(settings: Settings, stack: AsyncExitStack, *, listen: bool) -> Hints:
    if not settings.valkey_url:
        return Unwoken()
    hints = WakeByValkey(settings.valkey_url)
    hints.start(listen=listen)
    stack.push_async_callback(hints.close)
    return hints


async def build_api(core: Core) -> tuple[ASGIApp, Accept, Shards]:
    """The HTTP edge, the acceptor behind it to drain before the end, and the shards it must reach to be ready."""
    settings, durability = core.settings, core.settings.durability
    lock_timeout = {"lock_timeout": f"{int(settings.api.lock_timeout_s * 1000)}ms"}
    side_by_side = settings.api.flushes_side_by_side
    accepting = await core.shards(side_by_side + 1, durability.accept, {**ONE_PLAN, **lock_timeout})
    filing = await core.shards(_SIDE_BY_SIDE + 1, durability.receipts, ONE_PLAN)
    plain = await core.shards(4, durability.accept, {"statement_timeout": "10s"})
    accept = Accept(
        acceptor=AcceptStore(accepting, settings.retention.idempotency_s, settings.retention.deduplication_s),
        hints=core.hints,
        catalogs=core.catalog,
        clock=core.clock,
        emit=core.emit,
        random_bits=core.random.bits_62,
        address_hash=core.address_hash,
        limits=AcceptLimits(settings.api.flush_max, side_by_side, settings.api.deadline_s),
        reach=core.reach,
    )
    edge = Edge(
        catalogs=core.catalog,
        accept=accept,
        file_receipts=FileReceipts(ReceiptStore(filing), core.control.file_stray, core.catalog, core.emit),
        dispatches=DispatchStore(plain, plain, settings.worker.lease_s, settings.worker.send_reserve_s),
        queries=Queries(plain, core.catalog),
        people=People(plain, core.catalog, core.address_hash),
        control=core.control,
        providers=core.providers,
        kinds={name: kind.channel for name, kind in providers.KINDS.items()},
        channels=core.channels,
        check_account=partial(_flaw, settings, core.catalog),
        check_template=_renderer(core).check,
        reload=core.catalog.load,
        clock=core.clock,
        pepper=core.secrets.pepper,
        emit=core.emit,
        failure=failure,
        ops=Ops(checks(accepting), core.telemetry.exposition, settings.ops.ready_timeout_s),
        limits=Limits(settings.api.max_body_bytes, settings.api.max_batch_body_bytes, batch=settings.api.max_batch),
    )
    return build_app(edge), accept, accepting


def _renderer(core: Core) -> ChildRenderer:
    worker = core.settings.worker
    limits = RenderLimits(cpu_s=worker.render_cpu_s, memory_bytes=worker.render_memory_bytes)
    renderer = ChildRenderer(core.control.template_source, core.emit, RendererSettings(limits))
    core.stack.push_async_callback(renderer.close)
    return renderer


async def build_worker(core: Core) -> tuple[Worker, Shards]:
    """A worker, and the shards it must reach to be ready."""
    settings, durability = core.settings.worker, core.settings.durability
    quick = await core.shards(8, durability.claim, BY_ID)
    durable = await core.shards(4, durability.mark, BY_ID)
    dispatches = DispatchStore(quick, durable, settings.lease_s, settings.send_reserve_s)
    settle = _settle(core, dispatches)
    send = Send(
        providers=core.providers,
        settle=settle,
        clock=core.clock,
        emit=core.emit,
        adapter_fault=adapter_fault,
        luck=core.random.luck,
        limits=SendLimits(settings.fence_s, settings.account_pause_s, settings.retry_schedule_s),
        room=Room(settings.concurrency),
        reach=core.reach,
    )
    deliver = Deliver(
        dispatches=dispatches,
        settle=settle,
        send=send,
        renderer=_renderer(core),
        shapes={name: plugin.shape for name, plugin in core.channels.items()},
        catalogs=core.catalog,
        clock=core.clock,
        emit=core.emit,
        new_token=core.random.token,
        limits=DeliverLimits(settings.claim_limit, settings.mark_limit, settings.quarantine_after_claims),
        reach=core.reach,
    )
    worker = Worker(
        deliver=deliver,
        hints=core.hints,
        shards=quick.numbers,
        lanes=lanes_of(settings.lanes),
        emit=core.emit,
        poll_s=settings.poll_s,
        drain_s=settings.drain_s,
    )
    return worker, quick


def lanes_of(names: Sequence[str]) -> Sequence[Lane]:
    """Raises ValueError for a lane that does not exist."""
    return [lane_named(name) for name in names] or sending_lanes()


def _settle(core: Core, dispatches: DispatchStore) -> Settle:
    lease_s = core.settings.worker.lease_s
    return Settle(dispatches, core.clock, core.emit, _SETTLE_BATCH, _SIDE_BY_SIDE, patience_s=lease_s)


async def build_relay(core: Core) -> tuple[Relay, Shards]:
    """A relay, and the shards it must reach to be ready."""
    settings = core.settings
    quick = await core.shards(4, settings.durability.settle, BY_ID)
    plain = await core.shards(2, settings.durability.settle, {})
    dispatches = DispatchStore(quick, quick, settings.worker.lease_s, settings.worker.send_reserve_s)
    doubt = ResolveDoubt(
        dispatches=dispatches,
        receipts=ReceiptStore(quick),
        settle=_settle(core, dispatches),
        providers=core.providers,
        catalogs=core.catalog,
        hints=core.hints,
        emit=core.emit,
        new_token=core.random.token,
        clock=core.clock,
        rules=Doubts(settings.doubt.settle_s, settings.doubt.look_up_s, settings.worker.retry_schedule_s),
        limit=_DOUBTS_TOGETHER,
    )
    keys = AcceptStore(plain, settings.retention.idempotency_s, settings.retention.deduplication_s)
    sweep = Sweep(
        empty_keys=keys.empty_keys,
        make_partitions=partial(make_partitions, plain),
        clock=core.clock,
        emit=core.emit,
        keys_batch=settings.relay.keys_empty_batch,
        ahead_days=settings.relay.partitions_ahead_days,
    )
    return Relay(doubt, sweep, core.hints, quick.numbers, core.emit, settings.relay.sweep_s), quick


def checks(shards: Shards) -> Mapping[str, Check]:
    """What ``/readyz`` really tries."""

    def check(shard: int) -> Check:
        async def answers() -> None:
            await shards.fetch(shards.numbers[shard], "SELECT 1")

        return answers

    return {f"shard_{shard}": check(shard) for shard in shards.numbers}


async def migrate_all(settings: Settings) -> Mapping[str, Sequence[str]]:
    """Applies what is missing in the control database and every shard, and spreads the slots on the first run."""
    applied = {"control": await migrate(settings.control_dsn, "control")}
    for number, dsn in enumerate(settings.shard_dsns):
        applied[f"shard {number}"] = await migrate(dsn, "shard")
    shards = await Shards.open(settings.shard_dsns, 1, {})
    pool = await open_pool(settings.control_dsn, 1, {})
    try:
        for shard in shards.numbers:
            await make_partitions(shards, shard, settings.relay.partitions_ahead_days)
        await Control(pool, Secrets(settings.master_key)).spread_slots(len(settings.shard_dsns))
    finally:
        await shards.close()
        pool.terminate()
    return applied


@asynccontextmanager
async def control_of(settings: Settings) -> AsyncIterator[Control]:
    """The control database, for commands."""
    pool = await open_pool(settings.control_dsn, 2, {})
    try:
        yield Control(pool, Secrets(settings.master_key))
    finally:
        pool.terminate()

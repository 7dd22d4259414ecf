"""What every role has, and the parts that more than one of them uses."""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from tidings.channels.base import Plugin
from tidings.channels.registry import build_channels
from tidings.domain.catalog import Account, receipts_url
from tidings.domain.egress import Egress
from tidings.domain.errors import Unavailable
from tidings.domain.ids import TenantId
from tidings.domain.lanes import Channel, Lane, is_parked, lane_name
from tidings.limits.board import Wall
from tidings.pipeline.settle import Settle
from tidings.ports import Board, Emit, Hints, Provider, Reach, RollCall
from tidings.providers import registry as providers
from tidings.providers.callbacks import CallbackPost, PostLimits
from tidings.providers.wire_reach import Reach as WayOut
from tidings.runtime.catalog import CatalogCache, LiveProviders
from tidings.runtime.clock import RandomSource, SystemClock
from tidings.runtime.faults import kill_once, nowhere
from tidings.runtime.ops import Check
from tidings.runtime.presence import Presence
from tidings.runtime.renderer import ChildRenderer, RendererSettings
from tidings.runtime.renderer_wire import Limits as RenderLimits
from tidings.runtime.telemetry import Telemetry
from tidings.settings import Settings, pairs
from tidings.storage.control import Control
from tidings.storage.dispatches import DispatchStore
from tidings.storage.secrets import Secrets
from tidings.storage.shards import Shards, open_pool
from tidings.storage.webhooks import Webhooks
from tidings.wiring.boards import board_on, roll_call_on, wall_of
from tidings.wiring.hints import hints_of

_SETTLE_BATCH: Final = 200
_SIDE_BY_SIDE: Final = 2
_START_AGAIN_S: Final = 0.5


@dataclass
class Core:
    """What every role has."""

    settings: Settings
    telemetry: Telemetry
    stack: AsyncExitStack
    secrets: Secrets
    control: Control
    webhooks: Webhooks
    catalog: CatalogCache
    providers: LiveProviders
    hints: Hints
    clock: SystemClock
    random: RandomSource
    reach: Reach
    channels: Mapping[Channel, Plugin]
    wall: Wall | None
    roll: RollCall
    presence: Presence

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
async def core(settings: Settings, telemetry: Telemetry, takes: Sequence[Lane] = ()) -> AsyncIterator[Core]:
    """``takes``: the lanes that somebody here serves. Waits for the control database when it is not there yet."""
    async with AsyncExitStack() as stack:
        secrets = Secrets(settings.master_key)
        pool = await open_pool(settings.control_dsn, 4, {})
        stack.callback(pool.terminate)
        control = Control(pool, secrets)
        catalog = CatalogCache(control.catalog, control.version, telemetry.emit)
        await _loaded(catalog)
        following = asyncio.create_task(catalog.follow())
        stack.callback(following.cancel)
        call_s = settings.worker.provider_timeout_s + 1.0
        live = LiveProviders(catalog, partial(provider_of, settings, catalog), telemetry.emit, call_s)
        stack.push_async_callback(live.close)
        clock, wall = SystemClock(), wall_of(settings, stack)
        lanes, roll = tuple(lane_name(lane) for lane in takes if not is_parked(lane)), roll_call_on(wall)
        presence = Presence(roll, telemetry, clock, lanes, clock.now())
        await stack.enter_async_context(presence.shown())
        yield Core(
            settings=settings,
            telemetry=telemetry,
            stack=stack,
            secrets=secrets,
            control=control,
            webhooks=Webhooks(pool, secrets),
            catalog=catalog,
            providers=live,
            hints=hints_of(settings, takes, lambda slot: catalog().shard(slot), telemetry.emit, stack),
            clock=clock,
            random=RandomSource(),
            reach=kill_once(Path(settings.test.fault_file)) if settings.test.fault_file else nowhere,
            channels=build_channels(),
            wall=wall,
            roll=roll,
            presence=presence,
        )


def provider_of(settings: Settings, catalog: CatalogCache, account: Account) -> Provider:
    """What an account does not set itself is set for all of them, and a test tenant's goes to the sandbox whatever it
    says. Raises ValueError."""
    usual, forced = settings.worker, {"egress": msgspec.json.encode(egress_of(settings)).decode()}
    if catalog().tenants[account.tenant].twin_of is not None:
        forced |= _at_sandbox(settings, account.kind)
    common = {
        # As many as there may be calls: one that waits here for its turn outlives its mark.
        "connections": str(usual.concurrency),
        "timeout_s": str(usual.provider_timeout_s),
        "connect_timeout_s": str(usual.connect_timeout_s),
        "pause_s": str(usual.account_pause_s),
        "receipts_url": receipts_url(settings.public_url, account),
    }
    merged = {**common, **account.settings, **forced}
    for name in ("timeout_s", "connect_timeout_s"):  # an account may be more impatient than its worker, never less
        merged[name] = str(min(float(merged[name]), float(common[name])))
    return providers.build(msgspec.structs.replace(account, settings=merged))


def egress_of(settings: Settings) -> Egress:
    """Where calls may go whose address a tenant chose. The sandbox may be reached wherever it is."""
    urls = map(urlsplit, (settings.sandbox_url, *pairs(settings.sandbox_providers).values()))
    exempt = tuple(f"{url.hostname}:{url.port}" for url in urls if url.hostname)
    return Egress(settings.egress_allow, exempt, settings.egress_ports)


def _at_sandbox(settings: Settings, kind: str) -> Mapping[str, str]:
    """Where a test tenant sends, and that it is spoken with there as the address says: whatever ``tls`` an account asks
    for is about another server."""
    url = pairs(settings.sandbox_providers).get(kind)
    if url is None:
        raise ValueError(f"a test tenant sends to the sandbox only, and there is none for {kind}")
    return {"url": url, "tls": "none" if urlsplit(url).scheme == "smtp" else ""}


def flaw_of(settings: Settings, catalog: CatalogCache, account: Account) -> str | None:
    """Why no provider can be made of this account."""
    try:
        provider_of(settings, catalog, account)
    except ValueError as fault:
        return str(fault)
    return None


async def _loaded(catalog: CatalogCache) -> None:
    while True:
        try:
            return await catalog.load()
        except Unavailable:
            await asyncio.sleep(_START_AGAIN_S)


def board_of(core: Core) -> Board:
    return board_on(core.wall, f"{os.uname().nodename}-{os.getpid()}")


def renderer_of(core: Core) -> ChildRenderer:
    worker = core.settings.worker
    limits = RenderLimits(cpu_s=worker.render_cpu_s, memory_bytes=worker.render_memory_bytes)
    renderer = ChildRenderer(core.control.template_source, core.emit, RendererSettings(limits))
    core.stack.push_async_callback(renderer.close)
    return renderer


def post_of(core: Core) -> CallbackPost:
    """The way to callers' systems."""
    settings = core.settings
    webhooks, connect_s = settings.webhooks, settings.worker.connect_timeout_s
    limits = PostLimits(webhooks.concurrency, webhooks.timeout_s, connect_s, webhooks.retry_after_most_s)
    post = CallbackPost(WayOut(egress_of(settings)), limits)
    core.stack.callback(post.close)
    return post


def settle_of(core: Core, dispatches: DispatchStore) -> Settle:
    worker = core.settings.worker
    return Settle(
        dispatches,
        core.hints,
        core.catalog,
        core.clock,
        core.emit,
        _SETTLE_BATCH,
        _SIDE_BY_SIDE,
        patience_s=worker.lease_s,
        apart_s=worker.settle_gather_s,
    )


def checks(shards: Shards) -> Mapping[str, Check]:
    """What ``/readyz`` really tries."""

    def check(shard: int) -> Check:
        async def answers() -> None:
            await shards.fetch(shards.numbers[shard], "SELECT 1")

        return answers

    return {f"shard_{shard}": check(shard) for shard in shards.numbers}

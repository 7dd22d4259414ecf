"""The HTTP edge, from settings to an ASGI application."""

from functools import partial
from typing import Final

from starlette.types import ASGIApp

from tidings.pipeline.accept import Accept, AcceptLimits
from tidings.pipeline.check import CheckAccount
from tidings.pipeline.receipts import FileReceipts
from tidings.providers import registry as providers
from tidings.runtime.ops import Ops
from tidings.runtime.telemetry import failure
from tidings.settings_groups import ApiSettings
from tidings.storage.accepting import AcceptStore
from tidings.storage.callbacks import ListenerStore
from tidings.storage.dead_letters import DeadLetterStore
from tidings.storage.dispatches import DispatchStore
from tidings.storage.doubts import DoubtFigures
from tidings.storage.people import People
from tidings.storage.queries import Queries
from tidings.storage.receipts import ReceiptStore
from tidings.storage.shards import BY_ID, FEW_OF_MANY, ONE_PLAN, Shards
from tidings.storage.suppressions import SuppressionStore
from tidings.web.app import build_app
from tidings.web.edge import Edge, Limits
from tidings.wiring.core import Core, board_of, checks, egress_of, flaw_of, post_of, renderer_of

_SIDE_BY_SIDE: Final = 2


async def build_api(core: Core) -> tuple[ASGIApp, Accept, Shards]:
    """The HTTP edge, the acceptor behind it to drain before the end, and the shards it must reach to be ready."""
    settings, durability = core.settings, core.settings.durability
    lock_timeout = {"lock_timeout": f"{int(settings.api.lock_timeout_s * 1000)}ms"}
    side_by_side = settings.api.flushes_side_by_side
    accepting = await core.shards(side_by_side + 1, durability.accept, {**ONE_PLAN, **lock_timeout})
    filing = await core.shards(_SIDE_BY_SIDE + 1, durability.receipts, FEW_OF_MANY)
    plain = await core.shards(4, durability.accept, {"statement_timeout": "10s"})
    suppressions = SuppressionStore(plain)
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
    flaw, renderer = partial(flaw_of, settings, core.catalog), renderer_of(core)
    letters = await core.shards(2, durability.accept, {**BY_ID, "statement_timeout": "10s"})
    edge = Edge(
        catalogs=core.catalog,
        accept=accept,
        file_receipts=FileReceipts(
            receipts=ReceiptStore(filing, core.address_hash),
            suppressions=suppressions,
            strays=core.control.file_stray,
            catalogs=core.catalog,
            clock=core.clock,
            address_hash=core.address_hash,
            emit=core.emit,
        ),
        suppressions=suppressions,
        doubts=DoubtFigures(plain),
        address_hash=core.address_hash,
        dispatches=DispatchStore(plain, plain, settings.worker.lease_s, settings.worker.send_reserve_s),
        dead_letters=DeadLetterStore(letters, core.catalog),
        queries=Queries(plain, core.catalog),
        people=People(plain, core.catalog, core.address_hash),
        control=core.control,
        providers=core.providers,
        board=board_of(core),
        kinds={name: kind.channel for name, kind in providers.KINDS.items()},
        channels=core.channels,
        webhooks=core.webhooks,
        listen=ListenerStore(plain).everywhere,
        post=post_of(core),
        egress=egress_of(settings),
        secret_overlap_s=settings.webhooks.secret_overlap_s,
        check_account=flaw,
        try_account=CheckAccount(core.catalog, core.providers, flaw),
        check_template=renderer.check,
        renderer=renderer,
        reload=core.catalog.load,
        clock=core.clock,
        public_url=settings.public_url,
        pepper=core.secrets.pepper,
        emit=core.emit,
        failure=failure,
        ops=Ops(checks(accepting), core.telemetry.exposition, settings.ops.ready_timeout_s, core.presence.warnings),
        limits=limits_of(settings.api),
    )
    return build_app(edge), accept, accepting


def limits_of(api: ApiSettings) -> Limits:
    return Limits(
        body_bytes=api.max_body_bytes,
        batch_body_bytes=api.max_batch_body_bytes,
        batch=api.max_batch,
        body_deadline_s=api.body_deadline_s,
    )

"""What the edge is handed: all that it needs of the rest of the system, made in ``wiring``."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from tidings.domain.catalog import Account, Catalog
from tidings.domain.egress import Egress
from tidings.domain.lanes import Channel
from tidings.domain.outcome import Trouble
from tidings.domain.plan import AddressHash
from tidings.domain.template import Fault, TemplateSource
from tidings.ports import Board, Catalogs, Clock, Emit, Post, Providers, Renderer

if TYPE_CHECKING:
    from tidings.channels.base import Plugin
    from tidings.pipeline.accept import Accept
    from tidings.pipeline.receipts import FileReceipts
    from tidings.runtime.ops import Ops
    from tidings.storage.control import Control
    from tidings.storage.dead_letters import DeadLetterStore
    from tidings.storage.dispatches import DispatchStore
    from tidings.storage.doubts import DoubtFigures
    from tidings.storage.people import People
    from tidings.storage.queries import Queries
    from tidings.storage.suppressions import SuppressionStore
    from tidings.storage.webhooks import Webhooks


class Limits(msgspec.Struct, frozen=True):
    """Bounds on what comes in. ``waiting_max`` notifications may wait for a commit, and
    ``receipts_waiting_max`` calls of providers, before further ones are refused."""

    body_bytes: int = 262_144
    batch_body_bytes: int = 8_388_608
    receipts_body_bytes: int = 5_242_880
    batch: int = 1_000
    body_deadline_s: float = 10.0
    waiting_max: int = 20_000
    receipts_waiting_max: int = 200


@dataclass(frozen=True)
class Edge:
    """``kinds`` are the adapters that accounts may name. ``check_template`` compiles where a hostile template can do no
    harm, and answers what is wrong; ``check_account`` tries whether an adapter can be made of its settings, and
    ``try_account`` whether that can send. ``reload``
    reads the catalog again, so that who edits sees the edit. ``public_url`` is where the outside reaches us, without a
    slash at its end. ``failure`` makes an event of a bug. ``address_hash`` is what an address
    is found by. ``egress`` says which addresses webhooks may
    have, ``listen`` tells all shards who wants to hear of what."""

    catalogs: Catalogs
    accept: "Accept"
    file_receipts: "FileReceipts"
    dispatches: "DispatchStore"
    dead_letters: "DeadLetterStore"
    queries: "Queries"
    people: "People"
    suppressions: "SuppressionStore"
    doubts: "DoubtFigures"
    address_hash: AddressHash
    control: "Control"
    providers: Providers
    board: Board
    kinds: Mapping[str, Channel]
    channels: Mapping[Channel, "Plugin"]
    webhooks: "Webhooks"
    listen: Callable[[Catalog], Awaitable[None]]
    post: Post
    egress: Egress
    secret_overlap_s: float
    check_account: Callable[[Account], str | None]
    try_account: Callable[[Account], Awaitable[Trouble | None]]
    check_template: Callable[[TemplateSource], Awaitable[list[Fault]]]
    renderer: Renderer
    reload: Callable[[], Awaitable[None]]
    clock: Clock
    public_url: str
    pepper: bytes
    emit: Emit
    failure: Callable[[str, BaseException], object]
    ops: "Ops"
    limits: Limits = field(default_factory=Limits)

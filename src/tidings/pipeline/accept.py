"""Accept: from what was asked to what is durable, then the answer.

``plan`` (pure) → group by shard → one statement per shard, which carries whatever requests have gathered → answer after
the commit → a hint, not awaited. A commit is never cancelled: a client that goes away changes nothing.
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from tidings.domain import ids
from tidings.domain.catalog import Category
from tidings.domain.delivery import Status
from tidings.domain.errors import KeyReused, Refusal, Unavailable
from tidings.domain.ids import DeliveryId, NotificationId, ShardNumber, TenantId, UserId
from tidings.domain.lanes import Channel, lane_of
from tidings.domain.notification import Acceptance, Accepted, PlannedDelivery, Verdict
from tidings.ports import Acceptor, Catalogs, Clock, Emit, Hints
from tidings.domain.events import NotificationsAccepted
from tidings.pipeline.gather import Gather


class Asked(msgspec.Struct, frozen=True, gc=False):
    """One valid request for one recipient. ``addresses`` are in normal form and used for this notification only;
    ``user`` None means that the recipient is known by the first of them."""

    tenant: TenantId
    user: UserId | None
    addresses: dict[Channel, str]
    category: Category
    channels: tuple[Channel, ...]
    payload: bytes
    template_version: int | None = None
    sender: int | None = None
    reference: str | None = None
    key: str | None = None
    fingerprint: bytes | None = None
    deduplication: str | None = None
    send_at: datetime | None = None
    expires_after_s: float | None = None


class PlannedAnswer(msgspec.Struct, frozen=True, gc=False):
    """One delivery as it was planned."""

    id: DeliveryId
    channel: str
    status: Status
    due_at: datetime


class Answer(msgspec.Struct, frozen=True, gc=False):
    """What the caller is told. ``deliveries`` is None for a replay or a duplicate: the edge reads today's."""

    id: NotificationId
    status: Status
    deliveries: tuple[PlannedAnswer, ...] | None
    replayed: bool = False
    deduplicated: bool = False

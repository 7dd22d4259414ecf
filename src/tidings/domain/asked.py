"""A valid request, and what its caller is told."""

from datetime import datetime

import msgspec

from tidings.domain.catalog import Category
from tidings.domain.delivery import Status
from tidings.domain.ids import DeliveryId, NotificationId, TenantId, UserId
from tidings.domain.lanes import Channel

Addresses = dict[Channel, tuple[str, ...]]
"""In normal form. A channel that is named has at least one, and push alone may have more."""


class Asked(msgspec.Struct, frozen=True, gc=False):
    """One valid request for one recipient. ``addresses`` are used for this notification only; ``user`` None means that
    the recipient is known by the first of them. ``template`` is its name, "" for inline content. Expiry counts from
    ``send_at``, or from now."""

    tenant: TenantId
    user: UserId | None
    addresses: Addresses
    category: Category
    channels: tuple[Channel, ...]
    payload: bytes
    template: str = ""
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

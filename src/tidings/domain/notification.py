"""What a caller asked for, and what is stored of it."""

from collections.abc import Sequence
from datetime import datetime
from enum import IntEnum
from typing import Any

import msgspec

from tidings.domain.ids import DeliveryId, NotificationId, Slot, TenantId, UserId
from tidings.domain.lanes import Channel, Lane


class Content(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Inline content, or what a template became. All of it is text for people; ``html`` alone is markup."""

    subject: str | None = None
    text: str | None = None
    html: str | None = None
    title: str | None = None
    body: str | None = None
    channels: dict[str, dict[str, str]] | None = None


class Payload(msgspec.Struct, frozen=True, omit_defaults=True):
    """The part of a notification that only sending needs, stored as bytes under a key id."""

    data: dict[str, Any] = {}
    content: Content | None = None
    metadata: dict[str, str] | None = None
    reply_to: str | None = None


class PlannedDelivery(msgspec.Struct, frozen=True, gc=False):
    """``address`` None means: the user's own, looked up when it is sent. ``due_at`` None means now."""

    id: DeliveryId
    channel: Channel
    lane: Lane
    address: str | None
    address_hash: bytes | None
    due_at: datetime | None


class Acceptance(msgspec.Struct, frozen=True, gc=False):
    """One notification, planned and ready to be stored. Hashes are 16 bytes; None where the caller gave no key. When
    it expires is counted by the database, from ``send_at`` or from its own present: who sends asks no other clock."""

    id: NotificationId
    slot: Slot
    tenant: TenantId
    user: UserId
    category: int
    template_version: int | None
    sender: int | None
    reference: str | None
    payload: bytes
    key_hash: bytes | None
    fingerprint: bytes | None
    deduplication_hash: bytes | None
    send_at: datetime | None
    expires_after_s: float | None
    deliveries: Sequence[PlannedDelivery]


class Verdict(IntEnum):
    """What the shard did with an acceptance."""

    stored = 0
    replayed = 1
    deduplicated = 2
    conflict = 3


class Accepted(msgspec.Struct, frozen=True, gc=False):
    """``id`` is the first notification's where the key or the deduplication key was known. After a conflict
    ``fingerprint`` is what the key stands for."""

    id: NotificationId
    verdict: Verdict
    fingerprint: bytes | None = None

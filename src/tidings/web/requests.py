"""The bodies of the two hot endpoints, and their answers. The OpenAPI document is made from these types."""

from datetime import datetime
from typing import Annotated, Any, Final
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from tidings.domain.notification import Content
from tidings.domain.timing import Gap, Overlap
from tidings.web.problems import Problem

RECIPIENTS_MAX: Final = 100
YEAR_S: Final = 366 * 86_400

UserText = Annotated[str, Meta(min_length=1, max_length=128, pattern="^[^~]", description="A user id.")]
Name = Annotated[str, Meta(min_length=1, max_length=128)]
AddressText = Annotated[str, Meta(min_length=1, max_length=512)]
Key = Annotated[str, Meta(min_length=1, max_length=255)]
Instant = Annotated[datetime, Meta(tz=True)]


class Asks(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True, omit_defaults=True):
    """A request's body: a field that does not exist is refused, not ignored."""


class Recipient(Asks, frozen=True, kw_only=True):
    """A user id, or addresses, or both. Addresses given here are used for this notification only; beside a user id one
    that is unusable is left out."""

    user: UserText | None = None
    email: AddressText | None = None
    phone: AddressText | None = None
    whatsapp: AddressText | None = None
    push_tokens: Annotated[list[Annotated[str, Meta(min_length=1, max_length=4096)]], Meta(max_length=100)] | None = (
        None
    )
    zone: Name | None = None
    locale: Annotated[str, Meta(max_length=35)] | None = None


class WallTime(Asks, frozen=True, kw_only=True):
    """A time as clocks show it in a zone ("user": the one given in "to"), and what to do when clocks change."""

    local: Annotated[str, Meta(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d)?$", max_length=19)]
    zone: Name
    gap: Gap = "next_valid"
    overlap: Overlap = "first"


class Attachment(Asks, frozen=True, kw_only=True):
    name: Name
    type: Name
    content: str | None = None
    object: str | None = None


class _Message(Asks, frozen=True, kw_only=True, omit_defaults=True):
    """All of a request but its recipients."""

    template: Name | None = None
    content: Content | None = None
    data: dict[str, Any] = {}
    category: Name | None = None
    channels: Annotated[list[str], Meta(min_length=1, max_length=16)] | None = None
    deduplication_key: Key | None = None
    reference: Key | None = None
    send_at: Instant | WallTime | None = None
    expires_after_s: Annotated[float, Meta(gt=0, le=YEAR_S)] | None = None
    sender: Name | None = None
    reply_to: AddressText | None = None
    attachments: Annotated[list[Attachment], Meta(max_length=16)] | None = None
    metadata: Annotated[dict[str, Annotated[str, Meta(max_length=512)]], Meta(max_length=16)] | None = None


class NotificationRequest(_Message, frozen=True, kw_only=True):
    """To one recipient, or to a list of them; then the answer is that of a batch."""

    to: UserText | Recipient | Annotated[list[UserText | Recipient], Meta(min_length=1, max_length=RECIPIENTS_MAX)]


class BatchItem(_Message, frozen=True, kw_only=True):
    """One notification of a batch. Without a key of its own a key in the header counts as ``key:index``."""

    to: UserText | Recipient
    idempotency_key: Key | None = None


class BatchRequest(Asks, frozen=True, kw_only=True):
    """Up to 1,000 notifications. Each is accepted or refused by itself."""

    notifications: list[BatchItem]


class RawBatch(msgspec.Struct, forbid_unknown_fields=True):
    """The same with its items unread, so that a bad one does not spoil the others."""

    notifications: list[msgspec.Raw]


class DeliveryAnswer(msgspec.Struct, frozen=True):
    """``due_at`` is null once nothing is left to do."""

    id: UUID
    channel: str
    status: str
    due_at: str | None


class NotificationAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """``deduplicated``: the deduplication key was known, and ``id`` is the first notification's."""

    id: UUID
    status: str
    deliveries: tuple[DeliveryAnswer, ...]
    deduplicated: bool = False


class Result(msgspec.Struct, frozen=True):
    """What became of one notification of a batch: either a problem, or all the rest."""

    id: UUID | UnsetType = UNSET
    status: str | UnsetType = UNSET
    replayed: bool | UnsetType = UNSET
    deduplicated: bool | UnsetType = UNSET
    problem: Problem | UnsetType = UNSET


class BatchAnswer(msgspec.Struct, frozen=True):
    """``results`` has one entry for each notification, in order."""

    accepted: int
    refused: int
    results: list[Result]

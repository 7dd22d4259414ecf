"""Callbacks: what the systems of callers are told of their deliveries, signed as Standard Webhooks wants it.

An event carries ids and what the caller itself gave us to carry, never an address or a text.
"""

import base64
import hashlib
import hmac
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Final
from uuid import UUID

import msgspec
from xxhash import xxh3_64_intdigest

from tidings.domain.delivery import Mark
from tidings.domain.ids import DeliveryId, NotificationId, TenantId, UserId, compose, slot_of
from tidings.domain.lanes import Channel
from tidings.domain.retry import JITTER

EVENTS: Final[Mapping[str, Mark]] = MappingProxyType(
    {f"delivery.{mark.name}": mark for mark in Mark if mark is not Mark.pending}
)
"""Every event about a delivery, and the status that it tells."""

DISABLED: Final = "webhook.disabled"
NAMES: Final = (*EVENTS, DISABLED)
"""Every event that a webhook may want."""

TEST: Final = "webhook.test"
PREFIX: Final = "whsec_"
SECRET_BYTES: Final = 32

FAILING: Final = "failing"
GONE: Final = "gone"
BY_REQUEST: Final = "by_request"


class Signing(msgspec.Struct, frozen=True):
    """A secret, and until when it counts: None for the newest. Never shows itself."""

    secret: str
    until: datetime | None = None

    def __repr__(self) -> str:
        return f"Signing(until={self.until})"


class Webhook(msgspec.Struct, frozen=True):
    """Where one tenant's events go. ``events`` are some of ``NAMES``; ``signing`` has the newest secret first. A
    disabled one says why: ``failing``, ``gone`` or ``by_request``."""

    id: int
    tenant: TenantId
    name: str
    url: str
    events: tuple[str, ...]
    signing: tuple[Signing, ...]
    disabled_at: datetime | None = None
    disabled_because: str | None = None

    @property
    def enabled(self) -> bool:
        return self.disabled_at is None


class Wanted(msgspec.Struct, frozen=True):
    """What a webhook shall be. ``rotate``: it gets a new secret, and the old one counts until ``old_until``."""

    url: str
    events: Sequence[str]
    enabled: bool
    rotate: bool
    old_until: datetime


class Listener(msgspec.Struct, frozen=True, gc=False):
    """What a shard has to know of a webhook: the bit of each status that it wants to hear of; it may be none."""

    tenant: TenantId
    webhook: int
    events: int


def listeners(webhooks: Iterable[Webhook]) -> Sequence[Listener]:
    """Those that are enabled."""
    return [
        Listener(one.tenant, one.id, sum(1 << EVENTS[name] for name in one.events if name in EVENTS))
        for one in webhooks
        if one.enabled
    ]


class Callback(msgspec.Struct, frozen=True, gc=False):
    """One event for one webhook, held by ``token``; ``id`` stays the same however often it is told, ``tries`` were made
    before. What is known of the delivery is None once its history is gone."""

    id: UUID
    webhook: int
    token: int
    tries: int
    delivery: DeliveryId
    status: Mark
    reason: str | None
    at: datetime
    notification: NotificationId | None = None
    channel: Channel | None = None
    user: UserId | None = None
    category: int | None = None
    reference: str | None = None
    metadata: Mapping[str, str] | None = None


class Notice(msgspec.Struct, frozen=True, gc=False):
    """One event for one webhook that is about no delivery: ``body`` is told as it is. Held like a callback."""

    id: UUID
    webhook: int
    body: bytes
    token: int = 0
    tries: int = 0


Held = Callback | Notice


class Disabled(msgspec.Struct, frozen=True):
    """A webhook that is no longer called, since when and why."""

    webhook: int
    tenant: TenantId
    name: str
    at: datetime
    because: str


class Owed(msgspec.Struct, frozen=True):
    """What callers' systems are still to be told: how much of it, and for how long the oldest of it has been due."""

    waiting: int
    oldest_due_s: float


class _Data(msgspec.Struct, frozen=True):
    notification_id: UUID | None
    delivery_id: UUID
    user: str | None
    channel: str | None
    status: str
    reason: str | None
    category: str | None
    reference: str | None
    metadata: Mapping[str, str]


class _Event(msgspec.Struct, frozen=True):
    type: str
    timestamp: str
    data: _Data | Mapping[str, str]


def event_of(callback: Callback, category: str | None) -> bytes:
    """The body of the call, the same for every try. ``category`` is the name of the callback's."""
    data = _Data(
        notification_id=callback.notification,
        delivery_id=callback.delivery,
        user=callback.user,
        channel=callback.channel.name if callback.channel else None,
        status=callback.status.name,
        reason=callback.reason,
        category=category,
        reference=callback.reference,
        metadata=callback.metadata or {},
    )
    return msgspec.json.encode(_Event(f"delivery.{callback.status.name}", _stamp(callback.at), data))


def test_event(webhook: str, at: datetime) -> bytes:
    """What is told when somebody asks whether a webhook works."""
    return msgspec.json.encode(_Event(TEST, _stamp(at), {"webhook": webhook}))


def notices_of(disabled: Disabled, webhooks: Iterable[Webhook]) -> Sequence[Notice]:
    """For those of the tenant's others that want to hear of it. Their ids are the same whoever makes them."""
    body = msgspec.json.encode(
        _Event(DISABLED, _stamp(disabled.at), {"webhook": disabled.name, "disabled_because": disabled.because})
    )
    return [
        Notice(_notice_id(disabled, one.id), one.id, body)
        for one in webhooks
        if one.tenant == disabled.tenant and one.id != disabled.webhook and one.enabled and DISABLED in one.events
    ]


def _notice_id(disabled: Disabled, listener: int) -> UUID:
    slot = slot_of(disabled.tenant, UserId(disabled.name))
    whose = xxh3_64_intdigest(f"{disabled.webhook}\0{listener}".encode())
    return compose(slot, int(disabled.at.timestamp() * 1000), whose)


def headers_of(id_: str, at: datetime, body: bytes, signing: Iterable[Signing]) -> Mapping[str, str]:
    """Signed with every secret that counts at that instant, the newest first."""
    unix_s = int(at.timestamp())
    usable = (one.secret for one in signing if one.until is None or at < one.until)
    return {
        "webhook-id": id_,
        "webhook-timestamp": str(unix_s),
        "webhook-signature": " ".join(signature(secret, id_, unix_s, body) for secret in usable),
    }


def signature(secret: str, id_: str, unix_s: int, body: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(PREFIX))
    mac = hmac.digest(key, b"%b.%d.%b" % (id_.encode(), unix_s, body), hashlib.sha256)
    return "v1," + base64.b64encode(mac).decode()


def secret_of(random: bytes) -> str:
    """``random`` are SECRET_BYTES that nobody can guess."""
    return PREFIX + base64.b64encode(random).decode()


class Posted(msgspec.Struct, frozen=True, gc=False):
    """What became of one call: ``code`` is ``http_`` and the status, or why there is none. ``gone``: the receiver
    wants no more of them, ever; ``after_s``: none before that."""

    ok: bool
    code: str
    gone: bool = False
    after_s: float = 0.0


def wait_s(tries: int, schedule_s: Sequence[float], luck: float) -> float | None:
    """How long a callback waits that has failed after so many earlier tries, None when it is given up; ``luck`` is in
    [0, 1)."""
    if tries >= len(schedule_s):
        return None
    return schedule_s[tries] * (1 - JITTER + 2 * JITTER * luck)


def _stamp(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")

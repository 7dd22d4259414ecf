"""A delivery in a worker's hands."""

from collections.abc import Mapping
from datetime import datetime

import msgspec

from tidings.domain.ids import DeliveryId, NotificationId, Slot, TenantId, UserId
from tidings.domain.lanes import Channel, Lane


class Claimed(msgspec.Struct, frozen=True, gc=False):
    """A delivery held by this worker, with all that deciding and sending need.

    ``now`` is the database's clock at the claim: the only one that decisions see. ``address`` is None when neither
    the call nor the user has one; ``suppressed`` are the reasons that are held against it, and since when. ``in_doubt``
    rows come back only to the one who claims that lane. ``siblings`` became due with the claim: a push has one for each
    further token. ``reason`` is why it waited until now, None for the first time.
    """

    id: DeliveryId
    notification: NotificationId
    token: int
    lane: Lane
    home: Lane
    claims: int
    tries: int
    spent: int
    tried: tuple[int, ...]
    provider: int
    started_at: datetime | None
    in_doubt: bool
    now: datetime
    slot: Slot
    tenant: TenantId
    user: UserId
    channel: Channel
    category: int
    template_version: int | None
    sender: int | None
    payload: bytes
    address: str | None
    address_hash: bytes | None
    suppressed: Mapping[str, datetime]
    preferences: bytes | None
    zone: str | None
    locale: str | None
    created_at: datetime
    expires_at: datetime | None
    duplicate_possible: bool = False
    siblings: int = 0
    reason: str | None = None

    @property
    def age_s(self) -> float:
        """Seconds from the accept to the claim."""
        return (self.now - self.created_at).total_seconds()

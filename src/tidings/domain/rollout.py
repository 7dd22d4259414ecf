"""For whom a channel is on yet: a share of the users, which grows without ever losing anybody. Pure."""

from typing import Final

from xxhash import xxh3_64_intdigest

from tidings.domain.ids import TenantId, UserId
from tidings.domain.lanes import Channel

EVERYBODY: Final = 100.0
_PLACES: Final = 1 << 64


def reaches(percent: float, tenant: TenantId, channel: Channel, user: UserId) -> bool:
    """Whether this user is in the share. Each has one place in each channel's line, for good, and apart from the
    user's slot; the first ``percent`` of the line are in."""
    if percent >= EVERYBODY:  # the usual case, on the way of every delivery
        return True
    return xxh3_64_intdigest(f"{tenant}\0{channel.name}\0{user}".encode()) * EVERYBODY < percent * _PLACES

"""What is held against an address, and what that stops. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from tidings.domain.ids import DeliveryId, TenantId
from tidings.domain.lanes import Channel, Class
from tidings.domain.outcome import Gone

MANUAL: Final = "manual"
_AN_INSTANT: Final = timedelta(milliseconds=1)


class Suppression(msgspec.Struct, frozen=True, gc=False):
    """One word about an address (``hash`` is keyed, of its normal form): ``reason`` is held against it, or no longer
    when it is ``lifted``. ``at`` is when that was said, ``delivery`` the one it came of."""

    tenant: TenantId
    channel: Channel
    hash: bytes
    reason: str
    at: datetime
    lifted: bool = False
    delivery: DeliveryId | None = None


def held_against(gone: Gone | None) -> str | None:
    """What the list says of an address that is gone. A push token stands in no list: it is forgotten."""
    return None if gone == Gone.unregistered else gone


def latest(said: Iterable[Suppression]) -> Sequence[Suppression]:
    """Of the words about the same address and reason the last one, in whatever order they come. Of two that were said
    in the same instant the one that holds it against the address counts."""
    last = dict[tuple[TenantId, Channel, bytes, str], Suppression]()
    for one in sorted(said, key=lambda one: (one.at, not one.lifted)):
        last[one.tenant, one.channel, one.hash, one.reason] = one
    return list(last.values())


def later(than: Iterable[Suppression], now: datetime) -> datetime:
    """Now, or an instant after all that was said before: the clock that it was said by may be ahead of ours."""
    return max([now, *(one.at + _AN_INSTANT for one in than)])


def stopping(held: Mapping[str, datetime], class_: Class) -> str | None:
    """Which of what is held against an address, and since when, keeps a message of that class from it; None if nothing
    does. Who unsubscribed from news still hears of an order; every other reason stops everything."""
    why = [reason for reason in sorted(held) if reason != Gone.unsubscribe or class_ == Class.promotional]
    return ", ".join(f"{reason} since {held[reason].astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}" for reason in why) or None

"""A user, as the caller keeps them here."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from tidings.domain.ids import UserId
from tidings.domain.lanes import Channel


class Person(msgspec.Struct, frozen=True):
    """``addresses`` are in normal form, the primary one of each channel first. ``version`` rises with every change;
    it and ``updated_at`` are the database's."""

    id: UserId
    addresses: Mapping[Channel, tuple[str, ...]] = {}
    zone: str | None = None
    locale: str | None = None
    attributes: Mapping[str, Any] = {}
    version: int = 0
    updated_at: datetime | None = None

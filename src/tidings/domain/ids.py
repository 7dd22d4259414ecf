"""Ids that know where they live.

An id is a UUIDv7 (RFC 9562) whose 12 bits after the version, ``rand_a``, are the slot of its user. So any id, the
reference that a provider echoes, or a hint leads straight to the shard that holds it, and ids sort by time.
"""

from collections.abc import Iterable
from typing import Final, NewType
from uuid import UUID

from xxhash import xxh3_64_intdigest

NotificationId = NewType("NotificationId", UUID)
DeliveryId = NewType("DeliveryId", UUID)
TenantId = NewType("TenantId", int)
UserId = NewType("UserId", str)
Slot = NewType("Slot", int)
ShardNumber = NewType("ShardNumber", int)

SLOTS: Final = 4096
RANDOM_BITS: Final = 62
MOST_TRIES: Final = 32_767
_RANDOM_MASK: Final = (1 << RANDOM_BITS) - 1
_VERSION: Final = 7 << 76
_VARIANT: Final = 2 << 62
_MS_SHIFT: Final = 80


def slot_of(tenant: TenantId, user: UserId) -> Slot:
    """The slot that all rows of this user live in."""
    return Slot(xxh3_64_intdigest(f"{tenant}\0{user}".encode()) & (SLOTS - 1))


def compose(slot: Slot, unix_ms: int, random_bits: int) -> UUID:
    """The id of a slot and an instant; ``random_bits`` are its 62 lowest bits."""
    return UUID(int=unix_ms << _MS_SHIFT | _VERSION | slot << 64 | _VARIANT | (random_bits & _RANDOM_MASK))


def sibling(of: UUID, random_bits: int) -> UUID:
    """Another id with the time and the slot of the first, so that both stand in the same partition."""
    return UUID(int=of.int & ~_RANDOM_MASK | (random_bits & _RANDOM_MASK))


def slot_in(id_: UUID) -> Slot:
    return Slot(id_.int >> 64 & (SLOTS - 1))


def unix_ms_in(id_: UUID) -> int:
    return id_.int >> _MS_SHIFT


def first_at(unix_ms: int) -> UUID:
    """The lowest UUID of a millisecond: the lower bound of a partition, or of a search by time."""
    return UUID(int=unix_ms << _MS_SHIFT)


def bounds(ids: Iterable[UUID]) -> tuple[UUID, UUID]:
    """``(lowest, highest)`` in whole milliseconds, so that siblings fall inside; a statement that carries them
    touches only the partitions it needs."""
    numbers = [i.int for i in ids]
    lowest = min(numbers) >> _MS_SHIFT
    highest = (max(numbers) >> _MS_SHIFT) + 1
    return UUID(int=lowest << _MS_SHIFT), UUID(int=(highest << _MS_SHIFT) - 1)


def siblings(of: UUID) -> tuple[UUID, UUID]:
    """``(lowest, highest)`` id with the time and the slot of this one: among them are all its siblings."""
    lowest = of.int & ~_RANDOM_MASK
    return UUID(int=lowest), UUID(int=lowest | _RANDOM_MASK)


def reference(delivery: DeliveryId, n: int) -> str:
    """What travels with try ``n`` to the provider and comes back in its receipts."""
    return f"{delivery.hex}-{n}"


def parse_reference(text: object) -> tuple[DeliveryId, int] | None:
    """The delivery and the try of a reference; None for anything that we did not make."""
    if not isinstance(text, str) or not 34 <= len(text) <= 39 or text[32] != "-" or not text.isascii():
        return None
    try:
        id_, n = UUID(hex=text[:32]), int(text[33:])
    except ValueError:
        return None
    ours = id_.version == 7 and 1 <= n <= MOST_TRIES and reference(DeliveryId(id_), n) == text
    return (DeliveryId(id_), n) if ours else None

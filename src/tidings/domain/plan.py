"""From what was asked to the rows that will be stored. Pure: ids and the time come in."""

from collections.abc import Callable
from datetime import datetime
from hashlib import blake2b
from typing import Final

from tidings.domain import ids
from tidings.domain.asked import Asked
from tidings.domain.ids import DeliveryId, NotificationId, TenantId, UserId
from tidings.domain.lanes import Channel, lane_of
from tidings.domain.notification import Acceptance, PlannedDelivery

AddressHash = Callable[[TenantId, Channel, str], bytes]
RandomBits = Callable[[], int]
_THE_USERS_OWN: Final = (None,)


def plan(asked: Asked, now: datetime, random_bits: RandomBits, address_hash: AddressHash) -> Acceptance:
    """One delivery for each channel, on push for each token that was given. Raises nothing: ``asked`` is valid."""
    user = asked.user or _known_by(asked, address_hash)
    slot = ids.slot_of(asked.tenant, user)
    id_ = NotificationId(ids.compose(slot, int(now.timestamp() * 1000), random_bits()))
    due_at = asked.send_at if asked.send_at and asked.send_at > now else None
    deliveries = [
        PlannedDelivery(
            id=DeliveryId(ids.sibling(id_, random_bits())),
            channel=channel,
            lane=lane_of(channel, asked.category.class_),
            address=address,
            address_hash=address_hash(asked.tenant, channel, address) if address is not None else None,
            due_at=due_at,
        )
        for channel in asked.channels
        for address in asked.addresses.get(channel, _THE_USERS_OWN)
    ]
    return Acceptance(
        id=id_,
        slot=slot,
        tenant=asked.tenant,
        user=user,
        category=asked.category.id,
        template_version=asked.template_version,
        sender=asked.sender,
        reference=asked.reference,
        payload=asked.payload,
        key_hash=_hashed(asked.key) if asked.key else None,
        fingerprint=asked.fingerprint,
        deduplication_hash=_hashed(f"{asked.template}\0{asked.deduplication}") if asked.deduplication else None,
        send_at=due_at,
        expires_after_s=_expires_after_s(asked),
        deliveries=deliveries,
    )


def _known_by(asked: Asked, address_hash: AddressHash) -> UserId:
    """Who has no id of the caller's is known by the first address."""
    channel, (first, *_) = next(iter(asked.addresses.items()))
    return UserId("~" + address_hash(asked.tenant, channel, first).hex())


def _hashed(key: str) -> bytes:
    return blake2b(key.encode(), digest_size=16).digest()


def _expires_after_s(asked: Asked) -> float | None:
    return asked.expires_after_s if asked.expires_after_s is not None else asked.category.expires_after_s

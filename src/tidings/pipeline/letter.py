"""A delivery on its way out: routed, then ready with its content, then a numbered call."""

from collections.abc import Sequence

import msgspec

from tidings.domain import ids
from tidings.domain.catalog import Catalog, Sender
from tidings.domain.claimed import Claimed
from tidings.domain.lanes import Lane
from tidings.domain.notification import Content
from tidings.ports import Message


class Routed(msgspec.Struct, frozen=True, gc=False):
    """Goes through ``account``, one of its ``route``."""

    held: Claimed
    account: int
    route: Sequence[int]


class Ready(msgspec.Struct, frozen=True, gc=False):
    """Has its content and its sender."""

    routed: Routed
    content: Content
    sender: Sender
    reply_to: str | None


class Call(msgspec.Struct, frozen=True, gc=False):
    """Try ``n`` of a marked delivery; ``issued_s`` is the boot-time clock when its mark was asked for."""

    ready: Ready
    n: int
    issued_s: float

    @property
    def lane(self) -> Lane:
        return self.ready.routed.held.home


def sender_of(catalog: Catalog, held: Claimed) -> Sender | None:
    """The sender that was asked for, else the channel's first."""
    senders = catalog.senders.get((held.tenant, held.channel), ())
    if held.sender is None:
        return senders[0] if senders else None
    return next((sender for sender in senders if sender.id == held.sender), None)


def message(call: Call) -> Message:
    """What the provider is given."""
    ready, held = call.ready, call.ready.routed.held
    if held.address is None:
        raise ValueError("a delivery without an address was not decided on")
    return Message(
        reference=ids.reference(held.id, call.n),
        to=held.address,
        content=ready.content,
        sender=ready.sender.identity,
        headers={},
        reply_to=ready.reply_to,
    )

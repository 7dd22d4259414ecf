"""The suppression list: addresses to which nothing more goes, and why."""

from collections.abc import Sequence
from typing import Annotated, Final, Literal
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from tidings.domain.errors import Invalid, NotFound
from tidings.domain.ids import TenantId
from tidings.domain.lanes import Channel
from tidings.domain.suppression import MANUAL, Suppression, later
from tidings.web.asking import channel_named
from tidings.web.edge import Edge
from tidings.web.fields import (
    LIST_DEFAULT,
    LIST_MAX,
    Answer,
    Body,
    MayManage,
    MayRead,
    Name,
    NamePath,
    Stamp,
    Text,
    decoded,
    problems,
)

AddressPath = Annotated[str, StringConstraints(min_length=1, max_length=4_096), BeforeValidator(decoded)]
Reason = Literal["hard_bounce", "complaint", "stop", "unsubscribe", "manual"]
Place = tuple[int, bytes, str]
_NOWHERE: Final[Place] = (0, b"", "")


class SuppressionBody(Body):
    """``unsubscribe`` stops what is promotional, every other reason everything."""

    reason: Reason = "manual"


class Held(Answer):
    """``at`` is when it was last said, ``delivery`` the one that it came of."""

    reason: str
    at: Stamp
    delivery: UUID | None


class Suppressed(Answer):
    """An address, and what is held against it."""

    channel: str
    address: str
    reasons: list[Held]


class Listed(Held):
    """``hash`` stands for the address, whose text is not kept here."""

    channel: str
    hash: str


class SuppressionList(Answer):
    """``next`` is null at the end; else ask again with ``after`` set to it."""

    items: list[Listed]
    next: str | None


class Which(BaseModel):
    model_config = ConfigDict(extra="forbid")

    limit: int = Field(LIST_DEFAULT, ge=1, le=LIST_MAX)
    after: Text | None = None
    channel: Name | None = None


class Suppressions:
    """The endpoints of the suppression list."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    def routes(self) -> APIRouter:
        router = APIRouter(tags=["suppressions"])
        one = "/suppressions/{channel}/{address}"
        router.add_api_route("/suppressions", self.list, methods=["GET"], responses=problems())
        router.add_api_route(one, self.get, methods=["GET"], responses=problems())
        router.add_api_route(one, self.put, methods=["PUT"], responses=problems())
        router.add_api_route(one, self.delete, methods=["DELETE"], status_code=204, responses=problems())
        return router

    async def list(self, caller: MayRead, which: Annotated[Which, Query()]) -> SuppressionList:
        """What is held against addresses, in no order that says anything. Addresses are kept as hashes."""
        channel = channel_named(which.channel, self._edge.channels, "?channel") if which.channel else None
        found = await self._edge.suppressions.page(
            caller.tenant, channel, _place(which.after) if which.after else _NOWHERE, which.limit + 1
        )
        listed = found[: which.limit]
        return SuppressionList(
            items=[
                Listed(
                    channel=one.channel.name, hash=one.hash.hex(), reason=one.reason, at=one.at, delivery=one.delivery
                )
                for one in listed
            ],
            next=_cursor(listed[-1]) if len(found) > which.limit else None,
        )

    async def get(self, caller: MayRead, channel: NamePath, address: AddressPath) -> Suppressed:
        """What is held against an address."""
        number, address, hash_ = self._found_by(caller.tenant, channel, address)
        held = _held(await self._edge.suppressions.of_address(caller.tenant, number, hash_))
        if not held:
            raise NotFound("nothing is held against this address")
        return _shown(number, address, held)

    async def put(
        self, caller: MayManage, channel: NamePath, address: AddressPath, body: SuppressionBody | None = None
    ) -> Suppressed:
        """Holds from now on for every user with this address, beside what was held against it before."""
        number, address, hash_ = self._found_by(caller.tenant, channel, address)
        reason = body.reason if body else MANUAL
        known = await self._edge.suppressions.of_address(caller.tenant, number, hash_)
        held = _held(known)
        if all(one.reason != reason for one in held):
            at = later(known, self._edge.clock.now())
            said = Suppression(caller.tenant, number, hash_, reason, at)
            await self._edge.suppressions.put([said])
            held = [*held, said]
        return _shown(number, address, held)

    async def delete(self, caller: MayManage, channel: NamePath, address: AddressPath) -> None:
        """Lifts all that is held against an address. The provider may keep a list of its own."""
        number, _, hash_ = self._found_by(caller.tenant, channel, address)
        known = await self._edge.suppressions.of_address(caller.tenant, number, hash_)
        held, at = _held(known), later(known, self._edge.clock.now())
        if not held:
            raise NotFound("nothing is held against this address")
        await self._edge.suppressions.put(
            [Suppression(caller.tenant, number, hash_, one.reason, at, lifted=True) for one in held]
        )

    def _found_by(self, tenant: TenantId, channel: str, address: str) -> tuple[Channel, str, bytes]:
        """The channel, the address in its normal form, and the hash that it is found by."""
        try:
            number = channel_named(channel, self._edge.channels)
        except Invalid as fault:
            raise NotFound(fault.detail) from fault
        normal = self._edge.channels[number].normal(address, pointer="?address")
        return number, normal, self._edge.address_hash(tenant, number, normal)


def _held(known: Sequence[Suppression]) -> Sequence[Suppression]:
    return [one for one in known if not one.lifted]


def _shown(channel: Channel, address: str, held: Sequence[Suppression]) -> Suppressed:
    reasons = [Held(reason=one.reason, at=one.at, delivery=one.delivery) for one in held]
    return Suppressed(channel=channel.name, address=address, reasons=sorted(reasons, key=lambda one: one.reason))


def _cursor(last: Suppression) -> str:
    return f"{last.channel.value}.{last.hash.hex()}.{last.reason}"


def _place(after: str) -> Place:
    try:
        channel, hash_, reason = after.split(".")
        return int(Channel(int(channel))), bytes.fromhex(hash_), reason
    except ValueError as fault:
        raise Invalid("is not the next of a page", pointer="?after") from fault

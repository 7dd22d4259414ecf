"""What the control database says, as one immutable value that every process holds and replaces as a whole."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Final

import msgspec

from tidings.domain.callback import Webhook
from tidings.domain.ids import ShardNumber, Slot, TenantId
from tidings.domain.lanes import Channel, Class
from tidings.domain.price import Price
from tidings.domain.rollout import EVERYBODY
from tidings.domain.routing import AccountState, Route


class DoubtPolicy(StrEnum):
    """What to do with a call that may have gone, once nobody can tell: send again and say so, or leave it unknown."""

    at_least_once = "at_least_once"
    at_most_once = "at_most_once"


class Tenant(msgspec.Struct, frozen=True):
    """``twin_of`` is the live tenant that a test tenant belongs to."""

    id: TenantId
    name: str
    twin_of: TenantId | None = None


class ApiKey(msgspec.Struct, frozen=True):
    """``digest`` is HMAC-SHA256 under the pepper: the database alone cannot authenticate."""

    public_id: str
    tenant: TenantId
    digest: bytes
    scopes: frozenset[str]
    expires_at_unix_s: float | None = None


class Category(msgspec.Struct, frozen=True):
    """What notifications are about: the unit of preference."""

    id: int
    tenant: TenantId
    name: str
    class_: Class
    channels: tuple[Channel, ...]
    doubt_policy: DoubtPolicy = DoubtPolicy.at_least_once
    expires_after_s: float | None = None
    required: bool = False


class Template(msgspec.Struct, frozen=True):
    """``version`` is the published one's id, unique over all tenants; its text is fetched by that id."""

    tenant: TenantId
    name: str
    version: int
    category: int


class Sender(msgspec.Struct, frozen=True):
    """Who a message comes from. ``identity`` is the channel's own form: for e-mail ``email`` and ``name``."""

    id: int
    tenant: TenantId
    name: str
    channel: Channel
    identity: Mapping[str, str]


class Account(msgspec.Struct, frozen=True):
    """One account at one provider. ``kind`` names the adapter, ``settings`` is what it is built from (credentials
    among them: never log it), ``receipt_token`` the unguessable part of its webhook address. ``price`` is None for an
    account without a currency."""

    id: int
    tenant: TenantId
    name: str
    kind: str
    channel: Channel
    settings: Mapping[str, str]
    receipt_token: str
    price: Price | None = None

    def __repr__(self) -> str:
        return f"Account(id={self.id}, tenant={self.tenant}, name={self.name!r}, kind={self.kind!r})"


class Ordered(msgspec.Struct, frozen=True):
    """What an operator wants of an account, and since when."""

    state: AccountState
    since: datetime


RECEIPTS: Final = "/api/v1/receipts"


def receipts_path(account: Account) -> str:
    """Where its provider sends the account's webhooks."""
    return f"{RECEIPTS}/{account.kind}/{account.receipt_token}"


def receipts_url(public_url: str, account: Account) -> str:
    return public_url.rstrip("/") + receipts_path(account)


class Catalog(msgspec.Struct, frozen=True):
    """One consistent view. ``ordered`` are the accounts that are not left to themselves, ``rollouts`` the channels
    that are not on for everybody, in percent of the users; ``shard_of`` has one entry for each of the 4,096 slots."""

    version: int
    tenants: Mapping[TenantId, Tenant]
    keys: Mapping[str, ApiKey]
    categories: Mapping[tuple[TenantId, str], Category]
    categories_by_id: Mapping[int, Category]
    templates: Mapping[tuple[TenantId, str], Template]
    senders: Mapping[tuple[TenantId, Channel], tuple[Sender, ...]]
    accounts: Mapping[int, Account]
    ordered: Mapping[int, Ordered]
    routes: Mapping[tuple[TenantId, Channel], Route]
    rollouts: Mapping[tuple[TenantId, Channel], float]
    shard_of: tuple[ShardNumber, ...]
    webhooks: Mapping[int, Webhook] = {}

    def shard(self, slot: Slot) -> ShardNumber:
        return self.shard_of[slot]

    def percent(self, tenant: TenantId, channel: Channel) -> float:
        """For how many of the users the channel is on."""
        return self.rollouts.get((tenant, channel), EVERYBODY)

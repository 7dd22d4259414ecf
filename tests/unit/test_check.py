"""An account is tried for its own tenant's senders, by its own adapter, and for so long and no longer."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, cast

from tidings.domain.catalog import Account, Catalog, Sender
from tidings.domain.ids import TenantId
from tidings.domain.lanes import Channel
from tidings.domain.outcome import Trouble
from tidings.pipeline.check import CheckAccount
from tidings.ports import Provider

MINE = Account(1, TenantId(1), "main", "sendgrid", Channel.email, {}, "token")
SENDERS = [(1, Channel.email, "shop"), (1, Channel.email, "help"), (1, Channel.sms, "sms"), (2, Channel.email, "their")]


class Asked:
    """A provider that notes for whom it is tried, and says what it is told to say, if it says anything."""

    def __init__(self, says: Trouble | None = None, never: bool = False) -> None:
        self.says = says
        self.never = never
        self.senders: list[Any] = []

    async def check(self, senders: Sequence[Mapping[str, str]]) -> Trouble | None:
        self.senders += senders
        if self.never:
            await asyncio.Event().wait()
        return self.says


def checking(provider: Asked | None, flaw: str | None = None, patience_s: float = 10.0) -> CheckAccount:
    senders: dict[tuple[TenantId, Channel], tuple[Sender, ...]] = {}
    for number, (tenant, channel, name) in enumerate(SENDERS):
        one = Sender(number, TenantId(tenant), name, channel, {"email": name})
        senders[one.tenant, channel] = (*senders.get((one.tenant, channel), ()), one)
    catalog = Catalog(
        version=1, tenants={}, keys={}, categories={}, categories_by_id={}, templates={}, senders=senders,
        accounts={1: MINE}, ordered={}, routes={}, rollouts={}, shard_of=(),
    )  # fmt: skip
    return CheckAccount(lambda: catalog, lambda _: cast(Provider | None, provider), lambda _: flaw, patience_s)


async def test_it_is_tried_for_the_senders_of_its_tenant_and_channel():
    provider = Asked()
    assert await checking(provider)(MINE) is None
    assert [one["email"] for one in provider.senders] == ["shop", "help"]


async def test_what_the_provider_says_is_said():
    trouble = Trouble("found", "advice")
    assert await checking(Asked(trouble))(MINE) is trouble


async def test_settings_that_cannot_be_used_are_told_without_a_call():
    said = await checking(None, flaw="url: it is no URL")(MINE)
    assert said is not None and said.found == "url: it is no URL" and not said.away


async def test_an_account_that_went_meanwhile_is_no_bug():
    assert await checking(None)(MINE) is not None


async def test_who_never_ends_is_not_waited_for():
    said = await checking(Asked(never=True), patience_s=0.05)(MINE)
    assert said is not None and said.away and "0.05 s" in said.found

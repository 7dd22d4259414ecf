"""``tidings bootstrap``: what a new system needs before its first notification. Safe to repeat: it only adds.

A tenant and its test twin, a category, a sender, a template, the first key; with a sandbox, accounts that send there.
"""

import asyncio
import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from tidings.cli.app import Config, DataDir
from tidings.cli.databases import named
from tidings.domain.catalog import Account, Catalog, receipts_url
from tidings.domain.ids import TenantId
from tidings.domain.lanes import Channel, Class
from tidings.domain.routing import Hop, Order, Rule
from tidings.domain.template import TemplateSource
from tidings.providers.registry import KINDS
from tidings.runtime.rundir import API_KEY, RECEIPTS_URLS, SANDBOX_KEY, write_private
from tidings.sandbox.registry import STAND_INS
from tidings.sandbox.signing import SigningKey
from tidings.sandbox.standin import LIVE, TEST
from tidings.settings import Settings, pairs
from tidings.storage.control import Control
from tidings.wiring.commands import control_of

_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})
TENANT: Final = "default"
TWIN: Final = "default (test)"
STAFF: Final = "staff"
HOUSE: Final = "smtp"
"""What goes to the staff goes by a mail server of the house, where there is one, and by the others after it."""

CATEGORIES: Final = (("general", Class.transactional), ("news", Class.promotional), (STAFF, Class.transactional))
SENDERS: Final[Mapping[Channel, Mapping[str, str]]] = {
    Channel.email: {"email": "hello@example.com", "name": "Tidings"},
    Channel.sms: {"number": "+15005550006"},
    Channel.push: {},
    Channel.whatsapp: {"phone_number_id": "106540352242922", "display": "Tidings"},
}
WELCOME: Final = TemplateSource(
    subject="Your order {{ order }} is confirmed",
    text="Hello {{ name }},\n\nthank you for your order {{ order }} of {{ total }}. It is on its way.\n",
    html=(
        "<h1>Thank you, {{ name }}!</h1>"
        "<p>Your order <strong>{{ order }}</strong> of {{ total }} is confirmed and on its way.</p>"
    ),
    channels={
        "sms": {"text": "Your order {{ order }} of {{ total }} is confirmed and on its way."},
        "push": {"body": "It comes to {{ total }} and is on its way."},
        "whatsapp": {
            "template": "order_confirmation",
            "language": "en",
            "body.1": "{{ name }}",
            "body.2": "{{ order }}",
            "body.3": "{{ total }}",
        },
    },
)


def bootstrap(data_dir: DataDir = None, config: Config = None) -> None:
    """Make the first tenant, key, category, sender and template, where they are missing."""
    asyncio.run(_bootstrap(named(data_dir, config)))


async def _bootstrap(settings: Settings) -> None:
    async with control_of(settings) as control:
        catalog = await control.catalog()
        live = await _tenant(control, catalog, TENANT)
        twin = await _tenant(control, catalog, TWIN, twin_of=live)
        for tenant, who in ((live, LIVE), (twin, TEST)):
            await _furnish(control, catalog, tenant)
            await _accounts(control, settings, tenant, who)
            await _routes(control, settings, tenant)
        await _receipts(control, settings, {"": live, f".{TEST}": twin})
        key = settings.data_dir / API_KEY
        if not key.exists():
            write_private(key, await control.create_key(live, "first"))


async def _tenant(control: Control, catalog: Catalog, name: str, twin_of: TenantId | None = None) -> TenantId:
    known = next((tenant.id for tenant in catalog.tenants.values() if tenant.name == name), None)
    return known or await control.put_tenant(name, twin_of)


async def _furnish(control: Control, catalog: Catalog, tenant: TenantId) -> None:
    for category, class_ in CATEGORIES:
        if (tenant, category) not in catalog.categories:
            await control.put_category(tenant, category, class_, [Channel.email])
    for channel, identity in SENDERS.items():
        if (tenant, channel) not in catalog.senders:
            await control.put_sender(tenant, "default", channel, identity)
    if (tenant, "order_confirmation") not in catalog.templates:
        await control.put_template(tenant, "order_confirmation", "general", WELCOME)


async def _accounts(control: Control, settings: Settings, tenant: TenantId, who: str) -> None:
    """Accounts at the sandbox, whose address may be another with every start."""
    key = SigningKey.kept_in(settings.data_dir / SANDBOX_KEY)
    for kind, url in pairs(settings.sandbox_providers).items():
        catalog, channel = await control.catalog(), KINDS[kind].channel
        if (known := _account(catalog, tenant, kind)) and not _sandboxed(known):
            sys.stderr.write(f"tidings: {kind} is a real account and stays one; it sends nothing to the sandbox\n")
            continue
        await control.put_account(tenant, kind, kind, channel, STAND_INS[kind].customer(url, key, who))


async def _routes(control: Control, settings: Settings, tenant: TenantId) -> None:
    """A channel without a route gets one by all its accounts at the sandbox: the first, then those that back it up."""
    catalog, found = await control.catalog(), defaultdict[Channel, list[Account]](list)
    for kind in pairs(settings.sandbox_providers):
        account = _account(catalog, tenant, kind)
        if account and (tenant, account.channel) not in catalog.routes:
            found[account.channel].append(account)
    for channel, accounts in found.items():
        house = [one.id for one in accounts if one.name == HOUSE]
        others = [one.id for one in accounts if one.name != HOUSE]
        by_the_house = Order.of([Hop(id_) for id_ in (*house, *others)])
        rules = [Rule(by_the_house, catalog.categories[tenant, STAFF].id)] if house else []
        await control.put_route(tenant, channel, others or house, rules)


async def _receipts(control: Control, settings: Settings, tenants: Mapping[str, TenantId]) -> None:
    """Tells the sandbox where its webhooks go."""
    catalog, lines = await control.catalog(), list[str]()
    for kind in pairs(settings.sandbox_providers):
        for suffix, tenant in tenants.items():
            account = _account(catalog, tenant, kind)
            if account and _sandboxed(account):
                lines.append(f"{kind}{suffix}={receipts_url(settings.public_url, account)}\n")
    if settings.sandbox_providers:
        write_private(Path(settings.data_dir / RECEIPTS_URLS), "".join(lines))


def _account(catalog: Catalog, tenant: TenantId, name: str) -> Account | None:
    return next((one for one in catalog.accounts.values() if (one.tenant, one.name) == (tenant, name)), None)


def _sandboxed(account: Account) -> bool:
    """One without an address of its own is at the provider's."""
    return urlsplit(account.settings.get("url", "")).hostname in _LOOPBACK

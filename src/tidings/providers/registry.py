"""Every provider that there is. To add one: its file, its row here, and its row in the contract suite."""

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from tidings.domain.catalog import Account
from tidings.domain.lanes import Channel
from tidings.ports import Provider
from tidings.providers.fcm import Fcm
from tidings.providers.mailgun import Mailgun
from tidings.providers.sendgrid import SendGrid
from tidings.providers.smtp import Smtp
from tidings.providers.twilio import Twilio
from tidings.providers.whatsapp import WhatsApp


class Kind(msgspec.Struct, frozen=True):
    """The channel that a provider serves, and how its adapter is made."""

    channel: Channel
    make: Callable[[Account], Provider]


KINDS: Final[Mapping[str, Kind]] = {
    "sendgrid": Kind(Channel.email, SendGrid),
    "mailgun": Kind(Channel.email, Mailgun),
    "smtp": Kind(Channel.email, Smtp),
    "fcm": Kind(Channel.push, Fcm),
    "twilio": Kind(Channel.sms, Twilio),
    "whatsapp": Kind(Channel.whatsapp, WhatsApp),
}


def build(account: Account) -> Provider:
    """Raises ValueError for a kind that does not exist, or settings that cannot be used."""
    if account.kind not in KINDS:
        raise ValueError(f"no provider of kind {account.kind!r}; there are {', '.join(sorted(KINDS))}")
    return KINDS[account.kind].make(account)

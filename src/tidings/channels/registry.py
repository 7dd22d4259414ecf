"""The channels there are. To add one, write its file and name it here."""

from collections.abc import Mapping
from typing import Final

from tidings.channels.base import Plugin
from tidings.channels.country import country_of
from tidings.channels.email import Email
from tidings.channels.push import Push
from tidings.channels.sms import Sms
from tidings.channels.whatsapp import WhatsApp
from tidings.domain.lanes import Channel
from tidings.ports import Country

COUNTRIES: Final[Mapping[Channel, Country]] = {Channel.sms: country_of, Channel.whatsapp: country_of}
"""The channels whose addresses say which country they are in."""


def build_channels() -> Mapping[Channel, Plugin]:
    plugins: tuple[Plugin, ...] = (Email(), Sms(), Push(), WhatsApp())
    return {plugin.number: plugin for plugin in plugins}


def registered() -> frozenset[Channel]:
    """The channels that work. A request for any other is refused when it comes in."""
    return frozenset(build_channels())

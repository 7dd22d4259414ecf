"""The channels there are. To add one, write its file and name it here."""

from collections.abc import Mapping

from tidings.channels.base import Plugin
from tidings.channels.email import Email
from tidings.channels.push import Push
from tidings.channels.sms import Sms
from tidings.domain.lanes import Channel


def build_channels() -> Mapping[Channel, Plugin]:
    plugins: tuple[Plugin, ...] = (Email(), Sms(), Push())
    return {plugin.number: plugin for plugin in plugins}


def registered() -> frozenset[Channel]:
    """The channels that work. A request for any other is refused when it comes in."""
    return frozenset(build_channels())

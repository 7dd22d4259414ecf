"""Every stand-in there is. A further provider is one file beside this one, and one row here."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from tidings.sandbox.sendgrid import SendGrid
from tidings.sandbox.standin import Account, StandIn

STAND_INS: Final[Mapping[str, Callable[[Account], StandIn]]] = MappingProxyType({SendGrid.name: SendGrid})

"""Every stand-in there is. A further provider is one file beside this one, and one row here."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Protocol

from tidings.sandbox.fcm import Fcm
from tidings.sandbox.mailgun import Mailgun
from tidings.sandbox.sendgrid import SendGrid
from tidings.sandbox.signing import SigningKey
from tidings.sandbox.standin import Account, StandIn
from tidings.sandbox.twilio import Twilio
from tidings.sandbox.whatsapp import WhatsApp


class Make(Protocol):
    """A class of stand-ins."""

    def __call__(self, account: Account, /) -> StandIn: ...

    @staticmethod
    def customer(url: str, key: SigningKey, who: str) -> Mapping[str, str]: ...


STAND_INS: Final[Mapping[str, Make]] = MappingProxyType(
    {
        SendGrid.name: SendGrid,
        Mailgun.name: Mailgun,
        Fcm.name: Fcm,
        Twilio.name: Twilio,
        WhatsApp.name: WhatsApp,
    }
)

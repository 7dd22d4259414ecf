"""Every stand-in there is. A further provider is one file beside this one, and one row here."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Protocol, TypeVar

from tidings.sandbox.fcm import Fcm
from tidings.sandbox.mailgun import Mailgun
from tidings.sandbox.sendgrid import SendGrid
from tidings.sandbox.signing import SigningKey
from tidings.sandbox.smtp import Smtp
from tidings.sandbox.standin import Account, HttpStandIn, StandIn
from tidings.sandbox.twilio import Twilio
from tidings.sandbox.whatsapp import WhatsApp

Made_co = TypeVar("Made_co", bound=StandIn, covariant=True)


class Make(Protocol[Made_co]):
    """A class of stand-ins."""

    def __call__(self, account: Account, /) -> Made_co: ...

    @staticmethod
    def customer(url: str, key: SigningKey, who: str) -> Mapping[str, str]: ...


OVER_HTTP: Final[Mapping[str, Make[HttpStandIn]]] = MappingProxyType(
    {
        SendGrid.name: SendGrid,
        Mailgun.name: Mailgun,
        Fcm.name: Fcm,
        Twilio.name: Twilio,
        WhatsApp.name: WhatsApp,
    }
)
STAND_INS: Final[Mapping[str, Make[StandIn]]] = MappingProxyType({**OVER_HTTP, Smtp.name: Smtp})


def scheme_of(name: str) -> str:
    """How the address of a stand-in begins."""
    return "http" if name in OVER_HTTP else Smtp.scheme

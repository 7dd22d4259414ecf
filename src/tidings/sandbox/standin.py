"""What a stand-in is: one provider, as far as a client can tell."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Final, Protocol

import msgspec
from starlette.requests import Request
from starlette.routing import BaseRoute

from tidings.sandbox.faults import Fault
from tidings.sandbox.signing import SigningKey

LIVE: Final = "live"
TEST: Final = "test"
"""The two customers of a stand-in, by how their credentials end."""


class Account(msgspec.Struct, frozen=True):
    """Who may send through a stand-in, and what its webhooks are signed with.

    ``api_key`` None lets any key in. Webhooks go to ``receipts_url``, those of a caller whose credential ends with
    "test" to ``test_receipts_url`` where there is one; None means that none is sent.
    """

    key: SigningKey
    api_key: str | None = None
    receipts_url: str | None = None
    test_receipts_url: str | None = None

    def callback(self, credential: str) -> str | None:
        """Where the webhooks about this caller's messages go."""
        return (credential.endswith(TEST) and self.test_receipts_url) or self.receipts_url


class Answer(msgspec.Struct, frozen=True, gc=False):
    """A complete HTTP answer."""

    status: int
    body: bytes = b""
    media_type: str | None = None
    headers: Mapping[str, str] = {}


class Message(msgspec.Struct, frozen=True, gc=False):
    """What a provider took in one envelope.

    ``reference`` is ours, from the field that the provider echoes; ``echoed`` is all that its receipts carry back, and
    ``callback`` the URL they go to, None: nowhere. ``size`` is in bytes.
    """

    recipients: tuple[str, ...]
    reference: str | None
    content: Mapping[str, object]
    message_id: str
    echoed: Mapping[str, str]
    callback: str | None
    size: int


class Taken(msgspec.Struct, frozen=True, gc=False):
    """A request that passed: what goes into the ledger, and the answer to give."""

    messages: Sequence[Message]
    answer: Answer


class Fate(StrEnum):
    """What becomes of a message after it was taken. All but the first two are what people do with a delivered one; a
    stand-in tells nothing of a fate that its provider has no event for."""

    delivered = "delivered"
    bounced = "bounced"
    opened = "opened"
    clicked = "clicked"
    complained = "complained"
    unsubscribed = "unsubscribed"


class Forecast(msgspec.Struct, frozen=True, gc=False):
    """What will become of a message, and when it is told; no fates: nothing is ever heard of it."""

    fates: Sequence[Fate]
    at: datetime


class News(msgspec.Struct, frozen=True, gc=False):
    """A message whose fate is to be told."""

    message: Message
    fate: Fate
    at: datetime


class Parcel(msgspec.Struct, frozen=True, gc=False):
    """One webhook call, signed and ready to be posted."""

    url: str
    headers: Mapping[str, str]
    body: bytes


Look = Callable[[Request], Answer]
"""Answers a call that only looks."""


class StandIn(Protocol):
    """One provider, one file. Adding it here is adding it everywhere: one row in ``registry``. ``reports`` says whether
    it has webhooks at all."""

    name: str
    channel: str
    reports: bool

    @staticmethod
    def customer(url: str, key: SigningKey, who: str) -> Mapping[str, str]:
        """The settings that make an account of Tidings a customer of this stand-in at ``url``: its credential ends
        with ``who``, which is LIVE or TEST."""
        ...

    def webhooks(self, news: Sequence[News], *, shuffle: bool) -> Sequence[Parcel]:
        """The calls that tell it, as few as the real one would make; events within them in any order if ``shuffle``."""
        ...


class HttpStandIn(StandIn, Protocol):
    """One that is called over HTTP. ``paths`` are those that send; a body over ``limit_bytes`` is refused unread."""

    paths: Sequence[str]
    limit_bytes: int

    def read(self, request: Request, body: bytes) -> Taken | Answer:
        """Checks a sending call as the real one would; an ``Answer`` refuses it."""
        ...

    def error(self, status: int) -> Answer:
        """The plain error of that status, worded as the real one words it."""
        ...

    def misbehave(self, fault: Fault) -> Answer:
        """The answer of a fault under which nothing is taken, or of ``accept_then_error``."""
        ...

    def account(self) -> Mapping[str, Look]:
        """By path, what a customer is told who asks about its own account. Faults of the whole provider hit these calls
        as they hit those that send."""
        ...

    def routes(self) -> Sequence[BaseRoute]:
        """Whatever else the real one answers besides sending."""
        ...

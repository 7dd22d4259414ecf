"""What a provider said, as a value. An exception from an adapter is a bug."""

from datetime import datetime
from enum import StrEnum

import msgspec


class Gone(StrEnum):
    """Why nothing more goes to an address. Kept with it in the suppression list; a push token is forgotten instead."""

    hard_bounce = "hard_bounce"
    complaint = "complaint"
    unsubscribe = "unsubscribe"
    stop = "stop"
    unregistered = "unregistered"


class Engagement(StrEnum):
    """What a recipient did with a message. Kept apart from the status, which it never changes."""

    opened = "opened"
    clicked = "clicked"
    read = "read"


class Sent(msgspec.Struct, frozen=True, gc=False):
    """The provider took it and gave its own id. ``units`` is what it counted, None where it does not say."""

    message_id: str
    code: str = "accepted"
    detail: str = ""
    units: int | None = None


class TryLater(msgspec.Struct, frozen=True, gc=False):
    """Surely not sent; the same provider may take it later.

    ``after_s`` is how long the provider asked us to wait, None when it did not say. ``account`` says that the whole
    account must wait (429, a refused key, no credit left): then nothing counts against the delivery.
    """

    code: str
    detail: str = ""
    after_s: float | None = None
    account: bool = False


class TryNext(msgspec.Struct, frozen=True, gc=False):
    """Surely not sent (no byte left, or the provider's own answer says so): another provider may take it at once."""

    code: str
    detail: str = ""


class Refused(msgspec.Struct, frozen=True, gc=False):
    """Refused for good: no repetition will change the answer.

    ``gone`` says that the address itself is at fault, and why: it takes nothing any more, whoever sends.
    """

    code: str
    detail: str = ""
    gone: Gone | None = None


class Unsure(msgspec.Struct, frozen=True, gc=False):
    """It may have gone: silence, a reset after the first byte, a garbled answer. Never repeated blindly."""

    code: str
    detail: str = ""


class Fenced(msgspec.Struct, frozen=True, gc=False):
    """Not a provider's word but our own: too much time had passed since the mark, so no byte was written."""

    code: str = "fenced"
    detail: str = "the mark was too old to write; nothing left this machine"


Outcome = Sent | TryLater | TryNext | Refused | Unsure | Fenced


class Trouble(msgspec.Struct, frozen=True, gc=False):
    """Why an account cannot send, as far as harmless calls tell. ``found`` is what came of them and ``advice`` what to
    do next, neither with a secret in it; ``away`` says that nobody gave a complete answer."""

    found: str
    advice: str
    away: bool = False


class Receipt(msgspec.Struct, frozen=True):
    """A provider's later word on one delivery.

    ``event_key`` tells repeated receipts apart from new ones; ``kind`` is the provider's name for the event and
    ``status`` what it means for us (None: no change of status, engagement or news only). ``gone`` says that nothing
    more may go to the address, ``lifts`` that this no longer holds, ``engagement`` what the recipient did. ``address``
    is the one it is about, where the provider names it: a receipt without a delivery of ours still speaks for that.
    """

    reference: str | None
    event_key: str
    kind: str
    status: str | None
    reason: str | None
    message_id: str | None
    occurred_at: datetime
    raw: bytes
    gone: Gone | None = None
    engagement: Engagement | None = None
    lifts: Gone | None = None
    address: str | None = None

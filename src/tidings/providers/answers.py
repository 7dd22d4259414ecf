"""What every adapter over HTTP has in common: from a complete answer, by the provider's table, to an outcome."""

from collections.abc import Callable, Mapping
from enum import Enum, auto
from math import ceil, inf
from typing import Final
from urllib.parse import urlsplit

import msgspec

from tidings.domain.egress import ANYWHERE, Egress
from tidings.domain.outcome import Gone, Outcome, Refused, Sent, TryLater, TryNext, Unsure
from tidings.providers.wire import DEFAULT_LIMITS, Answer, Fenced, Head, Limits, NoAnswer, NotSent, Wire
from tidings.providers.wire_reach import Reach

LONGEST_WAIT_S: Final = 300.0
_DETAIL_LENGTH: Final = 300
_MESSAGE_ID_LENGTH: Final = 200


class Verdict(Enum):
    """What a complete answer means: ``accept`` if it names a message id, ``refuse`` for good, ``gone`` too, because
    nothing reaches this address any more, ``pause`` the account, ``pace`` it for as long as it asks, ``next`` (not
    taken, elsewhere perhaps), ``later`` (not taken, this delivery must wait), ``unsure`` (it may have been taken)."""

    accept = auto()
    refuse = auto()
    gone = auto()
    pause = auto()
    pace = auto()
    next = auto()
    later = auto()
    unsure = auto()


Word = str | int | None
"""The provider's own name or number for what is wrong, where that matters beside the status."""
Verdicts = Mapping[tuple[int, Word], Verdict]
ByClass = Mapping[int, Verdict]


def judged(verdicts: Verdicts, by_class: ByClass, status: int, word: Word) -> Verdict:
    """The row of this status and word, else of the status alone, else of its class (its first digit), else unsure."""
    known = verdicts.get((status, word)) or verdicts.get((status, None))
    return known or by_class.get(status // 100, Verdict.unsure)


class Heard(msgspec.Struct, frozen=True, gc=False):
    """What an answer said. ``wait_s`` is how long it asked us to wait, ``gone`` why the address takes nothing,
    ``units`` what it counted for the message."""

    code: str
    detail: str = ""
    message_id: str = ""
    wait_s: float | None = None
    gone: Gone | None = None
    units: int | None = None


class Rests(msgspec.Struct, frozen=True):
    """For how long an account rests, in seconds: ``pause_s`` after a refused key or credit used up, ``slow_down_s``
    after a 429 that does not say."""

    pause_s: float
    slow_down_s: float

    @classmethod
    def of(cls, settings: Mapping[str, str]) -> "Rests":
        """Raises ValueError."""
        return cls(above_0(settings, "pause_s", 60), above_0(settings, "slow_down_s", 10))


def outcome(verdict: Verdict, heard: Heard, rests: Rests) -> Outcome:
    match verdict:
        case Verdict.accept:
            return accepted(heard.message_id, heard.units)
        case Verdict.refuse:
            return Refused(heard.code, heard.detail)
        case Verdict.gone:
            return Refused(heard.code, heard.detail, heard.gone)
        case Verdict.pause:
            return TryLater(heard.code, heard.detail, rests.pause_s, account=True)
        case Verdict.pace:
            return TryLater(heard.code, heard.detail, heard.wait_s or rests.slow_down_s, account=True)
        case Verdict.next:
            return TryNext(heard.code, heard.detail)
        case Verdict.later:
            return TryLater(heard.code, heard.detail, heard.wait_s)
        case Verdict.unsure:
            return Unsure(heard.code, heard.detail)


def accepted(message_id: str, units: int | None = None) -> Sent | Unsure:
    if not message_id.isascii() or not message_id.isprintable() or not 0 < len(message_id) <= _MESSAGE_ID_LENGTH:
        return Unsure("no_message_id", "accepted, but without an id that events could name")
    return Sent(message_id, units=units)


async def ask(wire: Wire, head: Head, body: bytes, may_write: Callable[[], bool]) -> Answer | Outcome:
    """One call: the complete answer, or what it means that there is none."""
    match await wire.call(head, body, may_write):
        case Answer() as answer:
            return answer
        case NotSent(code=code, detail=detail):
            return TryNext(code, detail)
        case NoAnswer(code=code, detail=detail):
            return Unsure(code, detail)
        case Fenced() as fenced:
            return fenced


def wire_to(settings: Mapping[str, str], usual_url: str) -> tuple[Wire, str]:
    """The way to the account's ``url``, and the path that it begins with. Raises ValueError."""
    reach, wanted = reach_of(settings), settings.get("url") or usual_url
    flaw = reach.egress.flaw(wanted)
    if flaw is not None:
        raise ValueError(f"url: {flaw}")
    url = urlsplit(wanted)
    return Wire(f"{url.scheme}://{url.netloc}", limits=limits_of(settings), reach=reach), url.path.rstrip("/")


def limits_of(settings: Mapping[str, str]) -> Limits:
    """Raises ValueError."""
    return Limits(
        connections=ceil(above_0(settings, "connections", DEFAULT_LIMITS.connections)),
        connect_s=above_0(settings, "connect_timeout_s", DEFAULT_LIMITS.connect_s),
        total_s=above_0(settings, "timeout_s", DEFAULT_LIMITS.total_s),
    )


def reach_of(settings: Mapping[str, str]) -> Reach:
    """Where the account's calls may go: its address is chosen by a tenant, ``egress`` (JSON of a ``domain.egress``
    value) by the operator. Without that they may go anywhere. Raises ValueError."""
    rules = settings.get("egress")
    return Reach(msgspec.json.decode(rules, type=Egress) if rules else ANYWHERE)


def needed(settings: Mapping[str, str], account: str, *names: str) -> tuple[str, ...]:
    """These settings. Raises ValueError with the name of the first that is missing."""
    for name in names:
        if not settings.get(name):
            raise ValueError(f"account {account!r}: the setting {name} is missing")
    return tuple(settings[name] for name in names)


def above_0(settings: Mapping[str, str], name: str, usual: float) -> float:
    """Raises ValueError for what is not a number above 0."""
    number = float(settings.get(name, usual))
    if not 0 < number < inf:
        raise ValueError(f"{name} must be above 0")
    return number


def bounded(wait_s: float) -> float:
    """Between a second and five minutes, whatever was asked for."""
    return min(max(wait_s, 1.0), LONGEST_WAIT_S)


def retry_after_s(answer: Answer) -> float | None:
    """``Retry-After`` in seconds, bounded; None when it is absent or a riddle."""
    try:
        return bounded(int(answer.header(b"retry-after") or b""))
    except ValueError:
        return None


def shown(words: str, *secrets: str) -> str:
    """What may be stored and shown of a provider's words: without secrets, on one line, not too long."""
    for secret in secrets:
        words = words.replace(secret, "***")
    return "".join(c for c in words if c.isprintable())[:_DETAIL_LENGTH]

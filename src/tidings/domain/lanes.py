"""What a worker serves. A lane is a small number: channel and class, or parked work in a lane of its own.

Parked work never stands in the way of a claim, and no index on a status is needed.
"""

from enum import IntEnum
from typing import Final, NewType

Lane = NewType("Lane", int)


class Channel(IntEnum):
    """Numbers are stored: never change one."""

    email = 1
    sms = 2
    push = 3
    whatsapp = 4


class Class(IntEnum):
    """What decides priority, quiet hours, shedding and unsubscribe. The lower number goes first."""

    transactional = 0
    promotional = 1


IN_DOUBT: Final = Lane(2)
DEAD: Final = Lane(3)
_PARKED: Final = {"in_doubt": IN_DOUBT, "dead": DEAD}


def lane_of(channel: Channel, class_: Class) -> Lane:
    return Lane(channel * 10 + class_)


def class_of(lane: Lane) -> Class:
    return Class(lane % 10)


def channel_of(lane: Lane) -> Channel:
    return Channel(lane // 10)


def is_parked(lane: Lane) -> bool:
    return lane in _PARKED.values()


def sending_lanes() -> tuple[Lane, ...]:
    """Every lane whose work ends at a provider, transactional before promotional."""
    return tuple(lane_of(channel, class_) for class_ in Class for channel in Channel)


def lane_name(lane: Lane) -> str:
    for name, parked in _PARKED.items():
        if parked == lane:
            return name
    return f"{channel_of(lane).name}.{class_of(lane).name}"


def lane_named(name: str) -> Lane:
    """The lane called ``email.transactional`` and the like. Raises ValueError with the names that exist."""
    known = {lane_name(lane): lane for lane in sending_lanes()} | _PARKED
    if name not in known:
        raise ValueError(f"no lane {name!r}; there are {', '.join(sorted(known))}")
    return known[name]

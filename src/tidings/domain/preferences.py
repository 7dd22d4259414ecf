"""What a user wants to hear of, and where: who may be told what. Pure.

Preferences only ever take away. What they do not name is on, and ``*`` among the channels stands for every channel
that is not named, those that are added later too. The table in ``docs/how-to/preferences.md`` is the precedence, and a
test holds ``ruling`` to it.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from tidings.domain.lanes import Channel, Class

PREFERENCE_CHANNEL: Final = "preference_channel"
PREFERENCE_CLASS: Final = "preference_class"
PREFERENCE_CATEGORY: Final = "preference_category"
OTHERS: Final = "*"
FREQUENCY: Final = "frequency"
NEVER: Final = "none"
USERS_ZONE: Final = "user"

Switch = bool | Mapping[str, bool]
"""On or off, or that for each class."""


class QuietHours(msgspec.Struct, frozen=True):
    """From one time of the day to another, as clocks show them in ``zone``: ``HH:MM``, over midnight where the first is
    the later one. The zone ``user`` is the user's own."""

    from_: str = msgspec.field(name="from")
    to: str
    zone: str = USERS_ZONE


class Preferences(msgspec.Struct, frozen=True, omit_defaults=True):
    """``categories`` has for each category channels that are on or off, and perhaps ``frequency``. What a newer release
    has stored beside that is left alone."""

    channels: Mapping[str, Switch] = {}
    categories: Mapping[str, Mapping[str, bool | str]] = {}
    quiet_hours: QuietHours | None = None


class Ruling(msgspec.Struct, frozen=True):
    """Allowed when ``reason`` is None. ``rule`` is what decided: the preference that is off, else why none was."""

    reason: str | None
    rule: str


REQUIRED: Final = Ruling(None, "required")
NOTHING_AGAINST: Final = Ruling(None, "nothing against it")


def ruling(preferences: Preferences, category: str, channel: Channel, class_: Class, *, required: bool) -> Ruling:
    """Whether a user with these preferences is told of this on that channel. The first rule that applies decides."""
    if required:
        return REQUIRED
    return (
        _by_channel(preferences.channels, channel, class_)
        or _by_category(preferences.categories.get(category, {}), category, channel)
        or NOTHING_AGAINST
    )


def _by_channel(channels: Mapping[str, Switch], channel: Channel, class_: Class) -> Ruling | None:
    name = channel.name if channel.name in channels else OTHERS
    switch = channels.get(name, True)
    if switch is False:
        return Ruling(PREFERENCE_CHANNEL, f"channels.{name}")
    if switch is not True and switch.get(class_.name) is False:
        return Ruling(PREFERENCE_CLASS, f"channels.{name}.{class_.name}")
    return None


def _by_category(chosen: Mapping[str, bool | str], category: str, channel: Channel) -> Ruling | None:
    if chosen.get(FREQUENCY) == NEVER:
        return Ruling(PREFERENCE_CATEGORY, f"categories.{category}.{FREQUENCY}")
    if chosen.get(channel.name) is False:
        return Ruling(PREFERENCE_CATEGORY, f"categories.{category}.{channel.name}")
    return None

"""What ``tidings doctor`` says of one thing that it looked at."""

import msgspec


class Finding(msgspec.Struct, frozen=True):
    """``advice`` is empty where all is well; ``away`` is what was set and does not answer; ``warning`` is about what
    was set on purpose, perhaps."""

    what: str
    found: str
    advice: str = ""
    away: bool = False
    warning: str = ""

"""Named points at which a test may end this process, as a power cut would."""

import os
import signal

from tidings.ports import Reach


def nowhere(point: str) -> None:
    """The point of a process that nobody tests."""


def kill_at(spec: str) -> Reach:
    """``after_mark:3``: kill -9 of this process the third time it comes by ``after_mark``."""
    point, _, nth = spec.partition(":")
    left = int(nth or 1)

    def reach(here: str) -> None:
        nonlocal left
        if here == point:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return reach

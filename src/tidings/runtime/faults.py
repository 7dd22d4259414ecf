"""Named points at which a test may end this process, as a power cut would, or stop it, as a busy machine would."""

import os
import signal
from pathlib import Path

from tidings.ports import Reach


def nowhere(point: str) -> None:
    """The points of a process that nobody tests."""


def kill_once(file: Path) -> Reach:
    """While ``file`` names a point, the first process that comes by there removes the file and dies by kill -9, or
    gets the signal that stands after the point, such as ``after_mark SIGSTOP``."""

    def reach(point: str) -> None:
        try:
            wanted, _, name = file.read_text().strip().partition(" ")
            if wanted != point:
                return
            file.unlink()
        except FileNotFoundError:  # nothing is asked for, or another process was first
            return
        os.kill(os.getpid(), signal.Signals[name or "SIGKILL"])

    return reach

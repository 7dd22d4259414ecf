"""Servers whose parent was killed take a moment to leave; the next one on the same files waits for them."""

from pathlib import Path

import psutil

from tidings.embedded.account import CannotRun


def await_predecessor(data: Path, name: str, timeout_s: float) -> None:
    """Returns once no process of that name works in this directory. Raises CannotRun."""
    named = (one for one in psutil.process_iter(["name", "cwd"]) if one.info["name"] == name)
    _, living = psutil.wait_procs([one for one in named if one.info["cwd"] == str(data)], timeout_s)
    if living:
        raise CannotRun(f"another {name} (pid {living[0].pid}) still runs on {data}")

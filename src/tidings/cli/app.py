"""The table of commands, and how they end: 0 done, 1 failed, 2 wrong usage, 3 unreachable."""

import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Final, NoReturn

import asyncpg
import typer

from tidings.domain.errors import Unavailable
from tidings.runtime.rundir import AlreadyRunning
from tidings.settings import SettingsError
from tidings.storage.shards import AWAY

COMMANDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "up": "tidings.cli.up:up",
        "api": "tidings.cli.api:api",
        "work": "tidings.cli.work:work",
        "relay": "tidings.cli.relay:relay",
        "sandbox": "tidings.cli.sandbox:sandbox",
        "migrate": "tidings.cli.migrate:migrate",
        "bootstrap": "tidings.cli.bootstrap:bootstrap",
        "demo": "tidings.cli.demo:demo",
        "doctor": "tidings.cli.doctor:doctor",
        "status": "tidings.cli.status:status",
        "send": "tidings.cli.notifications:send",
        "show": "tidings.cli.notifications:show",
        "dead-letters": "tidings.cli.dead_letters:dead_letters",
        "doubt": "tidings.cli.doubt:doubt",
        "suppressions": "tidings.cli.suppressions:suppressions",
        "providers": "tidings.cli.providers:providers",
        "breakers": "tidings.cli.providers:breakers",
        "keys": "tidings.cli.keys:keys",
        "rollouts": "tidings.cli.rollouts:rollouts",
        "webhooks": "tidings.cli.webhooks:webhooks",
        "bench": "tidings.cli.bench:bench",
        "drill": "tidings.cli.drill:drill",
        "ledger": "tidings.cli.bench:ledger",
    }
)
"""Name of the command → the function, or the ``typer.Typer`` of a family, that does it. Only the module of the command
that was asked for is imported, so that a role does not pay for all the others."""

_VERSION: Final = "--version"
DataDir = Annotated[
    Path | None, typer.Option("--data-dir", help="Where `tidings up` keeps everything.", show_default="./.tidings")
]
Config = Annotated[Path | None, typer.Option("--config", help="The settings file.", show_default="./tidings.toml")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, everything else on stderr.")]


NO_ANSWER: Final = (Unavailable, *AWAY, asyncpg.InvalidAuthorizationSpecificationError)
"""What a database raises that is away, or does not let us in."""


class Failed(Exception):
    """The command could not do what it was asked; the message says why."""

    code = 1


class Unreachable(Failed):
    """What the command needs does not answer."""

    code = 3


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one command and exits. The message of an expected failure is one line on stderr; a bug has its traceback."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        build(words)(args=words, prog_name="tidings")
    except (Failed, AlreadyRunning, SettingsError) as fault:
        _leave(str(fault), _code(fault))
    except asyncpg.InterfaceError as fault:
        # A DSN that cannot be read is one of these; the others say that a connection is gone.
        wrong = isinstance(fault, ValueError)
        _leave(f"{'a DSN cannot be used' if wrong else 'no answer'}: {_told(fault)}", 2 if wrong else Unreachable.code)
    except NO_ANSWER as fault:
        if isinstance(fault, OSError) and fault.filename is not None:
            _leave(str(fault), Failed.code)  # a file, and no database
        _leave(f"no answer: {_told(fault)}; `tidings doctor` says from where", Unreachable.code)


def build(words: Sequence[str]) -> typer.Typer:
    """The application, with the one command that ``words`` begin with; with all of them when help is needed."""
    app = typer.Typer(
        name="tidings",
        help="A self-hosted notification system.",
        add_completion=False,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
    )
    app.callback()(_root)
    known = [word for word in words[:1] if word in COMMANDS or word == _VERSION]
    for name in known or COMMANDS:
        if name != _VERSION:
            _add(app, name)
    return app


def _add(app: typer.Typer, name: str) -> None:
    module, _, attribute = COMMANDS[name].partition(":")
    command = getattr(import_module(module), attribute)
    if isinstance(command, typer.Typer):
        app.add_typer(command, name=name)
    else:
        app.command(name)(command)


def _say_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tidings {version('tidings')}")
        raise typer.Exit


def _root(
    show_version: Annotated[bool, typer.Option(_VERSION, is_eager=True, callback=_say_version)] = False,
) -> None:
    """Options that come before a command; typer keeps a single command a command where there is such a function."""


def _leave(why: str, code: int) -> NoReturn:
    sys.stderr.write(f"tidings: {why}\n")
    sys.exit(code)


def _told(fault: BaseException) -> str:
    """In one line, whatever the database had to add."""
    return next(iter(str(fault).splitlines()), "") or type(fault).__name__


def _code(fault: Exception) -> int:
    match fault:
        case SettingsError():
            return 2
        case Failed():
            return fault.code
    return 1

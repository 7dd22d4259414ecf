"""The command line: one file per family of commands."""

from tidings.cli.app import main

__all__ = ["main"]

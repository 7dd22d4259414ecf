"""``tidings sandbox``: stands in for every provider."""

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from tidings.cli.app import Config
from tidings.cli.role import OpsPort, announce, run_role, serving_ops
from tidings.runtime.telemetry import Telemetry
from tidings.sandbox.app import SandboxConfig
from tidings.sandbox.app import run as run_sandbox
from tidings.settings import Settings

_MOST_PORT: Final = 65535


def sandbox(
    config: Config = None,
    port: Annotated[int, typer.Option(help="The page and the control API; 0 picks a free one.")] = 0,
    provider_port: Annotated[list[str] | None, typer.Option(help="A listener of its own: sendgrid=9001.")] = None,
    receipts_url: Annotated[list[str] | None, typer.Option(help="Where webhooks go: sendgrid=http://…")] = None,
    signing_key: Annotated[Path | None, typer.Option(help="Kept here, made when absent.")] = None,
    lean: Annotated[bool, typer.Option("--lean", help="Keep counts and references only.")] = False,
    ops_port: OpsPort = None,
) -> None:
    """Stand in for every provider."""
    sandbox_config = _known(
        port=port,
        provider_ports={name: _port(number) for name, number in _pairs(provider_port)},
        receipts_urls=dict(_pairs(receipts_url)),
        signing_key_file=signing_key,
        lean=lean,
    )

    async def serve(settings: Settings, telemetry: Telemetry, stop: asyncio.Event) -> None:
        async with serving_ops(settings, telemetry, {}):
            await run_sandbox(sandbox_config, stop, _announce)

    run_role("sandbox", serve, {"config": config, "ops.port": ops_port})


def _known(**given: Any) -> SandboxConfig:
    try:
        return SandboxConfig(**given)
    except ValueError as fault:
        raise typer.BadParameter(str(fault)) from fault


def _announce(addresses: Mapping[str, Any]) -> None:
    announce("sandbox", addresses["url"])
    for name, one in addresses["providers"].items():
        announce(name, one["url"])


def _port(word: str) -> int:
    if not word.isdecimal() or int(word) > _MOST_PORT:
        raise typer.BadParameter(f"{word!r} is not a port")
    return int(word)


def _pairs(words: list[str] | None) -> Iterator[tuple[str, str]]:
    for word in words or ():
        name, separator, value = word.partition("=")
        if not separator:
            raise typer.BadParameter(f"{word!r} is not of the form name=value")
        yield name, value

"""``tidings send`` and ``tidings show``: one notification, from the terminal."""

import asyncio
import sys
import time
from typing import Annotated, Any, Final

import msgspec
import typer
from rich.console import Console
from rich.live import Live

from tidings.cli.app import DataDir, Failed, Json
from tidings.cli.client import Client, client
from tidings.cli.story import UNFINISHED, told

_LOOK_EVERY_S: Final = 0.1
_PATIENCE_S: Final = 10.0
"""So long is a notification followed: a schedule of retries takes longer, and nobody has to watch it."""
_FOLLOWED: Final = (UNFINISHED - {"scheduled"}) | {"sent"}
_RECEIPT_LOOKS: Final = 50
"""So long is a receipt waited for, once the provider has taken it."""


def show(
    id: Annotated[str, typer.Argument(help="A notification.")], data_dir: DataDir = None, json: Json = False
) -> None:
    """The timeline of one notification, with reasons."""
    found = asyncio.run(_get(id, data_dir))
    _print(found, json)


async def _get(id_: str, data_dir: DataDir) -> dict[str, Any]:
    async with client(data_dir) as api:
        return dict(await api.call("GET", f"/notifications/{id_}"))


def send(
    to: Annotated[str, typer.Argument(help="A user id, an e-mail address, or a telephone number that begins with +.")],
    template: Annotated[str | None, typer.Option(help="A template, with --data.")] = None,
    data: Annotated[str, typer.Option(help="JSON for the template.")] = "{}",
    subject: Annotated[str | None, typer.Option(help="With --text, instead of a template.")] = None,
    text: Annotated[str | None, typer.Option(help="What to say.")] = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Send one notification and follow it until its story ends, for ten seconds at most."""
    body = _body(to, template, data, {"subject": subject, "text": text})
    found = asyncio.run(_send(body, data_dir, Console(stderr=json)))
    if json:
        typer.echo(msgspec.json.encode(found))
    _conclude(found)


def _body(to: str, template: str | None, data: str, content: dict[str, str | None]) -> dict[str, Any]:
    if template:
        try:
            return {**_to(to), "template": template, "data": msgspec.json.decode(data)}
        except msgspec.DecodeError as fault:
            raise typer.BadParameter(f"--data is not JSON: {fault}") from fault
    if not content["text"]:
        raise typer.BadParameter("say what to send: --template NAME, or --subject and --text")
    return {**_to(to), "content": {part: said for part, said in content.items() if said}}


def _to(to: str) -> dict[str, Any]:
    """A telephone number is meant for SMS; else the category says which channels."""
    if to.startswith("+"):
        return {"to": {"phone": to}, "channels": ["sms"]}
    return {"to": {"email": to} if "@" in to else to}


async def _send(body: dict[str, Any], data_dir: DataDir, console: Console) -> dict[str, Any]:
    async with client(data_dir) as api:
        accepted = await api.call("POST", "/notifications", body)
        return await _followed(api, accepted["id"], console)


async def _followed(api: Client, id_: str, console: Console) -> dict[str, Any]:
    """The notification as it was at the last look."""
    end, looks = time.monotonic() + _PATIENCE_S, 0
    with Live(console=console, auto_refresh=False) as live:
        while True:
            found = dict(await api.call("GET", f"/notifications/{id_}"))
            live.update(told(found), refresh=True)
            looks += found["status"] == "sent"
            if found["status"] not in _FOLLOWED or looks > _RECEIPT_LOOKS or time.monotonic() > end:
                return found
            await asyncio.sleep(_LOOK_EVERY_S)


def _conclude(found: dict[str, Any]) -> None:
    """Says what to do about one that is under way still. Raises Failed for one that will not arrive."""
    status = found["status"]
    if status in UNFINISHED:
        reasons = ", ".join(sorted({one["reason"] for one in found["deliveries"] if one["reason"]}))
        why = f" ({reasons})" if reasons else ""
        sys.stderr.write(f"tidings: {status} for now{why}; `tidings show {found['id']}` tells how it goes on\n")
    elif status not in {"sent", "delivered"}:
        raise Failed(f"it ended as {status}")


def _print(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        typer.echo(msgspec.json.encode(found))
    else:
        Console().print(told(found))

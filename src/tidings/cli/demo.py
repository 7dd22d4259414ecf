"""``tidings demo``: a few notifications, each followed from the call to the provider's word that it arrived."""

import asyncio
import secrets
import time
from typing import Any, Final

from rich.console import Console
from rich.live import Live
from rich.table import Column, Table

from tidings.cli.app import DataDir, Failed
from tidings.cli.client import Client, client
from tidings.cli.story import UNFINISHED, coloured

PEOPLE: Final = (
    ("ada", "Ada Lovelace", "12.50 €"),
    ("grace", "Grace Hopper", "7.00 €"),
    ("alan", "Alan Turing", "31.41 €"),
)
_PATIENCE_S: Final = 30.0
_LOOK_EVERY_S: Final = 0.1
_UNDER_WAY: Final = UNFINISHED | {"sent"}


def demo(data_dir: DataDir = None) -> None:
    """Send a few notifications and show them arrive."""
    asyncio.run(_demo(data_dir))


async def _demo(data_dir: DataDir) -> None:
    async with client(data_dir) as api:
        for user, name, _ in PEOPLE:
            body = {"emails": [f"{user}@example.com"], "attributes": {"name": name}}
            await api.call("PUT", f"/users/demo-{user}", body)
        sent = [await _send(api, *person) for person in PEOPLE]
        await _follow(api, sent)


async def _send(api: Client, user: str, name: str, total: str) -> str:
    order = secrets.token_hex(3).upper()
    body = {
        "to": f"demo-{user}",
        "template": "order_confirmation",
        "data": {"name": name, "order": order, "total": total},
        "reference": f"order-{order}",
    }
    answer = await api.call("POST", "/notifications", body, **{"Idempotency-Key": f"demo-{order}"})
    return str(answer["id"])


async def _follow(api: Client, ids: list[str]) -> None:
    """Shows each until the provider has said what became of it."""
    end = time.monotonic() + _PATIENCE_S
    with Live(console=Console(), auto_refresh=False) as live:
        while True:
            found = [await api.call("GET", f"/notifications/{id_}") for id_ in ids]
            live.update(_table(found), refresh=True)
            if not (missing := [one for one in found if one["status"] != "delivered"]):
                return
            for one in missing:
                if one["status"] not in _UNDER_WAY or time.monotonic() > end:
                    raise Failed(_missed(one))
            await asyncio.sleep(_LOOK_EVERY_S)


def _missed(one: dict[str, Any]) -> str:
    still = "still " if one["status"] in _UNDER_WAY else ""
    return f"{one['id']} is {still}{one['status']}; `tidings show {one['id']}` says why"


def _table(found: list[dict[str, Any]]) -> Table:
    table = Table(Column("notification", min_width=36), "to", "channel", "status", "tries", box=None)
    for one in found:
        for delivery in one["deliveries"]:
            table.add_row(
                one["id"],
                delivery["address"] or one["user"],
                delivery["channel"],
                coloured(delivery["status"]),
                str(len(delivery["attempts"])),
            )
    return table

"""``tidings demo``: a few notifications on every channel and one by a mail server, each followed from the call to the
provider's word that it arrived."""

import asyncio
import secrets
import time
from typing import Any, Final

import msgspec
from rich.console import Console
from rich.live import Live
from rich.table import Column, Table

from tidings.cli.app import DataDir, Failed
from tidings.cli.bootstrap import HOUSE, STAFF
from tidings.cli.client import Client, client
from tidings.cli.story import UNFINISHED, coloured


class Person(msgspec.Struct, frozen=True):
    """Somebody with an address on every channel."""

    user: str
    name: str
    phone: str
    total: str


PEOPLE: Final = (
    Person("ada", "Ada Lovelace", "+12025550101", "12.50 €"),
    Person("grace", "Grace Hopper", "+12025550102", "7.00 €"),
    Person("alan", "Alan Turing", "+12025550103", "31.41 €"),
)
STAFF_MEMBER: Final = PEOPLE[1]
UNREPORTED: Final = frozenset({"fcm", HOUSE})
"""Providers who never say that something arrived."""

_PATIENCE_S: Final = 30.0
_LOOK_EVERY_S: Final = 0.1
_UNDER_WAY: Final = UNFINISHED | {"sent"}


def demo(data_dir: DataDir = None) -> None:
    """Send a few notifications and show them arrive."""
    asyncio.run(_demo(data_dir))


async def _demo(data_dir: DataDir) -> None:
    async with client(data_dir) as api:
        channels = await _channels(api)
        for person in PEOPLE:
            await _introduce(api, person)
        sent = [await _send(api, person, channels) for person in PEOPLE]
        if "email" in channels:
            sent.append(await _report(api))
        await _follow(api, sent)


async def _channels(api: Client) -> list[str]:
    """Those that lead somewhere."""
    served = [one["channel"] for one in (await api.call("GET", "/rollouts"))["items"]]
    return [channel for channel in served if (await api.call("GET", f"/routes/{channel}"))["providers"]]


async def _introduce(api: Client, person: Person) -> None:
    body = {
        "emails": [f"{person.user}@example.com"],
        "phones": [person.phone],
        "push_tokens": [f"{person.user}-phone"],
        "attributes": {"name": person.name},
    }
    await api.call("PUT", f"/users/demo-{person.user}", body)


async def _send(api: Client, person: Person, channels: list[str]) -> str:
    order = secrets.token_hex(3).upper()
    body = {
        "to": f"demo-{person.user}",
        "template": "order_confirmation",
        "data": {"name": person.name, "order": order, "total": person.total},
        "channels": channels,
        "reference": f"order-{order}",
    }
    answer = await api.call("POST", "/notifications", body, **{"Idempotency-Key": f"demo-{order}"})
    return str(answer["id"])


async def _report(api: Client) -> str:
    """To one of the staff, by the mail server of the house."""
    rows = "".join([f"<li>{person.name}: {person.total}</li>" for person in PEOPLE])
    body = {
        "to": f"demo-{STAFF_MEMBER.user}",
        "content": {
            "subject": f"{len(PEOPLE)} orders today",
            "text": "\n".join([f"{person.name}: {person.total}" for person in PEOPLE]),
            "html": f"<h1>Orders of today</h1><ul>{rows}</ul>",
        },
        "category": STAFF,
        "channels": ["email"],
    }
    return str((await api.call("POST", "/notifications", body))["id"])


async def _follow(api: Client, ids: list[str]) -> None:
    """Shows each until the provider has said what became of it."""
    end = time.monotonic() + _PATIENCE_S
    with Live(console=Console(), auto_refresh=False) as live:
        while True:
            found = [await api.call("GET", f"/notifications/{id_}") for id_ in ids]
            live.update(_table(found), refresh=True)
            missing = [(one["id"], delivery) for one in found for delivery in one["deliveries"] if not _there(delivery)]
            if not missing:
                return
            for id_, delivery in missing:
                if delivery["status"] not in _UNDER_WAY or time.monotonic() > end:
                    raise Failed(_missed(id_, delivery))
            await asyncio.sleep(_LOOK_EVERY_S)


def _there(delivery: dict[str, Any]) -> bool:
    by = {one["provider"] for one in delivery["attempts"]}
    return delivery["status"] == "delivered" or (delivery["status"] == "sent" and not by.isdisjoint(UNREPORTED))


def _missed(id_: str, delivery: dict[str, Any]) -> str:
    still = "still " if delivery["status"] in _UNDER_WAY else ""
    return f"{id_} is {still}{delivery['status']} on {delivery['channel']}; `tidings show {id_}` says why"


def _table(found: list[dict[str, Any]]) -> Table:
    table = Table(Column("notification", min_width=36), "to", "channel", "status", "tries", box=None)
    for one in found:
        for n, delivery in enumerate(one["deliveries"]):
            table.add_row(
                "" if n else one["id"],
                delivery["address"] or one["user"],
                delivery["channel"],
                coloured(delivery["status"]),
                str(len(delivery["attempts"])),
            )
    return table

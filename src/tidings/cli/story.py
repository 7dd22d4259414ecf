"""A notification as a person reads it in the terminal."""

from collections import defaultdict
from decimal import Decimal
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

_COLOURS: Final = {
    "delivered": "green",
    "sent": "cyan",
    "queued": "yellow",
    "scheduled": "yellow",
    "sending": "yellow",
    "in_doubt": "magenta",
}
UNFINISHED: Final = frozenset({"scheduled", "queued", "sending", "in_doubt"})


def coloured(status: str) -> Text:
    return Text(status, style=_COLOURS.get(status, "red"))


def clock(at: str | None) -> str:
    """The time of day of a timestamp; whole days are not worth the width."""
    return at[11:23] if at else ""


def told(one: dict[str, Any]) -> RenderableType:
    """Head, deliveries and timeline."""
    head = Text.assemble(
        (one["id"], "bold"), " to ", (one["user"], "bold"), "  ", coloured(one["status"]), "  ", _cost(one)
    )
    return Group(head, _deliveries(one), timeline(one))


def _deliveries(one: dict[str, Any]) -> Table:
    table = Table(
        Column("delivery", min_width=36),
        "channel",
        "address",
        "status",
        "reason",
        "tries",
        box=None,
        header_style="dim",
    )
    for delivery in one["deliveries"]:
        reason = delivery["reason"] or ""
        if delivery["duplicate_possible"]:
            reason = f"{reason} (a duplicate is possible)".strip()
        table.add_row(
            delivery["id"],
            delivery["channel"],
            delivery["address"] or "",
            coloured(delivery["status"]),
            reason,
            str(len(delivery["attempts"])),
        )
    return table


def _cost(one: dict[str, Any]) -> str:
    """Of all calls, in each currency."""
    sums = defaultdict[str, Decimal](Decimal)
    attempts = (attempt for delivery in one["deliveries"] for attempt in delivery["attempts"])
    for cost in filter(None, (attempt["cost"] for attempt in attempts)):
        sums[cost["currency"]] += Decimal(cost["amount"])
    return ", ".join(f"{amount:f} {currency}" for currency, amount in sums.items())


def timeline(one: dict[str, Any]) -> Table:
    table = Table("time (UTC)", "what", "provider", "why", box=None, header_style="dim")
    for line in one["timeline"]:
        why = " ".join(filter(None, (line["why"], line["detail"])))
        table.add_row(clock(line["at"]), line["what"], line["provider"] or "", why)
    return table

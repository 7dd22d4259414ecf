"""Dead letters as a person reads them in the terminal."""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Column, Table
from rich.text import Text

from tidings.cli.story import timeline


def causes(items: Sequence[dict[str, Any]]) -> Table:
    """A line for each thing that letters have in common, so that it fits into a narrow terminal."""
    table = Table("count", _folded("cause"), "first, last (UTC)", Column("latest delivery", no_wrap=True), box=None)
    for one in items:
        between = _lines(_minute(one["first_at"]), _minute(one["last_at"]))
        table.add_row(str(one["count"]), _cause(one), between, one["latest"])
    return table


def letters(items: Sequence[dict[str, Any]]) -> Table:
    table = Table(Column("delivery", no_wrap=True), "buried (UTC)", _folded("cause"), box=None)
    for one in items:
        table.add_row(_lines(one["id"], one["user"], one["address"]), _minute(one["buried_at"]), _cause(one))
    return table


def _folded(name: str) -> Column:
    return Column(name, overflow="fold")


def _cause(one: dict[str, Any]) -> str:
    answer = " ".join(filter(None, (one["provider"], one["code"])))
    return _lines(one["reason"], answer, one["template"], one["channel"])


def _lines(*words: str | None) -> str:
    return "\n".join(filter(None, words))


def _minute(at: str) -> str:
    return at[:16].replace("T", " ")


def letter(one: dict[str, Any]) -> RenderableType:
    """What it would be sent with, what is wrong, and its story."""
    return Group(*_parts(one))


def _parts(one: dict[str, Any]) -> Iterator[RenderableType]:
    yield Text.assemble((one["id"], "bold"), f" to {one['address'] or 'nobody'} by {one['channel']}  ", ("dead", "red"))
    yield Text(": ".join(filter(None, (one["reason"], one["detail"]))))
    last = one["last_attempt"]
    if last:
        said = ": ".join(filter(None, (last["code"], last["detail"])))
        yield Text(f"{last['provider']} answered last, at {last['at']}: {said}")
    if one["duplicate_possible"]:
        yield Text("an earlier try may have gone: a replay may be the second copy", style="yellow")
    if one["template"]:
        yield Text(f"template {one['template']} with {_json(one['data'])}")
    yield _preview(one["preview"])
    yield Text(f"notification {one['notification']['id']} to {one['notification']['user']}")
    yield timeline(one["notification"])


def _preview(preview: dict[str, Any]) -> Panel:
    if preview["fault"]:
        return Panel(Text(preview["fault"], style="red"), title="cannot be sent", title_align="left", expand=False)
    shown = Text("\n").join(Text.assemble((f"{part}: ", "dim"), str(text)) for part, text in preview["content"].items())
    return Panel(shown, title="would be sent", title_align="left", expand=False)


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()

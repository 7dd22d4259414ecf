"""Figures and ledger checks as people read them."""

from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from tidings.bench.ledger import Report

_LETTERS = {
    "L": "nothing is lost",
    "D": "nothing is sent twice",
    "P": "nothing comes from nowhere",
    "I": "one key, one id, one body",
    "A": "attempts are the calls made",
    "M": "no status moved back",
    "T": "every call its own tenant's credentials",
}


def ledger(report: Report) -> Group:
    """The check: a line for each law, then examples of what broke it, then what could not be checked."""
    table = Table(title="Ledger check", title_justify="left", title_style="bold")
    for column in ("", "law", "violations"):
        table.add_column(column, justify="right" if column == "violations" else "left")
    for letter, law in _LETTERS.items():
        count = report.found.get(letter, 0)
        shown = "not checked" if letter in report.skipped else f"{count:,}"
        table.add_row(letter, law, shown, style="red" if count else "yellow" if letter in report.skipped else "green")
    counts = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in report.counts.items() if count)
    examples = [Text(f"{one.letter}  {one.id}  {one.what}", style="red") for one in report.violations]
    unchecked = [Text(f"not checked: {sentence}", style="yellow") for sentence in report.unchecked]
    return Group(table, Text(counts), *examples, *unchecked)


def figures(summary: dict[str, Any]) -> Group:
    """A bench's result: its runs, the medians, and where the processor's time went."""
    runs = Table(title=f"bench {summary['name']}", title_justify="left", title_style="bold")
    for column in ("run", "per second", "p50 ms", "p99 ms", "bare loop/s", "others' cores"):
        runs.add_column(column, justify="left" if column == "run" else "right")
    for number, run in enumerate(summary["runs"], 1):
        name = f"{run.get('figure', '')} {number}".strip()
        runs.add_row(name, *_row(run), f"{run['other_cores']:.2f}")
    runs.add_section()
    runs.add_row("median", *_row(summary), "", style="bold")
    return Group(runs, _cpu(summary), *_words(summary))


def _row(one: dict[str, Any]) -> tuple[str, str, str, str]:
    limit = one["limit_per_s"]
    return f"{one['per_s']:,.0f}", f"{one['p50_ms']:.1f}", f"{one['p99_ms']:.1f}", f"{limit:,.0f}" if limit else "–"


def _cpu(summary: dict[str, Any]) -> Table:
    used = {kind: us for kind, us in summary["cpu_us"].items() if us}
    table = Table(title="CPU per notification, µs", title_justify="left", title_style="bold")
    for kind in (*used, "all"):
        table.add_column(kind.replace("_", " "), justify="right")
    table.add_row(*(f"{us:.0f}" for us in used.values()), f"{sum(used.values()):.0f}")
    return table


def _words(summary: dict[str, Any]) -> list[Text]:
    checked = summary["ledger"]
    words = [f"{name.replace('_', ' ')}: {per_s:,.0f}/s" for name, per_s in summary.get("figures", {}).items()]
    if summary["ratio"] is not None:
        words.append(f"{summary['ratio']:.0%} of the bare loop")
    state = "clean" if checked["clean"] else f"NOT CLEAN: {checked['lost']} lost, {checked['repeated']} repeated"
    verdict = Text(f"ledgers: {state}", style="green" if checked["clean"] else "bold red")
    return [*(Text(word) for word in words), verdict, Text(summary["machine"], style="dim")]

"""A running system as a person reads it in the terminal: 80 columns and 24 lines are enough."""

from collections import Counter
from collections.abc import Iterator, Sequence
from math import isinf
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from tidings.domain.figures import LaneFigures
from tidings.domain.overview import Overview, ProviderView
from tidings.domain.presence import ROLES

_HIGH: Final = 40
"""From so many lines up there is room for more of everything."""
_FEW: Final = 2
_MORE: Final = 12
_OLD_S: Final = 60.0
_UNITS: Final = ((1.0, 1.0, "s"), (120.0, 60.0, "min"), (7_200.0, 3_600.0, "h"), (172_800.0, 86_400.0, "d"))
"""From so many seconds up, in units of so many, called that."""


def screen(seen: Overview, wants: Sequence[str], lines: int | None = None) -> RenderableType:
    """``wants`` is what needs a person; ``lines`` the height of the terminal, None for a page that may be long."""
    roomy = lines is None or lines >= _HIGH
    most, gap = (_MORE, [Text()]) if roomy else (_FEW, [])
    doing = [*_providers(seen.providers, most), _parked(seen), *_causes(seen, most)]
    told = _wants(wants, len(wants) if lines is None else most)
    return Group(*_head(seen), *told, *gap, _lanes(seen.lanes), *gap, *doing)


def _head(seen: Overview) -> Iterator[RenderableType]:
    yield Text.assemble(("tidings", "bold"), f"  {seen.at:%Y-%m-%d %H:%M:%S} UTC  ", *_pace(seen))
    count, known = Counter(one.role for one in seen.processes or ()), seen.processes is not None
    roles = ", ".join(f"{role} {count[role] if known else '?'}" for role in ROLES)
    answer = sum(one.fault is None for one in seen.shards)
    yield Text(f"{roles}; {answer} of {len(seen.shards)} shards answer", style="dim")


def _wants(wants: Sequence[str], most: int) -> Iterator[RenderableType]:
    if not wants:
        yield Text("nothing needs attention", style="green")
    for one in wants[:most]:
        yield Text(f"! {one}", style="yellow")
    if len(wants) > most:
        yield Text(f"! and {len(wants) - most} more: `tidings status --once` has them all", style="yellow")


def _pace(seen: Overview) -> Iterator[str | tuple[str, str]]:
    for word, per_s in (("accepted", seen.accepted_per_s), ("sent", seen.sent_per_s)):
        yield f"  {word} "
        yield ("?" if per_s is None else f"{number(per_s)}/s", "bold")


def _lanes(lanes: Sequence[LaneFigures]) -> Table:
    lagging = any(one.lag is not None for one in lanes)
    heads = ("waiting", "due", "oldest", "left/s", "drains in", "workers", *(["lag"] if lagging else []))
    columns = (Column(head, justify="right", no_wrap=True) for head in heads)
    table = Table(Column("lane", no_wrap=True), *columns, box=None, header_style="dim", pad_edge=False)
    table.collapse_padding = lagging
    for one in lanes:
        lag = [_known(one.lag)] if lagging else []
        counts, times = (_figure(one.waiting), _figure(one.due)), (_age(one), _known(one.per_s), _drain(one))
        table.add_row(one.lane, *counts, *times, _workers(one), *lag)
    return table


def _providers(providers: Sequence[ProviderView], most: int) -> Iterator[RenderableType]:
    unwell = [one for one in providers if not one.well]
    table = Table("provider", "channel", "state", "breaker", "since (UTC)", "why", box=None, pad_edge=False)
    table.header_style = "dim"
    for one in unwell[:most]:
        since = f"{one.since:%m-%d %H:%M:%S}" if one.since else ""
        table.add_row(one.name, one.channel, one.state, Text(one.breaker or "?", _colour(one)), since, one.why or "")
    if unwell:
        yield table
    more, well = len(unwell) - most, len(providers) - len(unwell)
    yield Text(
        "providers: "
        + ", ".join([*([f"{more} more are not well"] if more > 0 else []), f"{well} of {len(providers)} take calls"])
    )


def _colour(provider: ProviderView) -> str:
    return {"closed": "green", "half_open": "yellow"}.get(provider.breaker or "", "red")


def _parked(seen: Overview) -> Text:
    oldest = f" (the oldest for {span(seen.doubt.oldest_s)})" if seen.doubt.open else ""
    return Text(f"in doubt: {seen.doubt.open:,}{oldest}; dead letters: {seen.dead_letters.count:,}")


def _causes(seen: Overview, most: int) -> Iterator[Text]:
    for one in seen.dead_letters.causes[:most]:
        about = " ".join(filter(None, (one.reason, one.channel, one.provider)))
        yield Text(f"  {one.count:,} {about}", style="dim")


def _figure(count: int) -> str:
    return number(count) if count else "·"


def _age(lane: LaneFigures) -> Text:
    return Text(span(lane.oldest_due_s) if lane.due else "·", "yellow" if lane.oldest_due_s > _OLD_S else "")


def _known(figure: float | None) -> str:
    return "?" if figure is None else number(figure) if figure else "·"


def _drain(lane: LaneFigures) -> Text:
    if not lane.due:
        return Text("·")
    if lane.drain_s is None:
        return Text("?")
    return Text("never", "red") if isinf(lane.drain_s) else Text(span(lane.drain_s))


def _workers(lane: LaneFigures) -> Text:
    if lane.workers is None:
        return Text("?")
    return Text(str(lane.workers), "red bold" if lane.due and not lane.workers else "")


def number(figure: float) -> str:
    """In seven characters: ``0.4``, ``12,345``, ``1.2M``."""
    if figure >= 999_999.5:
        return f"{figure / 1e6:,.1f}M"
    return f"{figure:.1f}" if 0 < figure < 9.95 and figure != int(figure) else f"{figure:,.0f}"


def span(seconds: float) -> str:
    """In the unit that a person would choose."""
    _, unit_s, name = max(one for one in _UNITS if seconds >= one[0] or one[1] == 1.0)
    return f"{number(seconds / unit_s)} {name}"

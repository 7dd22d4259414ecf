"""``tidings dead-letters``: what could not be delivered, and what to do about it."""

import asyncio
import sys
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import urlencode
from uuid import UUID

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tidings.cli.app import DataDir, Failed, Json
from tidings.cli.client import Client, client
from tidings.cli.letters import causes, letter, letters

dead_letters = typer.Typer(help="What could not be delivered, and what to do about it.", no_args_is_help=True)

_FILTERS: Final = ("reason", "provider", "code", "template", "channel", "since", "until")
_PAGE: Final = 200

Id = Annotated[UUID, typer.Argument(help="A delivery.")]
Ids = Annotated[list[UUID] | None, typer.Argument(help="Deliveries; none: all that the filters leave.")]
Reason = Annotated[str | None, typer.Option(help="Such as attempts_used, template_error, quarantined.")]
Provider = Annotated[str | None, typer.Option(help="The account of the last attempt.")]
Code = Annotated[str | None, typer.Option(help="What it answered, such as http_503.")]
Template = Annotated[str | None, typer.Option(help="Any version of it.")]
ChannelName = Annotated[str | None, typer.Option("--channel", help="Such as email.")]
Since = Annotated[str | None, typer.Option(help="Buried from then on, such as 2026-12-01T09:00Z.")]
Until = Annotated[str | None, typer.Option(help="Buried before that.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Change nothing, only say which and when.")]


@dead_letters.command("list")
def list_(
    reason: Reason = None,
    provider: Provider = None,
    code: Code = None,
    template: Template = None,
    channel: ChannelName = None,
    since: Since = None,
    until: Until = None,
    each: Annotated[bool, typer.Option("--each", help="One by one, the last buried first.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="With --each: at most so many.")] = 50,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Grouped by cause, or one by one."""
    given = _given(locals())
    found = asyncio.run(_each(given, limit, data_dir) if each else _causes(given, data_dir))
    if json:
        typer.echo(msgspec.json.encode(found))
        return
    Console().print(letters(found["items"]) if each else causes(found["items"]))
    if not each and not found["complete"]:
        typer.echo("there are more than are counted here: the newest are; look further back with --until")
    if found["items"]:
        typer.echo("`tidings dead-letters show` takes the id of a delivery; `edit`, `replay` and `discard` do too")


@dead_letters.command()
def show(id: Id, data_dir: DataDir = None, json: Json = False) -> None:
    """Why it could not be delivered, what was tried, and what it would be sent with."""
    _print(asyncio.run(_call("GET", f"/dead-letters/{id}", None, data_dir)), json)


@dead_letters.command()
def edit(
    id: Id,
    address: Annotated[str | None, typer.Option(help="Where it goes instead.")] = None,
    data: Annotated[str | None, typer.Option(help="JSON, or @FILE: what changes in the data.")] = None,
    content: Annotated[str | None, typer.Option(help="JSON, or @FILE: what changes in the content.")] = None,
    template: Annotated[str | None, typer.Option(help="Use the newest version of this template.")] = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Change what this delivery is sent with; the notification stays as it was asked for."""
    named = {
        "address": address,
        "template": template,
        "data": _json("data", data),
        "content": _json("content", content),
    }
    body = {name: value for name, value in named.items() if value is not None}
    if not body:
        raise typer.BadParameter("say what to change: --address, --data, --content or --template")
    _print(asyncio.run(_call("PATCH", f"/dead-letters/{id}", body, data_dir)), json)


@dead_letters.command()
def replay(
    ids: Ids = None,
    reason: Reason = None,
    provider: Provider = None,
    code: Code = None,
    template: Template = None,
    channel: ChannelName = None,
    since: Since = None,
    until: Until = None,
    rate: Annotated[float | None, typer.Option(min=0.0001, help="So many a second; else all at once.")] = None,
    start_at: Annotated[str | None, typer.Option(help="The first one then; else now.")] = None,
    newest_template: Annotated[bool, typer.Option("--newest-template", help="Render them with its mended version.")] = (
        False
    ),
    dry_run: DryRun = False,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Put them back into their lanes, the oldest first, with a fresh schedule."""
    more = {"rate": rate, "start_at": start_at, "newest_template": newest_template or None}
    body = _chosen(ids, _given(locals())) | {name: value for name, value in more.items() if value is not None}
    done = asyncio.run(_act("replay", body | {"dry_run": dry_run}, data_dir))
    _tell(done, "would be replayed" if dry_run else "replayed", json)


@dead_letters.command()
def discard(
    ids: Ids = None,
    reason: Reason = None,
    provider: Provider = None,
    code: Code = None,
    template: Template = None,
    channel: ChannelName = None,
    since: Since = None,
    until: Until = None,
    because: Annotated[str | None, typer.Option(help="Why; stays with the deliveries.")] = None,
    dry_run: DryRun = False,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Give them up for good."""
    body = _chosen(ids, _given(locals())) | ({"because": because} if because else {})
    done = asyncio.run(_act("discard", body | {"dry_run": dry_run}, data_dir))
    _tell(done, "would be discarded" if dry_run else "discarded", json)


def _given(options: Mapping[str, Any]) -> dict[str, str]:
    """The filters among a command's options."""
    return {name: options[name] for name in _FILTERS if options[name] is not None}


def _chosen(ids: list[UUID] | None, filters: dict[str, str]) -> dict[str, Any]:
    if not ids and not filters:
        raise typer.BadParameter("name deliveries, or a filter such as --reason")
    return {**filters, **({"ids": ids} if ids else {})}


def _json(name: str, text: str | None) -> Any:
    if text is None:
        return None
    try:
        return msgspec.json.decode(Path(text[1:]).read_bytes() if text.startswith("@") else text)
    except msgspec.DecodeError as fault:
        raise typer.BadParameter(f"--{name} is not JSON: {fault}") from fault


async def _causes(filters: dict[str, str], data_dir: Path | None) -> dict[str, Any]:
    async with client(data_dir) as api:
        return dict(await api.call("GET", f"/dead-letters?{urlencode(filters)}"))


async def _each(filters: dict[str, str], limit: int, data_dir: Path | None) -> dict[str, Any]:
    items, after = list[Any](), dict[str, str]()
    async with client(data_dir) as api:
        while True:
            query = urlencode({**filters, **after, "limit": min(limit - len(items), _PAGE)})
            found = await api.call("GET", f"/dead-letters/each?{query}")
            items += found["items"]
            if found["next"] is None or len(items) >= limit:
                return {"items": items, "next": found["next"]}
            after = {"after": found["next"]}


async def _act(verb: str, body: dict[str, Any], data_dir: Path | None) -> dict[str, Any]:
    """Call after call until there are no more; what came of all of them together."""
    done: dict[str, Any] = {}
    async with client(data_dir) as api:
        with _progress() as progress:
            bar = progress.add_task(verb, total=await _expected(api, body))
            following: dict[str, Any] | None = body
            while following is not None:
                said = await api.call("POST", f"/dead-letters/{verb}", following)
                done = dict(_together(done, said))
                progress.update(bar, completed=len(done["ids"]))
                following = {**body, **_named(said["next"])} if said["next"] else None
    return done


def _named(onward: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in onward.items() if value is not None}


async def _expected(api: Client, body: dict[str, Any]) -> int | None:
    """How many there will be, None where nobody knows."""
    if "ids" in body:
        return len(body["ids"])
    found = await api.call("GET", f"/dead-letters?{urlencode(_filters(body))}")
    return sum(one["count"] for one in found["items"]) if found["complete"] else None


def _filters(body: dict[str, Any]) -> dict[str, str]:
    return {name: body[name] for name in _FILTERS if name in body}


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())


def _together(before: dict[str, Any], said: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Numbers and lists add up; the first time stays the first, the last one is the latest."""
    for name, value in said.items():
        known = before.get(name)
        if isinstance(value, (list, int)) and not isinstance(value, bool):
            yield name, value if known is None else known + value
        elif name == "first_due_at":
            yield name, known or value
        elif name == "last_due_at":
            yield name, value or known
        else:
            yield name, value


def _tell(done: dict[str, Any], what: str, as_json: bool) -> None:
    if as_json:
        typer.echo(msgspec.json.encode(done))
    else:
        typer.echo(", ".join([f"{len(done['ids'])} {what}", *_when(done), *_warnings(done)]))
    if not done["ids"]:
        raise Failed("nothing matched")


def _when(done: dict[str, Any]) -> Iterator[str]:
    first, last = done.get("first_due_at"), done.get("last_due_at")
    if first and last and first != last:
        took = datetime.fromisoformat(last) - datetime.fromisoformat(first)
        yield f"from {first} to {last} ({took.total_seconds():.0f} s)"


def _warnings(done: dict[str, Any]) -> Iterator[str]:
    if done.get("expiring"):
        yield f"{done['expiring']} of them expire before"
    if done.get("duplicate_possible"):
        yield f"{done['duplicate_possible']} of them may be a second copy"


def _print(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        typer.echo(msgspec.json.encode(found))
    else:
        Console().print(letter(found))


async def _call(method: str, path: str, body: dict[str, Any] | None, data_dir: Path | None) -> dict[str, Any]:
    async with client(data_dir) as api:
        return dict(await api.call(method, path, body))

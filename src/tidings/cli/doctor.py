"""``tidings doctor``: is everything there that the settings name, and what to do where it is not."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, Final

import asyncpg
import msgspec
import redis.asyncio as redis
import typer
from redis.exceptions import RedisError
from rich.console import Console
from rich.table import Table

from tidings.cli.accounts import accounts
from tidings.cli.app import NO_ANSWER, Config, DataDir, Failed, Json, Unreachable
from tidings.cli.finding import Finding
from tidings.cli.processes import processes
from tidings.domain.errors import Unavailable
from tidings.domain.lanes import sending_lanes
from tidings.hints.topics import admin, sizes
from tidings.settings import Settings, current
from tidings.storage.migrate import Kind, behind
from tidings.wiring.hints import kafka_address

_CLOCKS_APART_S: Final = 1.0
_OLDEST_SERVER: Final = 15
_TIMEOUT_S: Final = 5.0


def doctor(
    data_dir: DataDir = None,
    config: Config = None,
    show_settings: Annotated[bool, typer.Option("--settings", help="Every setting and where it came from.")] = False,
    json: Json = False,
) -> None:
    """Check what the settings name: reachability, versions, schema, clocks, and the accounts at providers."""
    settings = current({"data_dir": data_dir and str(data_dir), "config": config and str(config)})
    findings = asyncio.run(_examine(settings))
    if json:
        typer.echo(msgspec.json.encode({"findings": findings, "settings": settings.describe()}))
    else:
        _show(findings, settings if show_settings else None)
    if away := [finding.what for finding in findings if finding.away]:
        raise Unreachable(f"no answer from {', '.join(away)}")
    if any(finding.advice for finding in findings):
        raise Failed("something needs attention")


async def _examine(settings: Settings) -> list[Finding]:
    findings = [Finding("master key", "set" if settings.master_key else "missing", _key_advice(settings))]
    control = [finding async for finding in _database("control", settings.control_dsn, "control")]
    findings += control
    if not settings.shard_dsns:
        findings.append(Finding("shards", "none", "name at least one in shard_dsns (TIDINGS_SHARD_DSNS)"))
    for number, dsn in enumerate(settings.shard_dsns):
        findings += [finding async for finding in _database(f"shard {number}", dsn, "shard")]
    board = await _valkey(settings)
    findings += [board, *await _kafka(settings), _egress(settings)]
    readable = settings.master_key and not any(finding.advice for finding in control)
    findings += await accounts(settings) if readable else ()
    told = settings.control_dsn and settings.shard_dsns and not board.advice
    return [*findings, *(await processes(settings) if told else ())]


def _key_advice(settings: Settings) -> str:
    return "" if settings.master_key else "set TIDINGS_MASTER_KEY to 64 random hexadecimal digits, and keep it"


async def _database(name: str, dsn: str, kind: Kind) -> AsyncIterator[Finding]:
    if not dsn:
        yield Finding(name, "not set", "start `tidings up`, or set TIDINGS_CONTROL_DSN and TIDINGS_SHARD_DSNS")
        return
    try:
        connection = await asyncpg.connect(dsn, timeout=_TIMEOUT_S)
    except NO_ANSWER as fault:
        yield _away(name, fault, "PostgreSQL")
        return
    try:
        major = connection.get_server_version().major
        old = "" if major >= _OLDEST_SERVER else f"PostgreSQL {_OLDEST_SERVER} or newer is needed"
        yield Finding(name, f"PostgreSQL {major}", old)
        apart_s = abs((await connection.fetchval("SELECT now()") - datetime.now(UTC)).total_seconds())
        yield Finding(f"{name}, clock", f"{apart_s:.3f} s apart", _clock_advice(apart_s))
    finally:
        await connection.close()
    missing = await behind(dsn, kind)
    found = f"{len(missing)} migrations missing" if missing else "up to date"
    yield Finding(f"{name}, schema", found, "run `tidings migrate`" if missing else "")


def _away(name: str, fault: Exception, what: str) -> Finding:
    advice = f"is {what} up, and is the address right?"
    return Finding(name, f"no answer ({type(fault).__name__})", advice, away=True)


def _clock_advice(apart_s: float) -> str:
    return "" if apart_s < _CLOCKS_APART_S else "synchronise the clocks of both machines (NTP)"


async def _valkey(settings: Settings) -> Finding:
    if not settings.valkey_url:
        return Finding("valkey", "not set", "without it nothing wakes idle workers: they look once in worker.poll_s")
    try:
        client = redis.Redis.from_url(settings.valkey_url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S)
    except ValueError as fault:
        return Finding("valkey", "not a URL", f"correct valkey_url: {fault}")
    try:
        said = await client.info("server")
    except (RedisError, OSError) as fault:
        return _away("valkey", fault, "Valkey")
    finally:
        await client.aclose()
    return Finding("valkey", f"version {said.get('valkey_version') or said.get('redis_version')}")


async def _kafka(settings: Settings) -> list[Finding]:
    if settings.hints != "kafka":
        return []
    address = kafka_address(settings.kafka)
    topics = [address.topic(lane) for lane in sending_lanes()]
    try:
        found = await sizes(admin(address), topics, _TIMEOUT_S)
    except Unavailable as fault:
        return [Finding("kafka", f"no answer ({fault})", "are the brokers up? Until then workers only look", away=True)]
    wanted = settings.kafka.partitions
    few = [name for name in topics if found.get(name, 0) < wanted]
    advice = f"run `tidings migrate`: {', '.join(few)} should have {wanted} partitions" if few else ""
    return [Finding("kafka", f"{len(found)} of {len(topics)} topics", advice)]


def _egress(settings: Settings) -> Finding:
    if not settings.egress_allow:
        return Finding("egress", "public addresses alone")
    warning = "whoever may put a webhook or an account can make Tidings call what is there: no more than is needed"
    return Finding("egress", f"public addresses, and {', '.join(settings.egress_allow)}", warning=warning)


def _show(findings: list[Finding], settings: Settings | None) -> None:
    console = Console()
    table = Table("", "what", "found", "what to do", box=None, header_style="dim")
    for finding in findings:
        table.add_row(_mark(finding), finding.what, finding.found, finding.advice or finding.warning)
    console.print(table)
    if settings is not None:
        described = Table("setting", "value", "from", box=None, header_style="dim")
        for one in settings.describe():
            described.add_row(one.key, str(one.value), one.source)
        console.print(described)


def _mark(finding: Finding) -> str:
    if finding.advice:
        return "[red]✗[/]"
    return "[yellow]![/]" if finding.warning else "[green]✓[/]"

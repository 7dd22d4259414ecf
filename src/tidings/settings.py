"""The only reader of environment and files.

A setting comes from the flags, else from ``TIDINGS_*``, else from ``tidings.toml``, else from what a running ``tidings
up`` left in the data directory, else from the packaged ``settings.default.toml``, which is the manual. To add one: a
line there and a field in ``settings_groups``, or here.
"""

import json
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from functools import reduce
from importlib.resources import files
from itertools import chain
from math import isfinite
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from tidings.domain.egress import flaw_of_network
from tidings.settings_groups import (
    ApiSettings,
    BreakerSettings,
    DoubtSettings,
    Dsn,
    DurabilitySettings,
    Group,
    KafkaSettings,
    LogSettings,
    OpsSettings,
    RelaySettings,
    RetentionSettings,
    Secret,
    TestSettings,
    UpSettings,
    WebhookSettings,
    WorkerSettings,
)

PREFIX: Final = "TIDINGS_"
FILE_NAME: Final = "tidings.toml"
NOT_SETTINGS: Final = frozenset({"TIDINGS_CONFIG", "TIDINGS_URL", "TIDINGS_API_KEY"})
"""Read elsewhere: the file's own place, and what clients need to reach an API."""

DEFAULT: Final = "default"
_MASTER_KEY: Final = re.compile("[0-9a-fA-F]{64}").fullmatch


class SettingsError(Exception):
    """A setting is unknown or has a value that cannot be used; the message names it and its source."""


class Described(msgspec.Struct, frozen=True):
    """One setting as it may be shown: secrets are masked. ``source`` is a flag, a variable, a file or "default"."""

    key: str
    value: Any
    source: str


class Settings(Group, frozen=True):
    """All of them. ``sources`` holds only the keys that do not have their default."""

    public_url: str
    master_key: Secret
    egress_allow: tuple[str, ...]
    egress_ports: tuple[int, ...]
    data_dir: Path
    control_dsn: Dsn
    shard_dsns: tuple[Dsn, ...]
    valkey_url: Dsn
    hints: Literal["poll", "kafka"]
    sandbox_url: str
    sandbox_providers: tuple[str, ...]
    kafka: KafkaSettings
    api: ApiSettings
    ops: OpsSettings
    worker: WorkerSettings
    breaker: BreakerSettings
    doubt: DoubtSettings
    relay: RelaySettings
    webhooks: WebhookSettings
    retention: RetentionSettings
    durability: DurabilitySettings
    log: LogSettings
    test: TestSettings
    up: UpSettings
    sources: dict[str, str]

    def describe(self) -> tuple[Described, ...]:
        """Every setting in the order of the manual."""
        return tuple(
            Described(key, _shown(_value(self, key)), self.sources.get(key, DEFAULT)) for key in _flat(_defaults())
        )


def load(flags: Mapping[str, Any], env: Mapping[str, str], cwd: Path) -> Settings:
    """The settings of this process.

    ``flags`` has dotted keys ("worker.lease_s") and "config"; None means that the flag was not given. Raises
    SettingsError.
    """
    values = _flat(_defaults())
    known, sources = frozenset(values), dict[str, str]()
    for key, value, source in chain(_from_file(flags, env, cwd), _from_environment(env), _from_flags(flags)):
        if key not in known:
            raise SettingsError(_unknown(key, source, known))
        values[key], sources[key] = value, source
    values["data_dir"] = str(cwd / Path(str(values["data_dir"])).expanduser())
    for key, value, source in _from_data_dir(Path(values["data_dir"]), values["control_dsn"]):
        if key in known - sources.keys():
            values[key], sources[key] = value, source
    settings = _typed(values, sources)
    _check(settings)
    return settings


def current(flags: Mapping[str, Any]) -> Settings:
    """``load`` with the environment and the directory of this process."""
    return load(flags, os.environ, Path.cwd())


def environment_of(settings: Settings) -> dict[str, str]:
    """The environment of a child that must have the same settings as its parent."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    given = {env_name(key): env_value(_value(settings, key)) for key in settings.sources}
    return inherited | given | {env_name("data_dir"): str(settings.data_dir)}


def pairs(words: Iterable[str]) -> dict[str, str]:
    """Words of the form ``name=value`` as a mapping."""
    return {name: value for name, _, value in (word.partition("=") for word in words)}


def env_name(key: str) -> str:
    """The variable of a dotted key."""
    return PREFIX + key.upper().replace(".", "_")


def env_value(value: object) -> str:
    """How a value is written into the environment of a child, so that ``load`` reads it back."""
    return value if isinstance(value, str) else json.dumps(value, default=str)


Layer = Iterator[tuple[str, Any, str]]


def _defaults() -> dict[str, Any]:
    return tomllib.loads(files("tidings").joinpath("settings.default.toml").read_text())


def _from_file(flags: Mapping[str, Any], env: Mapping[str, str], cwd: Path) -> Layer:
    named = flags.get("config") or env.get("TIDINGS_CONFIG")
    path = cwd / (named or FILE_NAME)
    if not named and not path.exists():
        return
    try:
        tree = tomllib.loads(path.read_text())
    except (OSError, ValueError) as fault:
        raise SettingsError(f"cannot read {path}: {fault}") from fault
    yield from ((key, value, str(path)) for key, value in _flat(tree).items())


def _from_environment(env: Mapping[str, str]) -> Layer:
    keys = {env_name(key): key for key in _flat(_defaults())}
    for name in sorted(env):
        if name.startswith(PREFIX) and name not in NOT_SETTINGS:
            if name not in keys:
                raise SettingsError(_unknown(name, "the environment", keys))
            yield keys[name], env[name], name


def _from_flags(flags: Mapping[str, Any]) -> Layer:
    for key, value in flags.items():
        if key != "config" and value is not None:
            yield key, value, "--" + key.rpartition(".")[2].replace("_", "-")


def _from_data_dir(data_dir: Path, control_dsn: str) -> Layer:
    """Where ``tidings up`` keeps its databases, unless we were told to use others."""
    key, run = data_dir / "master_key", data_dir / "run.json"
    if key.is_file():
        yield "master_key", key.read_text().strip(), str(key)
    if run.is_file():
        found = msgspec.json.decode(run.read_bytes(), type=_RunFile).settings
        if control_dsn in ("", found.get("control_dsn")):
            yield from ((name, value, str(run)) for name, value in found.items())


class _RunFile(msgspec.Struct):
    """The part of ``runtime.rundir.Running`` that concerns settings."""

    settings: dict[str, Any]


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A tree of tables as dotted keys."""
    flat = dict[str, Any]()
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    tree = dict[str, Any]()
    for key, value in flat.items():
        group, _, name = key.rpartition(".")
        (tree.setdefault(group, {}) if group else tree)[name] = value
    return tree


def _typed(values: dict[str, Any], sources: dict[str, str]) -> Settings:
    defaults = _flat(_defaults())
    try:
        parsed = {
            key: _listed(key, value) if isinstance(defaults[key], list) else value for key, value in values.items()
        }
        tree = _nested(parsed) | {"sources": sources}
        return msgspec.convert(tree, Settings, strict=False, dec_hook=_special)
    except msgspec.ValidationError as fault:
        key = str(fault).rpartition("`$.")[2].strip("`").partition("[")[0]
        where = f" (from {sources[key]})" if key in sources else ""
        raise SettingsError(f"{key}{where}: {str(fault).partition(' - at')[0]}") from fault


def _listed(key: str, value: Any) -> Any:
    """A list from its form in the environment: JSON, or words separated by commas."""
    if not isinstance(value, str):
        return value
    if not value.startswith("["):
        return [word.strip() for word in value.split(",") if word.strip()]
    try:
        return msgspec.json.decode(value)
    except msgspec.DecodeError as fault:
        raise msgspec.ValidationError(f"{fault} - at `$.{key}`") from fault


def _special(type_: type, value: Any) -> Any:
    if type_ in (Secret, Dsn, Path) and isinstance(value, str):
        return type_(value)
    raise ValueError(f"Expected text, got `{type(value).__name__}`")


def _unknown(name: str, source: str, known: Mapping[str, str] | frozenset[str]) -> str:
    close = get_close_matches(name, known, n=1, cutoff=0.5) or get_close_matches(
        name.rpartition(".")[2], known, n=1, cutoff=0.3
    )
    return f"unknown setting {name!r} in {source}" + (f"; did you mean {close[0]!r}?" if close else "")


def _check(settings: Settings) -> None:
    for key in _flat(_defaults()):
        value = _value(settings, key)
        numbers = [n for n in (value if isinstance(value, tuple) else (value,)) if isinstance(n, int | float)]
        if any(n < 0 or not isfinite(n) for n in numbers):
            raise SettingsError(f"{key} must be a number from 0 up, and is {value}")
    if settings.master_key and not _MASTER_KEY(settings.master_key):
        raise SettingsError(f"master_key (from {settings.sources['master_key']}) must be 64 hexadecimal digits")
    if settings.test.fault_file and not settings.test.enabled:
        raise SettingsError("test.fault_file ends processes and is refused while test.enabled is false")
    for network in settings.egress_allow:
        if flaw := flaw_of_network(network):
            raise SettingsError(f"egress_allow (from {settings.sources['egress_allow']}): {flaw}")
    worker = settings.worker
    longest_s = worker.fence_s + worker.provider_timeout_s
    _in_order("worker.fence_s + worker.provider_timeout_s", longest_s, "worker.send_reserve_s", worker.send_reserve_s)
    _in_order("worker.send_reserve_s", worker.send_reserve_s, "worker.lease_s", worker.lease_s)


def _in_order(low: str, low_s: float, high: str, high_s: float) -> None:
    if low_s >= high_s:
        raise SettingsError(f"{low} ({low_s:g}) must be below {high} ({high_s:g})")


def _value(settings: Settings, key: str) -> Any:
    return reduce(getattr, key.split("."), settings)


def _shown(value: Any) -> Any:
    match value:
        case Secret():
            return value.masked()
        case tuple():
            return [_shown(one) for one in value]
        case Path():
            return str(value)
        case _:
            return value

"""The shape of each group of settings, as ``settings.default.toml`` explains them."""

from typing import Final, Literal
from urllib.parse import urlsplit, urlunsplit

import msgspec

_MASK: Final = "***"

Commit = Literal["on", "local", "remote_write", "remote_apply"]


class Secret(str):
    """Text that never shows itself."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(self.masked())

    def masked(self) -> str:
        return _MASK if self else ""


class Dsn(Secret):
    """A URL whose password never shows itself."""

    __slots__ = ()

    def masked(self) -> str:
        try:
            url = urlsplit(self)
        except ValueError:
            return _MASK
        if not url.password:
            return _MASK if "password" in self else str(self)
        user, _, host = url.netloc.rpartition("@")
        return urlunsplit(url._replace(netloc=f"{user.partition(':')[0]}:{_MASK}@{host}"))


class Group(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Fields have no defaults here: the default file has them all."""


class KafkaSettings(Group, frozen=True):
    servers: tuple[str, ...]
    client: tuple[Secret, ...]
    prefix: str
    partitions: int
    replication: int


class ApiSettings(Group, frozen=True):
    host: str
    port: int
    flush_max: int
    flushes_side_by_side: int
    deadline_s: float
    body_deadline_s: float
    max_body_bytes: int
    max_batch_body_bytes: int
    max_batch: int
    lock_timeout_s: float


class OpsSettings(Group, frozen=True):
    host: str
    port: int
    ready_timeout_s: float


class WorkerSettings(Group, frozen=True):
    lanes: tuple[str, ...]
    claim_limit: int
    mark_limit: int
    concurrency: int
    lease_s: float
    send_reserve_s: float
    fence_s: float
    poll_s: float
    gather_s: float
    settle_gather_s: float
    provider_timeout_s: float
    connect_timeout_s: float
    drain_s: float
    quarantine_after_claims: int
    render_cpu_s: float
    render_memory_bytes: int
    retry_schedule_s: tuple[float, ...]
    account_pause_s: float
    drain_per_s: float


class BreakerSettings(Group, frozen=True):
    failures: int
    failures_s: float
    share: float
    share_of: int
    window_s: float
    open_s: float
    open_most_s: float


class DoubtSettings(Group, frozen=True):
    settle_s: float
    look_up_s: float


class RelaySettings(Group, frozen=True):
    sweep_s: float
    figures_s: float
    partitions_ahead_days: int
    keys_empty_batch: int


class WebhookSettings(Group, frozen=True):
    timeout_s: float
    concurrency: int
    poll_s: float
    retry_schedule_s: tuple[float, ...]
    retry_after_most_s: float
    disable_after_s: float
    secret_overlap_s: float


class RetentionSettings(Group, frozen=True):
    idempotency_s: float
    deduplication_s: float


class DurabilitySettings(Group, frozen=True):
    accept: Commit
    mark: Commit
    receipts: Commit
    claim: Commit
    settle: Commit


class LogSettings(Group, frozen=True):
    level: Literal["debug", "info", "warning", "error"]


class TestSettings(Group, frozen=True):
    enabled: bool
    fault_file: str


class UpSettings(Group, frozen=True):
    grace_s: float
    servers_grace_s: float
    ready_timeout_s: float
    restart_first_s: float
    restart_most_s: float
    shards: int

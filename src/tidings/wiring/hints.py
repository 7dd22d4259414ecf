"""How this process tells of what is due, and learns of it."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Final

from confluent_kafka import KafkaException

from tidings.domain.errors import Unavailable
from tidings.domain.ids import ShardNumber, Slot
from tidings.domain.lanes import Lane, is_parked, sending_lanes
from tidings.hints.kafka import KafkaHints
from tidings.hints.kafka_in import HintsIn
from tidings.hints.kafka_out import HintsOut
from tidings.hints.poll import Unwoken, WakeByValkey
from tidings.hints.topics import KafkaAddress, Wanted, admin, lags
from tidings.ports import Emit, Hints, Lag
from tidings.settings import Settings, SettingsError, pairs
from tidings.settings_groups import KafkaSettings

_LAG_TIMEOUT_S: Final = 2.0

ShardOf = Callable[[Slot], ShardNumber]


def hints_of(settings: Settings, takes: Sequence[Lane], shard_of: ShardOf, emit: Emit, stack: AsyncExitStack) -> Hints:
    """``takes``: the lanes that somebody here serves; who serves parked work keeps the topics in shape too. Raises
    SettingsError."""
    woken = _woken(settings, stack, listen=bool(takes))
    return woken if settings.hints == "poll" else _named(settings, takes, shard_of, emit, woken, stack)


def kafka_address(settings: KafkaSettings) -> KafkaAddress:
    """Raises SettingsError."""
    if not settings.servers:
        raise SettingsError("hints go by Kafka, and kafka.servers (TIDINGS_KAFKA_SERVERS) names no broker")
    return KafkaAddress(settings.servers, pairs(settings.client), settings.prefix)


def lag_of(settings: Settings) -> Lag:
    """Raises SettingsError."""
    if settings.hints == "poll":
        return _no_lag
    address = kafka_address(settings.kafka)
    client = admin(address)

    async def lag() -> Mapping[Lane, int] | None:
        try:
            return await lags(client, address, sending_lanes(), _LAG_TIMEOUT_S)
        except Unavailable:
            return None

    return lag


async def _no_lag() -> None:
    return


def wanted_topics(settings: KafkaSettings) -> Wanted:
    return Wanted(settings.partitions, settings.replication)


def _woken(settings: Settings, stack: AsyncExitStack, *, listen: bool) -> Hints:
    if not settings.valkey_url:
        return Unwoken()
    hints = WakeByValkey(settings.valkey_url)
    hints.start(listen=listen)
    stack.push_async_callback(hints.close)
    return hints


def _named(
    settings: Settings, takes: Sequence[Lane], shard_of: ShardOf, emit: Emit, woken: Hints, stack: AsyncExitStack
) -> Hints:
    address = kafka_address(settings.kafka)
    lanes = [lane for lane in takes if not is_parked(lane)]
    try:
        out = HintsOut(address, wanted_topics(settings.kafka), emit, keeps=len(lanes) < len(takes))
        come = HintsIn(address, lanes, settings.worker.poll_s, shard_of, emit) if lanes else None
    except KafkaException as fault:
        raise SettingsError(f"kafka.client: {fault.args[0].str()}") from fault
    hints = KafkaHints(out, come, woken)
    hints.start()
    stack.push_async_callback(hints.close)
    return hints

"""What commands need of the databases."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from tidings.domain.errors import Unavailable
from tidings.hints.topics import make_topics
from tidings.settings import Settings
from tidings.storage.control import Control
from tidings.storage.migrate import make_partitions, migrate
from tidings.storage.secrets import Secrets
from tidings.storage.shards import Shards, open_pool
from tidings.wiring.hints import kafka_address, wanted_topics


async def migrate_all(settings: Settings) -> Mapping[str, Sequence[str]]:
    """Applies what is missing in the control database and every shard, and spreads the slots on the first run."""
    secrets = Secrets(settings.master_key)
    applied: dict[str, Sequence[str]] = {"control": await migrate(settings.control_dsn, "control")}
    for number, dsn in enumerate(settings.shard_dsns):
        applied[f"shard {number}"] = await migrate(dsn, "shard")
    if settings.hints == "kafka":
        applied["kafka"] = await _topics(settings)
    shards = await Shards.open(settings.shard_dsns, 1, {})
    pool = await open_pool(settings.control_dsn, 1, {})
    try:
        for shard in shards.numbers:
            await make_partitions(shards, shard, settings.relay.partitions_ahead_days)
        await Control(pool, secrets).spread_slots(len(settings.shard_dsns))
    finally:
        await shards.close()
        pool.terminate()
    return applied


async def _topics(settings: Settings) -> Sequence[str]:
    """Brokers that are away keep nobody from migrating."""
    try:
        return await make_topics(kafka_address(settings.kafka), wanted_topics(settings.kafka))
    except Unavailable:
        return ["no answer: the relay makes the topics when there is one"]


@asynccontextmanager
async def control_of(settings: Settings) -> AsyncIterator[Control]:
    """The control database, for commands."""
    pool = await open_pool(settings.control_dsn, 2, {})
    try:
        yield Control(pool, Secrets(settings.master_key))
    finally:
        pool.terminate()

"""What is particular to hints by Kafka, against real brokers."""

import asyncio
from collections.abc import Callable, Sequence

import pytest
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from tests.integration.hints.conftest import PARTITIONS, Installation
from tests.integration.hints.test_hints import FIRST, MAIL, NEWS, SECOND, delivery, drained, settled, until_told
from tidings.domain.errors import Unavailable
from tidings.domain.events import HintsLost, HintsReachable
from tidings.domain.ids import DeliveryId, ShardNumber, Slot, slot_in
from tidings.domain.lanes import Lane, sending_lanes
from tidings.hints import kafka_in
from tidings.hints.topics import KafkaAddress, Wanted, admin, lags, make_topics, partition_of, sizes
from tidings.ports import Hints

ENOUGH_S = 30.0


async def until(condition: Callable[[], object], what: str) -> None:
    for _ in range(int(ENOUGH_S / 0.05)):
        if await asyncio.to_thread(condition):
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"never: {what}")


async def told(hints: Hints, shard: ShardNumber, lane: Lane, count: int) -> list[DeliveryId]:
    """The next so many that are named."""
    named = list[DeliveryId]()
    async with asyncio.timeout(ENOUGH_S):
        while len(named) < count:
            named += await hints.take(shard, lane, count - len(named), 5.0) or ()
    return named


def committed(address: KafkaAddress, lane: Lane) -> int:
    """How many hints of a lane count as taken."""
    client = AdminClient({"bootstrap.servers": ",".join(address.servers)})
    asked = [TopicPartition(address.topic(lane), n) for n in range(PARTITIONS)]
    group = ConsumerGroupTopicPartitions(address.prefix, asked)
    told = client.list_consumer_group_offsets([group])[address.prefix].result()
    return sum(max(0, one.offset) for one in told.topic_partitions)


def read_all(address: KafkaAddress, lane: Lane, count: int) -> Sequence[tuple[int, bytes]]:
    """The first messages of a topic as anybody can read them: partition and value."""
    settings = {"bootstrap.servers": ",".join(address.servers), "group.id": "nobody", "enable.auto.commit": False}
    reader = Consumer({**settings, "auto.offset.reset": "earliest"})
    reader.assign([TopicPartition(address.topic(lane), n, 0) for n in range(PARTITIONS)])
    try:
        found = list[tuple[int, bytes]]()
        while len(found) < count and (message := reader.poll(ENOUGH_S)):
            found.append((message.partition(), message.value()))
        return found
    finally:
        reader.close()


async def test_deliveries_are_named_each_to_one_worker_of_its_lane(by_kafka):
    async with (
        by_kafka.member() as api,
        by_kafka.member(MAIL) as worker,
    ):
        await until_told(by_kafka, worker, api)
        await drained(worker, SECOND, MAIL)
        due = [delivery(FIRST) for _ in range(50)]
        api.publish(FIRST, dict.fromkeys(due, MAIL))
        api.publish(SECOND, dict.fromkeys([delivery(SECOND) for _ in range(7)], MAIL))
        assert sorted(await told(worker, FIRST, MAIL, 50)) == sorted(due)
        assert len(await told(worker, SECOND, MAIL, 7)) == 7
        assert await worker.take(FIRST, MAIL, 100, 0.2) is None


async def test_a_worker_takes_no_more_than_it_asks_for(by_kafka):
    async with by_kafka.member() as api, by_kafka.member(MAIL) as worker:
        await until_told(by_kafka, worker, api)
        api.publish(FIRST, {delivery(): MAIL for _ in range(30)})
        await told(worker, FIRST, MAIL, 1)
        named = await worker.take(FIRST, MAIL, 10, ENOUGH_S)
        assert named is not None and len(named) <= 10


async def test_the_partition_follows_the_slot_and_the_value_is_the_id(by_kafka):
    due = [delivery(shard) for shard in (FIRST, SECOND) for _ in range(20)]
    async with by_kafka.member() as api:
        api.publish(FIRST, dict.fromkeys(due, NEWS))
    found = await asyncio.to_thread(read_all, by_kafka.address, NEWS, len(due))
    assert sorted(found) == sorted((partition_of(slot_in(id_), PARTITIONS), id_.bytes) for id_ in due)


def test_partitions_are_runs_of_slots_and_every_shard_of_a_power_of_two_has_its_own():
    assert [partition_of(Slot(slot), 10) for slot in (0, 409, 410, 4095)] == [0, 0, 1, 9]
    assert {partition_of(Slot(slot), 4) for slot in range(2048)} == {0, 1}


async def test_an_offset_is_committed_after_the_claim_and_not_before(by_kafka):
    async with by_kafka.member() as api:
        async with by_kafka.member(MAIL) as worker:
            await until_told(by_kafka, worker, api)
            await settled(worker, (FIRST, MAIL))
            await asyncio.sleep(2.5)  # what came so far is committed
            before = await asyncio.to_thread(committed, by_kafka.address, MAIL)
            due = [delivery() for _ in range(5)]
            api.publish(FIRST, dict.fromkeys(due, MAIL))
            assert sorted(await told(worker, FIRST, MAIL, 5)) == sorted(due)
            await asyncio.sleep(2.5)  # two commits long: only what was claimed may be in them
            assert await asyncio.to_thread(committed, by_kafka.address, MAIL) < before + 5
        async with by_kafka.member(MAIL) as successor:
            await settled(successor, (FIRST, MAIL))
            assert set(await told(successor, FIRST, MAIL, 1)) <= set(due), "what nobody claimed comes again"
            async with asyncio.timeout(ENOUGH_S):  # until all of them are claimed, and committed
                while await asyncio.to_thread(committed, by_kafka.address, MAIL) < before + 5:
                    await successor.take(FIRST, MAIL, 100, 0.2)


async def test_who_leaves_hands_over_within_seconds(by_kafka):
    async with by_kafka.member() as api, by_kafka.member(MAIL) as worker:
        await until_told(by_kafka, worker, api)
        async with by_kafka.member(MAIL) as leaves:
            await settled(leaves, (FIRST, MAIL), (SECOND, MAIL))
            await leaves.leave()
            due = [delivery(shard) for shard in (FIRST, SECOND) for _ in range(8)]
            api.publish(FIRST, dict.fromkeys(due, MAIL))
            await settled(worker, (SECOND, MAIL))
            named = await told(worker, FIRST, MAIL, 8) + await told(worker, SECOND, MAIL, 8)
            assert sorted(named) == sorted(due)


async def test_a_worker_looks_for_itself_however_many_hints_there_are(by_kafka):
    async with by_kafka.member() as api, by_kafka.member(MAIL, look_s=0.5) as worker:
        await until_told(by_kafka, worker, api)
        api.publish(FIRST, {delivery(): MAIL for _ in range(500)})
        async with asyncio.timeout(ENOUGH_S):
            while await worker.take(FIRST, MAIL, 1, 5.0) is not None:
                await asyncio.sleep(0.02)


async def test_a_lane_that_is_slow_is_paused_and_holds_up_no_other(by_kafka, monkeypatch):
    monkeypatch.setattr(kafka_in, "_HELD_MOST", 50)
    monkeypatch.setattr(kafka_in, "_HELD_FEW", 10)
    monkeypatch.setattr(kafka_in, "_TOGETHER", 20)
    async with by_kafka.member() as api, by_kafka.member(MAIL, NEWS) as worker:
        await until_told(by_kafka, worker, api)
        await until_told(by_kafka, worker, api, NEWS)
        slow = [delivery() for _ in range(2_000)]
        api.publish(FIRST, dict.fromkeys(slow, NEWS))
        await told(worker, FIRST, NEWS, 1)
        quick = [delivery() for _ in range(300)]
        api.publish(FIRST, dict.fromkeys(quick, MAIL))
        assert sorted(await told(worker, FIRST, MAIL, 300)) == sorted(quick)
        parts = worker._come._parts
        waiting = sum(one.held for (topic, _), one in parts.items() if topic == by_kafka.address.topic(NEWS))
        assert waiting < 2 * (50 + 20 + 1), "of two partitions no more was read than may wait"
        assert len(set(await told(worker, FIRST, NEWS, 1_999))) == 1_999, "and goes on once there is room"


async def test_topics_are_made_grown_and_never_shrunk(kafka):
    address = KafkaAddress(kafka.cluster.servers, {}, "test-grown")
    names = [address.topic(lane) for lane in sending_lanes()]
    assert len(await make_topics(address, Wanted(3, 0))) == len(names)
    assert await make_topics(address, Wanted(3, 0)) == []
    grown = await make_topics(address, Wanted(5, 0))
    assert grown == [f"{name} from 3 to 5 partitions" for name in names]
    assert await make_topics(address, Wanted(2, 0)) == []
    client = admin(address)
    async with asyncio.timeout(ENOUGH_S):
        while await sizes(client, names) != dict.fromkeys(names, 5):
            await asyncio.sleep(0.1)


async def test_two_may_make_the_topics_at_once(kafka):
    address = KafkaAddress(kafka.cluster.servers, {}, "test-together")
    await asyncio.gather(*(make_topics(address, Wanted(2, 1)) for _ in range(3)))
    client, names = admin(address), [address.topic(lane) for lane in sending_lanes()]
    async with asyncio.timeout(ENOUGH_S):  # brokers hear of it one after the other
        while await sizes(client, names) != dict.fromkeys(names, 2):
            await asyncio.sleep(0.1)


async def test_hints_that_grow_more_partitions_find_them(kafka, valkey_url):
    address = KafkaAddress(kafka.cluster.servers, {}, "test-more")
    await make_topics(address, Wanted(PARTITIONS, 0))
    installation = Installation(valkey_url, address)
    async with installation.member() as api, installation.member(MAIL) as worker:
        await until_told(installation, worker, api)
        await make_topics(address, Wanted(3 * PARTITIONS, 0))
        due = [delivery() for _ in range(60)]
        missing = set(due)
        async with asyncio.timeout(3 * ENOUGH_S):
            while missing:
                api.publish(FIRST, dict.fromkeys(missing, MAIL))
                for _ in range(3):
                    missing -= set(await worker.take(FIRST, MAIL, 200, 1.0) or ())


async def test_without_brokers_nothing_waits_and_what_is_lost_is_counted(kafka, valkey_url):
    nowhere = KafkaAddress(("127.0.0.1:1",), {"message.timeout.ms": "1000"}, "test-away")
    installation = Installation(valkey_url, nowhere)
    async with installation.member() as api, installation.member(MAIL, look_s=0.3) as worker:
        assert await worker.take(FIRST, MAIL, 100, 5.0) is None
        for _ in range(3):
            api.publish(FIRST, {delivery(): MAIL})
            async with asyncio.timeout(ENOUGH_S):
                assert await worker.take(FIRST, MAIL, 100, 5.0) is None, "it looks for itself"
        await until(lambda: HintsReachable("lost") in installation.events, "told that nobody answers")
    lost = sum(event.count for event in installation.events if isinstance(event, HintsLost))
    assert lost == 3
    with pytest.raises(Unavailable):
        await sizes(admin(nowhere), ["t"], timeout_s=1.0)


async def test_what_is_no_hint_is_passed_over(by_kafka):
    rubbish = Producer({"bootstrap.servers": ",".join(by_kafka.address.servers)})
    async with by_kafka.member() as api, by_kafka.member(MAIL) as worker:
        await until_told(by_kafka, worker, api)
        for value in (b"", None, b"x", b"x" * 17, b"\xff" * 1000):
            rubbish.produce(by_kafka.address.topic(MAIL), value, partition=0)
        await asyncio.to_thread(rubbish.flush, ENOUGH_S)
        due = [delivery() for _ in range(9)]
        api.publish(FIRST, dict.fromkeys(due, MAIL))
        assert sorted(await told(worker, FIRST, MAIL, 9)) == sorted(due)


async def test_the_lag_of_a_lane_is_what_nobody_has_taken(by_kafka):
    client = admin(by_kafka.address)
    async with by_kafka.member() as api:
        api.publish(FIRST, {delivery(shard): NEWS for shard in (FIRST, SECOND) for _ in range(15)})
        api.publish(FIRST, {delivery(): MAIL for _ in range(4)})
    behind = await lags(client, by_kafka.address, sending_lanes())
    assert {lane: count for lane, count in behind.items() if count} == {NEWS: 30, MAIL: 4}
    async with by_kafka.member(NEWS) as worker:
        await settled(worker, (FIRST, NEWS), (SECOND, NEWS))
        async with asyncio.timeout(ENOUGH_S):
            while (await lags(client, by_kafka.address, [NEWS]))[NEWS]:
                await worker.take(FIRST, NEWS, 100, 0.5)
                await worker.take(SECOND, NEWS, 100, 0.5)
    assert (await lags(client, by_kafka.address, [MAIL]))[MAIL] == 4


async def test_a_topic_that_is_missing_has_no_lag(kafka):
    assert await lags(admin(address := KafkaAddress(kafka.cluster.servers, {}, "test-none")), address, [MAIL]) == {}

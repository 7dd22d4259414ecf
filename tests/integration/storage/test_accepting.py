"""What one accept statement promises, against two real shards."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from tests.integration.shards import TwoShards, payload
from tidings.domain.asked import Asked
from tidings.domain.ids import UserId
from tidings.domain.lanes import Channel
from tidings.domain.notification import Acceptance, Verdict
from tidings.domain.plan import plan
from tidings.runtime.clock import RandomSource
from tidings.storage.accepting import AcceptStore
from tidings.storage.shards import ONE_PLAN

RANDOM = RandomSource()


def asked(two: TwoShards, user: str | None, **more: object) -> Acceptance:
    fields = {
        "addresses": {Channel.email: ("ada@example.com",)},
        "channels": (Channel.email,),
        "payload": payload(),
        "fingerprint": b"f" * 16,
        "category": two.catalog.categories[two.tenant, "general"],
    } | more
    one = Asked(two.tenant, UserId(user) if user else None, **fields)
    return plan(one, datetime.now(UTC), RANDOM.bits_62, two.secrets.address_hash)


async def accept(two: TwoShards, *rows: Acceptance, idempotency_s: float = 3600):
    async with two.open(ONE_PLAN) as shards:
        store = AcceptStore(shards, idempotency_s, 3600)
        results = {}
        for number in shards.numbers:
            mine = [row for row in rows if two.catalog.shard(row.slot) == number]
            if mine:
                results |= zip([row.id for row in mine], await store.accept(number, mine), strict=True)
        return [results[row.id] for row in rows]


async def count(two: TwoShards, row: Acceptance) -> tuple[int, int, int]:
    found = await two.rows(
        """SELECT (SELECT count(*) FROM notification WHERE id = $1) AS n,
                  (SELECT count(*) FROM delivery WHERE notification_id = $1) AS d,
                  (SELECT count(*) FROM dispatch JOIN delivery USING (id) WHERE notification_id = $1) AS q""",
        row.id,
    )
    return tuple(sum(one[name] for one in found) for name in "ndq")


async def test_a_notification_is_stored_with_its_delivery_and_its_dispatch(two):
    row = asked(two, "u1")
    (accepted,) = await accept(two, row)
    assert (accepted.id, accepted.verdict) == (row.id, Verdict.stored)
    assert await count(two, row) == (1, 1, 1)


async def test_a_recipient_without_a_user_is_known_by_the_address(two):
    first, second = asked(two, None), asked(two, None)
    await accept(two, first, second)
    assert first.user == second.user and first.user.startswith("~") and len(first.user) == 33


async def test_a_replayed_key_gives_the_first_id_and_stores_nothing_more(two):
    first, second = asked(two, "u2", key="order-1"), asked(two, "u2", key="order-1")
    await accept(two, first)
    (again,) = await accept(two, second)
    assert (again.id, again.verdict) == (first.id, Verdict.replayed)
    assert await count(two, second) == (0, 0, 0)


async def test_a_replay_writes_so_that_its_commit_waits_for_the_replica_too(two):
    await accept(two, asked(two, "u3", key="k"))
    await accept(two, asked(two, "u3", key="k"))
    (key,) = await two.rows("SELECT replayed_at FROM accept_key WHERE user_id = 'u3'")
    assert key["replayed_at"] is not None


async def test_a_key_with_another_body_is_a_conflict_and_stores_nothing(two):
    first = asked(two, "u4", key="k")
    other = asked(two, "u4", key="k", fingerprint=b"g" * 16, deduplication="d")
    await accept(two, first)
    (refused,) = await accept(two, other)
    assert refused.verdict == Verdict.conflict
    assert await count(two, other) == (0, 0, 0)
    (later,) = await accept(two, asked(two, "u4", deduplication="d"))
    assert later.verdict == Verdict.stored, "a refused request must not use up its deduplication key"


async def test_a_key_is_the_users_own(two):
    rows = [asked(two, f"other-{n}", key="same") for n in range(8)]
    assert {one.verdict for one in await accept(two, *rows)} == {Verdict.stored}


async def test_a_deduplication_key_gives_the_first_id_and_says_so(two):
    first, second = asked(two, "u5", deduplication="d"), asked(two, "u5", deduplication="d")
    await accept(two, first)
    (again,) = await accept(two, second)
    assert (again.id, again.verdict) == (first.id, Verdict.deduplicated)
    assert await count(two, second) == (0, 0, 0)


async def test_the_template_is_part_of_a_deduplication_key(two):
    one = asked(two, "u6", deduplication="d", template="a")
    other = asked(two, "u6", deduplication="d", template="b")
    await accept(two, one)
    assert (await accept(two, other))[0].verdict == Verdict.stored


async def test_a_replay_of_a_deduplicated_request_gives_the_id_that_it_gave_first(two):
    first = asked(two, "u7", deduplication="d")
    await accept(two, first)
    (duplicate,) = await accept(two, asked(two, "u7", key="k", deduplication="d"))
    (replay,) = await accept(two, asked(two, "u7", key="k", deduplication="d"))
    assert duplicate.id == replay.id == first.id
    assert (duplicate.verdict, replay.verdict) == (Verdict.deduplicated, Verdict.replayed)


async def forget_deduplication(two, user: str) -> None:
    await two.rows("DELETE FROM accept_key WHERE user_id = $1 AND kind = 2", user)


async def test_a_key_whose_call_was_a_duplicate_outlives_the_deduplication_key(two):
    first = asked(two, "u7a", deduplication="d")
    await accept(two, first)
    (duplicate,) = await accept(two, asked(two, "u7a", key="k", deduplication="d"))
    await forget_deduplication(two, "u7a")
    (replay,) = await accept(two, asked(two, "u7a", key="k", deduplication="d"))
    assert (duplicate.id, replay.id, replay.verdict) == (first.id, first.id, Verdict.replayed)
    (newer,) = await accept(two, asked(two, "u7a", deduplication="d"))
    assert newer.verdict == Verdict.stored
    (replay,) = await accept(two, asked(two, "u7a", key="k", deduplication="d"))
    assert replay.id == first.id, "what it was told first, although a duplicate would now be one of another"


async def test_a_key_whose_call_was_stored_stands_for_that_whoever_has_its_deduplication_key_now(two):
    first = asked(two, "u7b", key="k", deduplication="d")
    await accept(two, first)
    await forget_deduplication(two, "u7b")
    await accept(two, asked(two, "u7b", deduplication="d"))
    (replay,) = await accept(two, asked(two, "u7b", key="k", deduplication="d"))
    assert (replay.id, replay.verdict) == (first.id, Verdict.replayed)


async def test_a_call_that_ended_before_its_key_could_point_to_the_first_is_made_good_by_the_next(two):
    first, lost = asked(two, "u7c", deduplication="d"), asked(two, "u7c", key="k", deduplication="d")
    await accept(two, first)
    await accept(two, lost)
    await two.rows("UPDATE accept_key SET notification_id = $1 WHERE user_id = 'u7c' AND kind = 1", lost.id)
    (replay,) = await accept(two, asked(two, "u7c", key="k", deduplication="d"))
    assert (replay.id, replay.verdict) == (first.id, Verdict.replayed)
    await forget_deduplication(two, "u7c")
    (replay,) = await accept(two, asked(two, "u7c", key="k", deduplication="d"))
    assert replay.id == first.id


async def test_a_key_whose_call_was_a_duplicate_ends_when_it_would_have_ended_anyway(two):
    first = asked(two, "u7d", deduplication="d")
    await accept(two, first)
    await accept(two, asked(two, "u7d", key="k", deduplication="d"), idempotency_s=-120)
    await forget_deduplication(two, "u7d")
    (again,) = await accept(two, asked(two, "u7d", key="k", deduplication="d"))
    assert again.verdict == Verdict.stored


async def test_duplicates_in_one_batch_each_point_to_their_own(two):
    firsts = [asked(two, f"u7e-{n}", deduplication="d") for n in range(5)]
    await accept(two, *firsts)

    def again():
        return [asked(two, f"u7e-{n}", key="k", deduplication="d") for n in (3, 0, 4, 1, 2)]

    for _ in range(2):
        assert [one.id for one in await accept(two, *again())] == [firsts[n].id for n in (3, 0, 4, 1, 2)]
        for n in range(5):
            await forget_deduplication(two, f"u7e-{n}")


async def test_an_expired_key_counts_as_absent_and_is_emptied(two):
    first, second = asked(two, "u8", key="k"), asked(two, "u8", key="k")
    await accept(two, first, idempotency_s=-120)
    (again,) = await accept(two, second, idempotency_s=-120)
    assert (again.id, again.verdict) == (second.id, Verdict.stored)
    async with two.open() as shards:
        store = AcceptStore(shards, 1, 1)
        removed = sum([await store.empty_keys(number, 1000) for number in shards.numbers])
    assert removed == 1
    assert not await two.rows("SELECT 1 FROM accept_key WHERE user_id = 'u8'")


async def test_concurrent_requests_with_one_key_store_one_notification(two):
    rows = [asked(two, "u9", key="k") for _ in range(12)]
    accepted = await asyncio.gather(*(accept(two, row) for row in rows))
    assert len({one.id for (one,) in accepted}) == 1
    assert sorted(one.verdict for (one,) in accepted) == [Verdict.stored] + [Verdict.replayed] * 11


async def test_a_later_send_is_scheduled_and_expiry_counts_from_it(two):
    at = datetime.now(UTC) + timedelta(hours=2)
    row = asked(two, "u10", send_at=at, expires_after_s=60.0)
    await accept(two, row)
    (found,) = await two.rows(
        "SELECT due_at, expires_at FROM dispatch JOIN delivery v USING (id) "
        "JOIN notification n ON n.id = v.notification_id WHERE n.id = $1",
        row.id,
    )
    assert found["due_at"] == at
    assert found["expires_at"] == at + timedelta(seconds=60)


@pytest.mark.parametrize("rows", [1, 200])
async def test_one_statement_carries_any_number_of_requests(two, rows):
    many = [asked(two, f"many-{rows}-{n}", key=f"k{n}") for n in range(rows)]
    assert {one.verdict for one in await accept(two, *many)} == {Verdict.stored}

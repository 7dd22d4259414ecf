"""The dead letters may be many, and days apart: whatever the planner believes, they are looked up one by one."""

import asyncio
import re

import pytest
import pytest_asyncio

from tests.integration.shards import prepare
from tests.integration.storage.test_accepting import accept, asked
from tests.integration.storage.test_backlog import FILL
from tidings.domain.dead_letters import Back, Choice
from tidings.domain.ids import DeliveryId
from tidings.storage.dead_letters import DeadLetterStore
from tidings.storage.shards import BY_ID
from tidings.storage.sql import load_statements

BURY = "UPDATE dispatch SET lane = 3, state = 4, reason = 'attempts_used' WHERE id = ANY($1::uuid[]) RETURNING id"
LOWEST, HIGHEST = "00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"
HISTORY = re.compile(r"Scan .*on (delivery|notification|attempt)_")


@pytest_asyncio.fixture
async def letters(two):
    await two.rows("DELETE FROM dispatch")
    async with two.open(BY_ID) as shards:
        yield DeadLetterStore(shards, lambda: two.catalog)


async def buried(two, count: int) -> list[DeliveryId]:
    rows = [asked(two, f"buried-{n}") for n in range(count)]
    await accept(two, *rows)
    found = await two.rows(BURY, [one.id for row in rows for one in row.deliveries])
    assert len(found) == count
    return [row["id"] for row in found]


async def test_two_who_replay_at_once_put_each_letter_back_once(two, letters):
    ids = await buried(two, 50)
    back = [Back(id_) for id_ in ids]
    done = await asyncio.gather(*(letters.replay(two.tenant, back, "a key") for _ in range(4)))
    assert sorted(id_ for some in done for id_ in some) == sorted(ids)
    notes = await two.rows("SELECT jsonb_array_length(notes) AS n FROM delivery WHERE id = ANY($1::uuid[])", ids)
    assert {row["n"] for row in notes} == {2}, "buried and replayed, once"


async def test_a_replay_beside_a_discard_leaves_each_letter_to_one_of_them(two, letters):
    ids = await buried(two, 50)
    back, gone = await asyncio.gather(
        letters.replay(two.tenant, [Back(id_) for id_ in ids], "a key"),
        letters.discard(two.tenant, ids[::-1], None, "a key"),
    )
    assert back | gone == set(ids)
    assert not back & gone
    assert {row["id"] for row in await two.rows("SELECT id FROM dispatch")} == back


async def test_what_is_replayed_is_no_letter_any_more(two, letters):
    ids = await buried(two, 20)
    await letters.replay(two.tenant, [Back(id_) for id_ in ids[:15]], "a key")
    left = await letters.page(two.tenant, Choice(), 100)
    assert {one.id for one in left.letters} == set(ids[15:])
    assert left.next is None
    assert await letters.named(two.tenant, Choice(), ids[:15]) == []


@pytest.mark.parametrize("filled", [0, 50_000])
async def test_nothing_that_lies_between_two_letters_is_read(postgres, filled):
    """A plan that was made for empty tables, or for large ones that nobody has analysed, reads by ids too."""
    two = await prepare(postgres)
    if filled:
        async with two.open() as shards:
            await shards.fetch(two.numbers[0], FILL, 1, filled)
    async with two.open(BY_ID, size=1) as shards, shards.connection(two.numbers[0]) as connection:
        for name in ("letters", "causes", "replay", "discard"):
            text = load_statements("dead_letters")[name]
            await connection.execute(f"PREPARE {name} AS {text}")
            [[types]] = await connection.fetch(
                "SELECT parameter_types::text[] FROM pg_prepared_statements WHERE name = $1", name
            )
            bounds = iter((LOWEST, HIGHEST))
            values = [f"'{next(bounds)}'" if one == "uuid" else "NULL" for one in types]
            lines = [
                row[0] for row in await connection.fetch(f"EXPLAIN (COSTS OFF) EXECUTE {name}({', '.join(values)})")
            ]
            scans = [n for n, line in enumerate(lines) if HISTORY.search(line)]
            assert scans, "the history is read somehow"
            for n in scans:
                how = next((line for line in lines[n + 1 : n + 3] if "Index Cond" in line), "")
                assert re.search(r"[^<>]= ", how), f"{name}: {lines[n].strip()} {how.strip()}"

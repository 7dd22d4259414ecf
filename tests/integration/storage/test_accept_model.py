"""Accepting does what two dictionaries of keys say: random batches with idempotency and deduplication keys, replays,
conflicts and expired keys. ``TIDINGS_MODEL_BOARDS`` and ``TIDINGS_SEED`` play more of them, or others."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from random import Random

import msgspec
import pytest

from tests.integration.storage.model_shard import SHARD, TENANT, ModelShard
from tests.integration.storage.planted import Planted, planted
from tidings.domain import ids
from tidings.domain.ids import DeliveryId, NotificationId, Slot, UserId
from tidings.domain.lanes import Channel, Class, lane_of
from tidings.domain.notification import Acceptance, Accepted, PlannedDelivery, Verdict
from tidings.pipeline.accept import _keys, follow
from tidings.storage.accepting import AcceptStore

STORIES = 8 * int(os.environ.get("TIDINGS_MODEL_BOARDS", "12"))
START = int(os.environ.get("TIDINGS_SEED", "0"))
BATCHES = 15
HOUR_S = 3600.0
KEPT_S, KEPT_OF_DUPLICATES_S = 72 * HOUR_S, 720 * HOUR_S
AGES_H = (1, 24, 72, 73, 721)
SLOT = Slot(1)
HOME = lane_of(Channel.email, Class.transactional)
AGE = "UPDATE accept_key SET expires_at = expires_at - $1::float8 * interval '1 hour'"
STORED = """
SELECT n.id, count(DISTINCT v.id) AS deliveries, count(DISTINCT d.id) AS dispatches
FROM notification n LEFT JOIN delivery v ON v.notification_id = n.id LEFT JOIN dispatch d ON d.id = v.id GROUP BY n.id
"""


class Known(msgspec.Struct):
    """What a key stands for, for ``left_s`` more seconds."""

    id: NotificationId
    fingerprint: bytes | None
    left_s: float


class Keys:
    """The model. Everything else that is stored follows from which acceptances are new."""

    def __init__(self) -> None:
        self.idempotency: dict[tuple[UserId, bytes], Known] = {}
        self.deduplication: dict[tuple[UserId, bytes], Known] = {}
        self.stored: dict[NotificationId, int] = {}

    def age(self, by_s: float) -> None:
        """A key still counts in the instant in which its time is over."""
        for known in (self.idempotency, self.deduplication):
            for key, one in list(known.items()):
                one.left_s -= by_s
                if one.left_s < 0:
                    del known[key]

    def accept(self, row: Acceptance) -> Accepted:
        first = self.idempotency.get((row.user, row.key_hash)) if row.key_hash else None
        if first is not None:
            if first.fingerprint == row.fingerprint:
                return Accepted(first.id, Verdict.replayed)
            return Accepted(first.id, Verdict.conflict, first.fingerprint)
        answer = self._first_of_its_kind(row)
        if row.key_hash:
            self.idempotency[row.user, row.key_hash] = Known(answer.id, row.fingerprint, KEPT_S)
        return answer

    def _first_of_its_kind(self, row: Acceptance) -> Accepted:
        if row.deduplication_hash:
            known = Known(row.id, None, KEPT_OF_DUPLICATES_S)
            first = self.deduplication.setdefault((row.user, row.deduplication_hash), known)
            if first is not known:
                return Accepted(first.id, Verdict.deduplicated)
        self.stored[row.id] = len(row.deliveries)
        return Accepted(row.id, Verdict.stored)


class Asking:
    """Random acceptances of a few users of one slot with few keys. The body decides on the deduplication key."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.now_ms = int(datetime.now(UTC).timestamp() * 1000)
        self.count = 0

    def batch(self) -> list[Acceptance]:
        """No key stands in it twice: requests that share one go one after the other."""
        rows, seen = list[Acceptance](), set[tuple[object, ...]]()
        for row in (self.row() for _ in range(self.rng.randint(1, 10))):
            keys = {(row.user, n, hash_) for n, hash_ in enumerate((row.key_hash, row.deduplication_hash)) if hash_}
            if not keys & seen:
                rows.append(row)
            seen |= keys
        return rows

    def row(self) -> Acceptance:
        rng, user = self.rng, UserId(f"user-{self.rng.randrange(3)}")
        key, duplicate, text = (rng.choice((None, *words)) for words in ("abcd", "de", "xxxy"))
        self.count += 1
        id_ = NotificationId(ids.compose(SLOT, self.now_ms, self.count << 8))
        return Acceptance(
            id=id_,
            slot=SLOT,
            tenant=TENANT,
            user=user,
            category=1,
            template_version=None,
            sender=None,
            reference=None,
            payload=b"{}",
            key_hash=_hash(key),
            fingerprint=_hash(f"{duplicate}{text}"),
            deduplication_hash=_hash(duplicate),
            send_at=None,
            expires_after_s=None,
            deliveries=[_delivery(id_, n) for n in range(rng.choice((1, 1, 2)))],
        )


def _hash(word: str | None) -> bytes | None:
    return word.encode().ljust(16, b"\0") if word else None


def _delivery(of: NotificationId, n: int) -> PlannedDelivery:
    id_ = DeliveryId(ids.sibling(of, of.int + n + 1))
    return PlannedDelivery(id_, Channel.email, HOME, "ada@example.com", b"h" * 16, None)


class Told(msgspec.Struct, frozen=True):
    """A batch and its answers, or the hours that went by."""

    rows: Sequence[Acceptance]
    answers: Sequence[Accepted]
    hours: float = 0.0

    def lines(self) -> Iterator[str]:
        if self.hours:
            yield f"  {self.hours:g} hours go by"
        for row, answer in zip(self.rows, self.answers, strict=True):
            words = (row.key_hash, row.deduplication_hash, row.fingerprint)
            key, duplicate, body = ((word or b"-").rstrip(b"\0").decode() for word in words)
            yield f"  {row.user} key {key} duplicate {duplicate} body {body}: {answer.verdict.name} {_short(answer.id)}"


def _short(id_: NotificationId) -> int:
    return id_.int >> 8 & 0xFFFF


def _said(answer: Accepted) -> tuple[object, ...]:
    """A conflict is answered without an id, and says which body the key stands for."""
    return answer.verdict, answer.fingerprint if answer.verdict == Verdict.conflict else answer.id


async def first_difference(shard: ModelShard, store: AcceptStore, seed: int) -> str | None:
    rng = Random(seed)
    keys, asking, story = Keys(), Asking(rng), list[Told]()
    await shard.clear()
    for _ in range(BATCHES):
        story.append(await _age(shard, store, keys, rng) if rng.random() < 0.25 else _batch(keys, asking))
        heard = await store.accept(SHARD, story[-1].rows) if story[-1].rows else []
        stored = {id_: (v, d) for id_, v, d in await shard.shards.fetch(SHARD, STORED)}
        expected = {id_: (count, count) for id_, count in keys.stored.items()}
        if [*map(_said, heard)] != [*map(_said, story[-1].answers)] or stored != expected:
            told = [line for one in story for line in one.lines()]
            heard_lines = Told(story[-1].rows, heard).lines()
            return "\n".join((f"seed {seed}: the model says", *told, "the SQL says of the last batch", *heard_lines))
    return None


def _batch(keys: Keys, asking: Asking) -> Told:
    rows = asking.batch()
    return Told(rows, [keys.accept(row) for row in rows])


async def _age(shard: ModelShard, store: AcceptStore, keys: Keys, rng: Random) -> Told:
    """Time goes by, and what is expired may be emptied meanwhile: both count as absent."""
    hours = rng.choice(AGES_H)
    keys.age(hours * HOUR_S)
    await shard.shards.fetch(SHARD, AGE, hours)
    if rng.random() < 0.5:
        await store.empty_keys(SHARD, rng.choice((1, 1000)))
    return Told([], [], hours)


@pytest.fixture
def store(still):
    return AcceptStore(still.shards, KEPT_S, KEPT_OF_DUPLICATES_S)


async def test_random_batches_are_answered_as_two_dictionaries_of_keys_say(still, store):
    for seed in range(START, START + STORIES):
        difference = await first_difference(still, store, seed)
        assert difference is None, difference


def test_what_waited_for_another_with_its_key_is_answered_as_the_shard_would():
    rng = Random(START)
    answered = Counter[Verdict]()
    for _ in range(STORIES):
        keys, asking = Keys(), Asking(rng)
        for _ in range(50):
            first = asking.row()
            said = keys.accept(first)
            later = [one for one in (asking.row() for _ in range(20)) if not set(_keys(one)).isdisjoint(_keys(first))]
            for one in later:
                answer = follow(first, said, one)
                if answer is None:
                    break  # it goes itself, and those behind it wait for that
                assert _said(answer) == _said(keys.accept(one)), (first, said, one)
                answered[answer.verdict] += 1
    assert answered.keys() == {Verdict.replayed, Verdict.deduplicated, Verdict.conflict}


PLANTED = {
    "an expired key is replayed": Planted(
        "accept", "k AS", "notification_id = CASE WHEN old.expires_at < now()", "notification_id = CASE WHEN false"
    ),
    "an expired key keeps its old body": Planted(
        "accept", "k AS", "fingerprint = CASE WHEN old.expires_at < now()", "fingerprint = CASE WHEN false"
    ),
    "a key used again after its time does not last": Planted(
        "accept", "k AS", "expires_at = CASE WHEN old.expires_at < now()", "expires_at = CASE WHEN false"
    ),
    "an expired duplicate is still one": Planted(
        "accept", "dedup AS", "notification_id = CASE WHEN old.expires_at < now()", "notification_id = CASE WHEN false"
    ),
    "a key lasts a little too short": Planted("accept", "k AS", "old.expires_at < now()", "old.expires_at <= now()"),
    "a conflict uses up its deduplication key": Planted("accept", "dedup AS", "AND coalesce(first_id = id, true)", ""),
    "a replay is stored again": Planted("accept", "verdict AS", "coalesce(f.first_id, f.id) = f.id AND", ""),
    "a duplicate is stored again": Planted(
        "accept", "verdict AS", "AND coalesce(dedup.notification_id, f.id) = f.id", ""
    ),
    "keys are shared by all users": Planted("accept", "fresh AS", "AND k.user_id = a.user_id", ""),
}


@pytest.mark.parametrize("bug", PLANTED)
async def test_the_dictionaries_notice_that(still, store, bug):
    with planted(store, PLANTED[bug]):
        assert await _noticed(still, store)


async def _noticed(shard: ModelShard, store: AcceptStore) -> bool:
    for seed in range(START, START + STORIES):
        if await first_difference(shard, store, seed):
            return True
    return False

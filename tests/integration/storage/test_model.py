"""The SQL of a shard does what the pure functions say, whoever plays which step when.

Random rounds are played on ``ShardModel`` and on a real shard side by side, and after each of them everything is
compared: the rows, the deliveries, the attempts, and what the call returned. ``TIDINGS_MODEL_BOARDS=1000 pytest …``
plays more of them, and ``TIDINGS_SEED=n`` begins elsewhere.
"""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from random import Random
from typing import Any

import msgspec
import pytest_asyncio

from tests.integration.storage.model_shard import NOW, Life, ModelShard, Picture, picture_of, some_ids
from tests.property.actions import Order, Player, rounds
from tests.property.shard_model import ShardModel
from tidings.domain.ids import DeliveryId, parse_reference
from tidings.domain.lanes import Channel, Class, lane_of
from tidings.domain.outcome import Receipt
from tidings.ports import Filed, Settled

BOARDS = int(os.environ.get("TIDINGS_MODEL_BOARDS", "12"))
START = int(os.environ.get("TIDINGS_SEED", "0"))
HOMES = tuple(lane_of(channel, class_) for channel in (Channel.email, Channel.sms) for class_ in Class)


class Board(msgspec.Struct, frozen=True):
    """So many deliveries live through so many rounds. ``singly``: each row of a round in a statement of its own."""

    deliveries: int
    rounds: int
    singly: bool = False


class Turn(msgspec.Struct, frozen=True):
    """A round as it was played on the model."""

    order: Order
    said: Any
    before: Picture
    after: Picture


class Difference(msgspec.Struct, frozen=True):
    """Where the SQL parted from the model: the deliveries, and the turns until then."""

    seed: int
    ids: Sequence[DeliveryId]
    turns: Sequence[Turn]
    heard: Any
    picture: Picture

    def __str__(self) -> str:
        """The life of the first of them, without the steps that changed nothing on either side."""
        id_ = self.ids[0]
        return "\n".join(
            (
                f"seed {self.seed}: after round {len(self.turns)} the SQL differs from the model in {len(self.ids)} "
                "deliveries. The first of them:",
                *_story(id_, self.turns),
                f"the model has  {_told(self.turns[-1].after[id_])}",
                f"the SQL has    {_told(self.picture[id_])}",
                f"the model said {_said_of(id_, self.turns[-1].order, self.turns[-1].said)}",
                f"the SQL said   {_said_of(id_, self.turns[-1].order, self.heard)}",
            )
        )


def _story(id_: DeliveryId, turns: Sequence[Turn]) -> Iterator[str]:
    for number, turn in enumerate(turns, 1):
        if turn.before[id_] != turn.after[id_] or turn is turns[-1]:
            yield f"  {number:3} {turn.order.method} {_asked(id_, turn.order)}"


def _asked(id_: DeliveryId, order: Order) -> str:
    if order.method == "claim":
        return f"lanes {list(order.args[0])} as {order.args[1]}"
    return "; ".join(", ".join(map(_shown, row)) for row in order.rows() if _about(row[0]) == id_)


def _shown(thing: object) -> str:
    if isinstance(thing, Settled):
        flagged = ", duplicate possible" if thing.duplicate_possible else ""
        return f"as {thing.token} about try {thing.n}: {thing.to} after {thing.said}{flagged}"
    return f"receipt {thing.event_key}" if isinstance(thing, Receipt) else str(thing)


def _told(life: Life) -> str:
    shown = {name: getattr(life.row, name) for name in life.row.__struct_fields__ if name != "id"} if life.row else None
    if shown:
        shown["due_at"] = f"in {(shown['due_at'] - NOW).total_seconds():g} s"
    return f"{life.mark.name}, duplicate_possible={life.duplicate_possible}, attempts={life.attempts}, row={shown}"


def _about(thing: Any) -> DeliveryId:
    if isinstance(thing, Receipt):
        (id_, _) = parse_reference(thing.reference) or (None, 0)
        return id_
    return getattr(thing, "id", thing)


def _said_of(id_: DeliveryId, order: Order, said: Any) -> object:
    return _by_delivery(order, said).get(id_)


def _by_delivery(order: Order, said: Any) -> Mapping[DeliveryId, object]:
    """What a call returned, for each delivery. Of two receipts in one statement either may have ended the doubt."""
    if order.method != "file":
        return {_about(one): one for one in said or ()}
    told: dict[DeliveryId, Counter[str]] = {}
    for (asked,), filed in zip(order.rows(), said, strict=True):
        words = (name for name in Filed.__struct_fields__ if getattr(filed, name))
        told.setdefault(_about(asked), Counter()).update(words)
    return told


async def first_difference(shard: ModelShard, seed: int, board: Board) -> Difference | None:
    """Plays one board to its end, or until the two part."""
    rng, ids = Random(seed), some_ids(board.deliveries)
    homes = {id_: rng.choice(HOMES) for id_ in ids}
    model, player, turns = ShardModel(NOW), Player(ids, NOW), list[Turn]()
    for id_, home in homes.items():
        model.accept(id_, home)
    await shard.clear()
    await shard.accept(homes)
    before = picture_of(model)
    for round_ in rounds(rng, board.rounds, board.deliveries, HOMES):
        order = player.order(round_)
        said, heard = order.on(model), await played(shard, order, board)
        player.note(order, said)
        turns.append(Turn(order, said, before, picture_of(model)))
        before, seen = turns[-1].after, await shard.picture(ids)
        told = [_by_delivery(order, one) for one in (said, heard)]
        if parted := [id_ for id_ in ids if before[id_] != seen[id_] or told[0].get(id_) != told[1].get(id_)]:
            return Difference(seed, parted, turns, heard, seen)
    assert await shard.taken(ids) == {id_: model.taken(id_) for id_ in ids}
    return None


async def played(shard: ModelShard, order: Order, board: Board) -> Any:
    if not board.singly or order.method == "claim":
        return await order.on(shard)
    return [one for single in order.singles() for one in await single.on(shard) or ()]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def shard(postgres):
    async with ModelShard.open(postgres.dsn(await postgres.create_database())) as shard:
        yield shard


async def test_many_rows_at_once_fare_as_the_pure_functions_say(shard):
    for seed in range(START, START + BOARDS):
        difference = await first_difference(shard, seed, Board(deliveries=200, rounds=60))
        assert difference is None, str(difference)


async def test_rows_one_by_one_fare_as_they_do_together(shard):
    for seed in range(START, START + BOARDS // 4):
        difference = await first_difference(shard, seed, Board(deliveries=30, rounds=60, singly=True))
        assert difference is None, str(difference)

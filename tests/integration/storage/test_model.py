"""The SQL of a shard does what the pure functions say, whoever plays which step when.

Random rounds are played on ``ShardModel`` and on a real shard side by side, and after each of them everything is
compared: the rows, the deliveries, the attempts, and what the call returned. ``TIDINGS_MODEL_BOARDS=1000 pytest …``
plays more of them, and ``TIDINGS_SEED=n`` begins elsewhere.
"""

import asyncio
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from random import Random
from typing import Any

import msgspec
import pytest

from tests.integration.storage.model_shard import NOW, Life, ModelShard, Picture, picture_of, some_ids
from tests.integration.storage.planted import Planted, planted
from tests.property.actions import Order, Player, receipt, rounds
from tests.property.shard_model import ShardModel
from tidings.domain.delivery import Mark
from tidings.domain.dispatch import Finish
from tidings.domain.ids import DeliveryId, parse_reference
from tidings.domain.lanes import Channel, Class, lane_of
from tidings.domain.outcome import Receipt, Sent
from tidings.ports import Filed, Settled
from tidings.storage.dispatches import DispatchStore
from tidings.storage.receipts import ReceiptStore

BOARDS = int(os.environ.get("TIDINGS_MODEL_BOARDS", "12"))
START = int(os.environ.get("TIDINGS_SEED", "0"))
HOMES = tuple(lane_of(channel, class_) for channel in (Channel.email, Channel.sms) for class_ in Class)


class Board(msgspec.Struct, frozen=True):
    """So many deliveries live through so many rounds. ``singly``: each row of a round in a statement of its own."""

    deliveries: int
    rounds: int
    singly: bool = False


TOGETHER = Board(deliveries=200, rounds=60)
SINGLY = Board(deliveries=30, rounds=60, singly=True)


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


async def test_many_rows_at_once_fare_as_the_pure_functions_say(still):
    for seed in range(START, START + BOARDS):
        difference = await first_difference(still, seed, TOGETHER)
        assert difference is None, str(difference)


async def test_rows_one_by_one_fare_as_they_do_together(still):
    for seed in range(START, START + BOARDS // 4):
        difference = await first_difference(still, seed, SINGLY)
        assert difference is None, str(difference)


DISPATCH = {
    "a finish checks no token": Planted("settle", "gone AS", "d.token = r.token OR d.state = 3", "true"),
    "a finish checks no try": Planted("settle", "gone AS", "d.tries = r.n AND", ""),
    "a retry checks no try": Planted("settle", "kept AS", "d.tries = r.n AND", ""),
    "a retry checks no token": Planted("settle", "kept AS", "d.token = r.token OR d.state = 3", "true"),
    "a late answer ends no doubt": Planted("settle", "gone AS", "OR d.state = 3", ""),
    "a late answer retries no doubt": Planted("settle", "kept AS", "OR d.state = 3", ""),
    "claims are not counted anew": Planted("settle", "kept AS", "claims = 0,", ""),
    "the later word wins": Planted("settle", "done AS", "greatest(v.status, ", "greatest("),
    "a refusal hides a possible copy": Planted("settle", "done AS", "v.duplicate_possible OR", "false OR"),
    "a late sent needs its hold": Planted("settle", "ends AS", "mark = 10 AS sure", "false AS sure"),
    "what was taken is tried again": Planted("settle", "ends AS", "v.status BETWEEN 10 AND 30", "false"),
    "a doubt is due by the expiry": Planted(
        "settle", "kept AS", "CASE WHEN r.state = 0 THEN r.expires_at END", "r.expires_at"
    ),
    "a doubt forgets whom it tried": Planted(
        "settle", "kept AS", "CASE WHEN r.state = 0 THEN r.tried::smallint[] ELSE d.tried END", "r.tried::smallint[]"
    ),
    "an expired call is sent again": Planted("claim", "UPDATE", "WHEN 2 THEN 3", "WHEN 2 THEN 1"),
    "a mark needs no time": Planted(
        "mark", "UPDATE", "AND d.due_at - $4::float8 * interval '1 second' > now()", "AND $4::float8 > 0"
    ),
    "what was marked is given back": Planted("give_back", "UPDATE", "AND d.state = 1", "AND d.state IN (1, 2)"),
    "what has left is cancelled": Planted("cancel", "DELETE", "d.state IN (0, 1)", "d.state IN (0, 1, 2)"),
}
RECEIPTS = {
    "a receipt ends a call under way": Planted("file", "settled AS", "AND state <> 2", ""),
    "a receipt moves a status back": Planted("file", "moved AS", "AND v.status < best.status", ""),
    "a receipt speaks for a call under way": Planted("file", "taken AS", "AND begun.state IS DISTINCT FROM 2", ""),
}


@pytest.mark.parametrize("bug", DISPATCH)
async def test_the_model_notices_that(still, bug):
    assert await _noticed(still, still.dispatches, DISPATCH[bug])


@pytest.mark.parametrize("bug", RECEIPTS)
async def test_the_model_notices_of_receipts_that(still, bug):
    assert await _noticed(still, still.receipts, RECEIPTS[bug])


async def _noticed(shard: ModelShard, store: DispatchStore | ReceiptStore, bug: Planted) -> bool:
    """Within a third of the boards that the real SQL is tried with. What PostgreSQL refuses is no mutation."""
    with planted(store, bug):
        for seed in range(START, START + BOARDS // 3):
            if await first_difference(shard, seed, TOGETHER):
                return True
    return False


async def test_a_difference_names_its_seed_and_tells_the_life_of_one_delivery(still):
    with planted(still.dispatches, DISPATCH["a finish checks no token"]):
        difference = await first_difference(still, START, TOGETHER)
    told = str(difference).splitlines()
    assert told[0].startswith(f"seed {START}: after round {len(difference.turns)} the SQL differs")
    assert any("settle as" in line for line in told)
    assert [line.split()[1] for line in told[-4:]] == ["model", "SQL", "model", "SQL"]


async def test_answers_and_receipts_of_the_same_deliveries_never_lock_each_other_out(still):
    for delay_ms in range(60):
        ids = some_ids(200)
        await still.clear()
        await still.accept(dict.fromkeys(ids, HOMES[0]))
        await still.claim({HOMES[0]: 200}, 1)
        await still.mark(ids, [1] * 200, [1] * 200)
        answers = [Settled(id_, 1, 1, Finish(Mark.sent), 1, Sent("m")) for id_ in reversed(ids)]
        receipts = [receipt(id_, 1, Mark.delivered) for id_ in ids]
        await asyncio.gather(still.settle(answers), _later(delay_ms % 20 / 2000, still.file, receipts))
        assert {life.mark for life in (await still.picture(ids)).values()} == {Mark.delivered}


async def _later(delay_s: float, call: Callable[..., Awaitable[object]], *args: object) -> object:
    """Each time it meets another moment of what runs beside it."""
    await asyncio.sleep(delay_s)
    return await call(*args)

"""Natural group commit."""

import asyncio

from tidings.pipeline.gather import Clash, Gather


class Shop:
    """A flush that takes until it is told to end."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.gates: list[asyncio.Future[None]] = []

    async def flush(self, items):
        self.batches.append(list(items))
        gate = asyncio.get_running_loop().create_future()
        self.gates.append(gate)
        await gate
        return [item.upper() if item != "bad" else ValueError(item) for item in items]

    async def begun(self, flushes: int) -> None:
        while len(self.batches) < flushes:
            await asyncio.sleep(0)

    async def end(self, *flushes: int) -> None:
        for n in flushes:
            self.gates[n].set_result(None)


async def test_what_gathers_during_a_flush_goes_with_the_next_one():
    shop = Shop()
    gather = Gather(shop.flush, 10, 2)
    first = gather.put("a")
    await shop.begun(1)
    others = [gather.put(item) for item in "bcd"]
    await shop.end(0)
    assert await first == "A"
    await shop.begun(2)
    await shop.end(1)
    assert await asyncio.gather(*others) == ["B", "C", "D"]
    assert shop.batches == [["a"], ["b", "c", "d"]]


async def test_a_second_flush_begins_beside_the_first_only_when_a_full_one_waits():
    shop = Shop()
    gather = Gather(shop.flush, 3, 2)
    futures = [gather.put("a")]
    await shop.begun(1)
    futures += [gather.put(item) for item in "bc"]
    await asyncio.sleep(0)
    assert len(shop.batches) == 1
    futures.append(gather.put("d"))
    await shop.begun(2)
    assert shop.batches[1] == ["b", "c", "d"]
    await shop.end(0, 1)
    assert await asyncio.gather(*futures) == ["A", "B", "C", "D"]


async def test_two_with_one_key_never_share_a_flush_and_keep_their_order():
    shop = Shop()
    gather = Gather(shop.flush, 10, 2, Clash(lambda item: [item[0]]))
    futures = [gather.put(item) for item in ("x1", "y1", "x2", "x3")]
    for n in range(3):
        await shop.begun(n + 1)
        await shop.end(n)
    assert await asyncio.gather(*futures) == ["X1", "Y1", "X2", "X3"]
    assert shop.batches == [["x1", "y1"], ["x2"], ["x3"]]


def both(item: str) -> list[str]:
    """An item holds each of its letters."""
    return [letter for letter in item if letter.isalpha()]


def same(first: str, said, later):
    """Who is the same but for its number gets the same answer."""
    return [said if both(one) == both(first) else None for one in later]


async def test_what_waits_behind_another_is_answered_with_it_or_goes_itself_afterwards():
    shop = Shop()
    gather = Gather(shop.flush, 10, 2, Clash(both, same))
    futures = [gather.put(item) for item in ("x1", "xy1", "x2", "y1", "x3", "xy2")]
    assert gather.waiting == 6
    await shop.begun(1)
    assert shop.batches[0] == ["x1", "y1"]
    await shop.end(0)
    await shop.begun(2)
    assert [future.result() for future in futures if future.done()] == ["X1", "X1", "Y1", "X1"]
    assert shop.batches[1] == ["xy1"], "xy2 waits behind it, and is the same"
    await shop.end(1)
    assert await asyncio.gather(*futures) == ["X1", "XY1", "X1", "Y1", "X1", "XY1"]
    assert gather.waiting == 0
    await gather.drain()


async def test_what_comes_during_a_flush_waits_behind_what_is_in_it():
    shop = Shop()
    gather = Gather(shop.flush, 1, 2, Clash(both, same))
    first = gather.put("x1")
    await shop.begun(1)
    later = [gather.put(item) for item in ("x2", "z1")]
    await shop.begun(2)
    assert shop.batches == [["x1"], ["z1"]], "nobody else is held up"
    await shop.end(0, 1)
    assert await asyncio.gather(first, *later) == ["X1", "X1", "Z1"]


async def test_a_failure_is_told_to_those_behind_it_where_it_is_theirs_too():
    shop = Shop()
    gather = Gather(shop.flush, 10, 1, Clash(lambda _: ["key"], lambda _, said, later: [said] * len(later)))
    first, second = gather.put("bad"), gather.put("good")
    await shop.begun(1)
    await shop.end(0)
    await gather.drain()
    assert first.exception() is second.exception() is not None


async def test_where_the_first_has_left_the_next_one_goes_and_who_left_behind_it_is_forgotten():
    shop = Shop()
    gather = Gather(shop.flush, 10, 1, Clash(both, same))
    gather.put("a")
    await shop.begun(1)
    first, gone, next_, last = [gather.put(item) for item in ("x1", "x2", "x3", "x4")]
    first.cancel()
    gone.cancel()
    await shop.end(0)
    await shop.begun(2)
    assert shop.batches[1] == ["x3"]
    await shop.end(1)
    assert await asyncio.gather(next_, last) == ["X3", "X3"]
    await gather.drain()
    assert gather.waiting == 0


async def test_twenty_thousand_with_one_key_go_in_one_flush():
    shop = Shop()
    gather = Gather(shop.flush, 200, 2, Clash(both, same))
    futures = [gather.put(f"x{n}") for n in range(20_000)]
    await shop.begun(1)
    await shop.end(0)
    assert set(await asyncio.gather(*futures)) == {"X0"}
    assert shop.batches == [["x0"]]


async def test_one_that_fails_fails_alone_and_one_that_left_is_left_out():
    shop = Shop()
    gather = Gather(shop.flush, 10, 1)
    gather.put("first")
    await shop.begun(1)
    bad, good, gone = gather.put("bad"), gather.put("good"), gather.put("gone")
    gone.cancel()
    await shop.end(0)
    await shop.begun(2)
    await shop.end(1)
    assert await good == "GOOD"
    assert isinstance(bad.exception(), ValueError)
    assert shop.batches[1] == ["bad", "good"]
    await gather.drain()


async def test_flushes_that_must_keep_apart_gather_what_comes_meanwhile():
    shop = Shop()
    gather = Gather(shop.flush, 3, 1, apart_s=60.0)
    first = gather.put("a")
    await shop.begun(1)
    await shop.end(0)
    assert await first == "A", "the first one goes at once"
    later = [gather.put(item) for item in "bc"]
    for _ in range(10):
        await asyncio.sleep(0)
    assert len(shop.batches) == 1
    later.append(gather.put("d"))
    await shop.begun(2)
    await shop.end(1)
    assert await asyncio.gather(*later) == ["B", "C", "D"], "a full one does not wait"


async def test_flushes_that_must_keep_apart_come_when_their_time_has_come():
    shop = Shop()
    gather = Gather(shop.flush, 3, 1, apart_s=0.01)
    for n, item in enumerate("abc"):
        future = gather.put(item)
        await shop.begun(n + 1)
        await shop.end(n)
        assert await future == item.upper()


async def test_to_drain_waits_for_no_distance():
    shop = Shop()
    gather = Gather(shop.flush, 3, 1, apart_s=60.0)
    first = gather.put("a")
    await shop.begun(1)
    await shop.end(0)
    await first
    second = gather.put("b")
    drained = asyncio.create_task(gather.drain())
    await shop.begun(2)
    await shop.end(1)
    await drained
    assert second.result() == "B"
    assert gather.waiting == 0

"""Natural group commit."""

import asyncio

from tidings.pipeline.gather import Gather


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
    gather = Gather(shop.flush, 10, 2, lambda item: [item[0]])
    futures = [gather.put(item) for item in ("x1", "y1", "x2", "x3")]
    for n in range(3):
        await shop.begun(n + 1)
        await shop.end(n)
    assert await asyncio.gather(*futures) == ["X1", "Y1", "X2", "X3"]
    assert shop.batches == [["x1", "y1"], ["x2"], ["x3"]]


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

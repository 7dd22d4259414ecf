"""What a relay tells of the lanes, whatever it can find out."""

from collections.abc import Mapping
from math import inf, isnan

from tests.unit.test_presence import MAIL, NEWS, there
from tidings.domain.errors import Unavailable
from tidings.domain.events import HintsLagged, LanesCounted, LaneServed, StorageAway
from tidings.domain.figures import LaneCount
from tidings.domain.ids import ShardNumber
from tidings.domain.lanes import Lane, lane_named
from tidings.pipeline.lookout import Lookout

SHARDS = ShardNumber(0), ShardNumber(1)


class Rig:
    """Two shards and a roll call, as the test sets them; what was emitted is in ``events``."""

    def __init__(self) -> None:
        self.counts = {shard: [LaneCount(lane_named(MAIL), 0, 0, 0.0)] for shard in SHARDS}
        self.present = [there(lanes=(MAIL,))]
        self.events: list[object] = []
        self.behind: Mapping[Lane, int] | None = None
        self.lookout = Lookout(self.count, self, self.lag, SHARDS, self.events.append)

    async def count(self, shard):
        if shard not in self.counts:
            raise Unavailable
        return self.counts[shard]

    async def lag(self):
        return self.behind

    async def read(self, *roles):
        return self.present

    async def round(self) -> dict[str, LaneServed]:
        self.events.clear()
        await self.lookout.round()
        return {one.lane: one for one in self.events if isinstance(one, LaneServed)}


async def test_each_shard_has_its_figures_and_each_lane_its_workers():
    rig = Rig()
    rig.counts[SHARDS[1]] = [LaneCount(lane_named(NEWS), 5, 2, 7.0)]
    served = await rig.round()
    assert (served[MAIL].workers, served[NEWS].workers) == (1, 0)
    counted = {one.shard: one for one in rig.events if isinstance(one, LanesCounted)}
    assert counted[1].waiting == {(NEWS,): 5} and counted[1].due == {(NEWS,): 2}
    assert counted[1].oldest_due_s == {(NEWS,): 7.0}
    assert rig.lookout.warnings() == [
        f"no worker serves {NEWS}: 2 are due; start one with `tidings work --lanes {NEWS}`"
    ]


async def test_how_long_it_takes_is_known_from_the_second_look_on():
    rig = Rig()
    rig.counts[SHARDS[0]] = [LaneCount(lane_named(MAIL), 30, 30, 1.0)]
    assert isnan((await rig.round())[MAIL].drain_s)
    rig.present = [there(lanes=(MAIL,), at_s=2, left={MAIL: 20})]
    assert (await rig.round())[MAIL].drain_s == 3.0
    rig.present = [there(lanes=(MAIL,), at_s=4, left={MAIL: 20})]
    assert (await rig.round())[MAIL].drain_s == inf


async def test_a_shard_that_is_away_is_left_out_and_the_others_are_told():
    rig = Rig()
    del rig.counts[SHARDS[0]]
    served = await rig.round()
    assert [one.shard for one in rig.events if isinstance(one, LanesCounted)] == [1]
    assert StorageAway("lanes") in rig.events and served[MAIL].workers == 1


async def test_where_nobody_can_tell_who_is_there_nobody_is_missed():
    rig = Rig()
    rig.counts[SHARDS[0]] = [LaneCount(lane_named(NEWS), 5, 2, 7.0)]
    rig.present = None
    assert await rig.round() == {} and rig.lookout.warnings() == []


async def test_a_worker_that_comes_ends_the_warning():
    rig = Rig()
    rig.counts[SHARDS[0]] = [LaneCount(lane_named(NEWS), 5, 2, 7.0)]
    await rig.round()
    assert rig.lookout.warnings()
    rig.present = [there(lanes=(MAIL,)), there(pid=2, lanes=(NEWS,))]
    await rig.round()
    assert rig.lookout.warnings() == []


async def test_hints_that_nobody_took_are_told_where_they_stand_in_a_queue():
    rig = Rig()
    await rig.round()
    assert not [one for one in rig.events if isinstance(one, HintsLagged)]
    rig.behind = {lane_named(MAIL): 7}
    await rig.round()
    assert [one for one in rig.events if isinstance(one, HintsLagged)] == [HintsLagged(MAIL, 7)]

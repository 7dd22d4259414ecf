"""How far a partition is claimed, whatever the order."""

from hypothesis import given
from hypothesis import strategies as st

from tidings.hints.progress import Progress


@given(st.sets(st.integers(0, 200), min_size=1).map(sorted), st.randoms())
def test_the_offset_to_go_on_from_is_behind_all_that_is_claimed_and_before_all_that_is_not(offsets, luck):
    progress, claimed = Progress(), set()
    for offset in offsets:
        progress.came(offset)
    for offset in luck.sample(offsets, len(offsets)):
        progress.claimed(offset)
        claimed.add(offset)
        unclaimed = [one for one in offsets if one not in claimed]
        done = [one for one in offsets if not unclaimed or one < unclaimed[0]]
        assert progress.upto == (done[-1] + 1 if done else None)
        assert progress.held == len(offsets) - len(done)


def test_nothing_is_committed_before_anything_came():
    assert Progress().upto is None and Progress().held == 0

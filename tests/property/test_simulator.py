"""Thousands of schedules of the delivery protocol. ``TIDINGS_SCHEDULES=100000 pytest …`` plays more of them, and
``TIDINGS_SEED=n`` begins elsewhere."""

import os
import time
from collections import Counter

import pytest
from checker import first_violation, play
from shard_model import Rules
from simulator import SCHEDULES

from tidings.domain.delivery import Mark, State

START = int(os.environ.get("TIDINGS_SEED", "0"))


@pytest.mark.timeout(0)
def test_no_schedule_of_crashes_pauses_and_lost_answers_breaks_a_promise():
    began_s = time.perf_counter()
    violation = first_violation(range(START, START + SCHEDULES))
    took_s = time.perf_counter() - began_s
    print(f"{SCHEDULES} schedules in {took_s:.1f} s")
    assert violation is None, str(violation)


def test_a_resolver_that_waits_by_its_own_clock_survives_a_step_of_the_databases():
    rules = Rules(clock_steps=True)
    violation = first_violation(range(START, START + SCHEDULES // 6), rules)
    assert violation is None, str(violation)


def test_a_seed_plays_the_same_steps_every_time():
    for seed in range(30):
        first, second = (play(seed, traced=True)[0].trace for _ in range(2))
        assert first == second
        assert len(first) > 5


def test_writing_the_steps_down_changes_none_of_them():
    for seed in range(30):
        plain, traced = play(seed)[0], play(seed, traced=True)[0]
        assert plain.shard.attempts == traced.shard.attempts
        assert plain.now_s == traced.now_s


def test_the_schedules_reach_every_corner_of_the_protocol():
    corners: Counter[str] = Counter()
    for seed in range(400):
        world, _ = play(seed, traced=True)
        corners.update(_corners_of(world))
    missing = [corner for corner in CORNERS if corners[corner] < 3]
    assert not missing, f"{corners}"


CORNERS = (
    "a policy repeated",
    "one person got two copies, and the row says so",
    "ended unknown",
    "ended expired",
    "ended failed",
    "ended undelivered",
    "ended delivered",
    "buried",
    "a worker fenced itself",
    "a zombie settled in vain",
    "a receipt came before the answer was stored",
    "a look-up found it",
    "a process was killed",
    "a process was paused",
)


def _corners_of(world):
    yield from ("a policy repeated" for _ in world.repeats_at)
    copies = Counter(id_ for provider in world.providers.values() for id_, _, _ in provider.taken)
    for id_, delivery in world.shard.deliveries.items():
        yield f"ended {delivery.mark.name}"
        if copies[id_] > 1 and delivery.duplicate_possible:
            yield "one person got two copies, and the row says so"
        if id_ in world.shard.rows and world.shard.rows[id_].state == State.dead:
            yield "buried"
        if delivery.history[:1] in ([Mark.delivered], [Mark.undelivered]):
            yield "a receipt came before the answer was stored"
    yield from (corner for line in world.trace for said, corner in SAID.items() if said in line)


SAID = {
    "Fenced": "a worker fenced itself",
    "settles in vain": "a zombie settled in vain",
    "finds Sent": "a look-up found it",
    "kills": "a process was killed",
    "pauses": "a process was paused",
}

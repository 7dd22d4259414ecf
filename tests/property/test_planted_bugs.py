"""The simulator must not be blind: each bug that others have shipped is planted, and must be found."""

from datetime import datetime

import pytest
from checker import first_violation, run
from msgspec.structs import replace
from shard_model import Rules

from tidings.domain import dispatch, doubt, retry
from tidings.domain.catalog import DoubtPolicy
from tidings.domain.claimed import Claimed
from tidings.domain.delivery import Mark, State
from tidings.domain.dispatch import Again, Bury, Dispatch, Finish, Settlement
from tidings.domain.doubt import Learnt, Resolved
from tidings.domain.outcome import Outcome, TryLater, TryNext, Unsure

SEEDS = range(6000)


def claims_in_flight_rows_again(row: Dispatch, token: int, now: datetime, lease_s: float) -> Dispatch:
    if row.state == State.inflight:
        row = replace(row, state=State.leased)
    return dispatch.claim(row, token, now, lease_s)


def asks_for_neither_token_nor_try(row: Dispatch, token: int, n: int, to: Settlement) -> bool:
    return True


def asks_for_no_token(row: Dispatch, token: int, n: int, to: Settlement) -> bool:
    return row.tries == n


def asks_for_no_try(row: Dispatch, token: int, n: int, to: Settlement) -> bool:
    return dispatch.holds(row, token, row.tries, to)


def fails_over_from_in_doubt(said: Outcome, *rest: object) -> Settlement:
    return retry.next_step(TryNext(said.code) if isinstance(said, Unsure) else said, *rest)


def takes_unsure_for_not_sent(said: Outcome, *rest: object) -> Settlement:
    return retry.next_step(TryLater(said.code) if isinstance(said, Unsure) else said, *rest)


def takes_unsure_for_sent(said: Outcome, *rest: object) -> Settlement:
    return Finish(Mark.sent) if isinstance(said, Unsure) else retry.next_step(said, *rest)


def numbers_no_try(row: Dispatch, *rest: object) -> Dispatch | None:
    after = dispatch.mark(row, *rest)
    return after and replace(after, tries=max(row.tries, 1))


def trusts_absence_at_once(held: Claimed, learnt: Learnt, *rest: object) -> object:
    if isinstance(learnt.looked_up, TryNext):
        held, learnt = replace(held, started_at=None), replace(learnt, watched_s=float("inf"))
    return doubt.resolve(held, learnt, *rest)


def buries_without_a_word(*args: object) -> object:
    verdict = doubt.resolve(*args)
    return replace(verdict, duplicate_possible=False) if isinstance(verdict, Resolved) and _buries(verdict) else verdict


def _buries(verdict: Resolved) -> bool:
    return isinstance(verdict.to, Bury)


def forgets_whom_it_tried(*args: object) -> object:
    verdict = doubt.resolve(*args)
    if isinstance(verdict, Resolved) and isinstance(verdict.to, Again):
        return replace(verdict, to=replace(verdict.to, tried=()))
    return verdict


def repeats_against_the_policy(held: Claimed, learnt: Learnt, policy: object, rules: object) -> object:
    return doubt.resolve(held, learnt, DoubtPolicy.at_least_once, rules)


def always(age_s: float) -> bool:
    return True


def the_later_word(old: Mark, new: Mark) -> Mark:
    return new


PLANTED = {
    "an expired in-flight row is sent again": Rules(claim=claims_in_flight_rows_again),
    "a finish checks neither token nor try": Rules(holds=asks_for_neither_token_nor_try),
    "a finish checks no token": Rules(holds=asks_for_no_token),
    "a finish forgets that tries == n": Rules(holds=asks_for_no_try),
    "a late answer counts for the newest try": Rules(forgets_its_try=True),
    "there is no self-fence": Rules(may_write=always),
    "the fence's clock stops while the machine sleeps": Rules(clock_counts_suspend=False),
    "in doubt fails over": Rules(next_step=fails_over_from_in_doubt),
    "unsure is taken for surely not sent": Rules(next_step=takes_unsure_for_not_sent),
    "unsure is taken for sent": Rules(next_step=takes_unsure_for_sent),
    "a look-up's absence is trusted at once": Rules(resolve=trusts_absence_at_once),
    "a doubt that used up its attempts is buried as if it were certain": Rules(resolve=buries_without_a_word),
    "a repeated doubt starts its round anew": Rules(resolve=forgets_whom_it_tried),
    "a code for one time is sent again": Rules(resolve=repeats_against_the_policy),
    "the resolver trusts a clock that may be stepped": Rules(clock_steps=True, resolver_has_its_own_clock=False),
    "two calls share a number": Rules(mark=numbers_no_try),
    "a late receipt moves the status back": Rules(rise=the_later_word),
}


@pytest.mark.parametrize("bug", PLANTED)
def test_the_simulator_finds_the_bug_that(bug):
    violation = first_violation(SEEDS, PLANTED[bug])
    assert violation is not None, f"{len(SEEDS)} schedules did not notice that {bug}"
    assert run(violation.seed) is None, "the rules as they are must keep the same schedule"


def test_a_violation_names_its_seed_and_breaks_the_same_way_again():
    rules = PLANTED["unsure is taken for surely not sent"]
    violation = first_violation(SEEDS, rules)
    assert str(violation).startswith(f"seed {violation.seed} broke:")
    assert any("writes to provider" in step for step in violation.trace)
    assert run(violation.seed, rules) == violation

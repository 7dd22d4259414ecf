"""What processes show of themselves, and what follows from it."""

from datetime import UTC, datetime, timedelta

import pytest

from tidings.domain.presence import API, RELAY, WORK, Present, pace, serving

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
MAIL, NEWS = "email.transactional", "email.promotional"


def there(role: str = WORK, pid: int = 1, at_s: float = 0.0, started_s: float = -60.0, **more: object) -> Present:
    return Present(role, "host", pid, NOON + timedelta(seconds=started_s), NOON + timedelta(seconds=at_s), **more)


def test_the_pace_is_what_all_of_them_did_between_two_looks():
    before = [
        there(pid=1, sent={MAIL: 10}, left={MAIL: 10, NEWS: 1}),
        there(pid=2, sent={MAIL: 5}, left={MAIL: 9}),
        there(API, pid=3, accepted=100),
    ]
    now = [
        there(pid=1, at_s=2, sent={MAIL: 30}, left={MAIL: 30, NEWS: 3}),
        there(pid=2, at_s=4, sent={MAIL: 5}, left={MAIL: 29}),
        there(API, pid=3, at_s=1, accepted=150),
    ]
    found = pace(before, now)
    assert found is not None
    assert found.accepted_per_s == 50
    assert found.sent_per_s == 10
    assert found.left_per_s == {MAIL: 10 + 5, NEWS: 1}


def test_what_a_relay_resolves_is_no_work_of_the_lane():
    found = pace([there(RELAY)], [there(RELAY, at_s=1, sent={MAIL: 9}, left={MAIL: 9})])
    assert found is not None and (found.sent_per_s, found.left_per_s) == (0, {})


def test_a_process_that_took_the_place_of_another_does_not_count_backwards():
    before = [there(pid=1, accepted=1_000), there(pid=2, accepted=0)]
    now = [there(pid=1, started_s=1, at_s=2, accepted=3), there(pid=2, at_s=2, accepted=8)]
    found = pace(before, now)
    assert found is not None and found.accepted_per_s == 4


@pytest.mark.parametrize(("before", "now"), [([], [there()]), ([there()], []), ([there(pid=1)], [there(pid=2)])])
def test_without_two_looks_at_one_process_there_is_no_pace(before, now):
    assert pace(before, now) is None


def test_one_that_has_shown_nothing_new_stands_still():
    found = pace([there(sent={MAIL: 1})], [there(sent={MAIL: 1})])
    assert found is not None and found.sent_per_s == 0


def test_workers_alone_serve_lanes():
    found = serving([there(lanes=(MAIL, NEWS)), there(pid=2, lanes=(MAIL,)), there(RELAY, pid=3, lanes=(NEWS,))])
    assert found == {MAIL: 2, NEWS: 1}

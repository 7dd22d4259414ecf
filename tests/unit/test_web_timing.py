"""Wall times: every zone, both ways of changing clocks."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidings.domain.timing import instant_of
from tidings.web.asking import in_a_year

PARIS = ZoneInfo("Europe/Paris")


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_an_ordinary_time_is_the_one_on_the_clock():
    assert instant_of(datetime(2026, 12, 1, 9), PARIS) == utc("2026-12-01T08:00")
    assert instant_of(datetime(2026, 7, 1, 9), PARIS) == utc("2026-07-01T07:00")


@pytest.mark.parametrize(
    ("zone", "wall", "instant"),
    [
        ("Europe/Paris", "2026-03-29T02:30", "2026-03-29T01:00"),
        ("America/New_York", "2026-03-08T02:59:59", "2026-03-08T07:00"),
        ("Australia/Lord_Howe", "2026-10-04T02:15", "2026-10-03T15:30"),
        ("America/Santiago", "2026-09-06T00:30", "2026-09-06T04:00"),
        ("Pacific/Apia", "2011-12-30T12:00", "2011-12-30T10:00"),
    ],
)
def test_in_a_gap_the_first_instant_after_it_is_meant(zone, wall, instant):
    assert instant_of(datetime.fromisoformat(wall), ZoneInfo(zone)) == utc(instant)
    assert instant_of(datetime.fromisoformat(wall), ZoneInfo(zone), gap="skip") is None


def test_a_time_that_comes_twice_is_the_first_or_the_second():
    wall = datetime(2026, 10, 25, 2, 30)
    assert instant_of(wall, PARIS) == utc("2026-10-25T00:30")
    assert instant_of(wall, PARIS, overlap="second") == utc("2026-10-25T01:30")


ZONES = sorted(name for name in available_timezones() if "/" in name and not name.startswith(("posix", "right")))
WALLS = st.datetimes(datetime(2020, 1, 1), datetime(2030, 12, 31)).map(lambda at: at.replace(microsecond=0))


@settings(max_examples=300, deadline=None)
@given(zone=st.sampled_from(ZONES).map(ZoneInfo), wall=WALLS)
def test_an_instant_shows_its_wall_time_unless_clocks_skip_it(zone, wall):
    instant, strict = instant_of(wall, zone), instant_of(wall, zone, gap="skip")
    shown = instant.astimezone(zone).replace(tzinfo=None)
    if strict is not None:
        assert instant == strict and shown == wall
    else:
        assert shown > wall
        before = (instant - timedelta(seconds=1)).astimezone(zone).replace(tzinfo=None)
        assert before < wall


@settings(max_examples=200, deadline=None)
@given(zone=st.sampled_from(ZONES).map(ZoneInfo), wall=WALLS)
def test_the_second_reading_is_never_before_the_first(zone, wall):
    assert instant_of(wall, zone, overlap="second") >= instant_of(wall, zone, overlap="first")


@pytest.mark.parametrize(
    ("now", "then"),
    [("2026-05-01", "2027-05-01"), ("2027-05-01", "2028-05-01"), ("2028-02-29", "2029-02-28")],
)
def test_a_year_ahead_is_the_same_date_next_year(now, then):
    assert in_a_year(utc(now)) == utc(then)

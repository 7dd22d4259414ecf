"""Every change of clocks of every zone from 2020 to 2035, against a second implementation; hours and recurrences
against a clock that is watched minute by minute."""

from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from whenever import Instant, PlainDateTime, RepeatedTime, SkippedTime

from tidings.domain.recurrence import Cron, cron_of, next_after
from tidings.domain.timing import AROUND_THE_WORLD, Meant, changes, earliest, instant_of, readings
from tidings.domain.windows import EVERY_DAY, Hours, next_allowed

FIRST, LAST = datetime(2020, 1, 1, tzinfo=UTC), datetime(2036, 1, 1, tzinfo=UTC)
ZONES = sorted(
    name for name in available_timezones() if not name.startswith(("posix", "right")) and name != "localtime"
)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
AROUND = (-DAY, -HOUR, -HOUR / 2, -timedelta(seconds=1), timedelta(0), HOUR / 2, HOUR, DAY)
"""How far from the edges of a change it is looked at. Between the two edges lies what is skipped, or comes twice."""


@cache
def changes_of(name: str) -> tuple[datetime, ...]:
    return tuple(changes(ZoneInfo(name), FIRST, LAST))


@cache
def that_change() -> tuple[str, ...]:
    return tuple(name for name in ZONES if changes_of(name))


def shown(at: datetime, zone: ZoneInfo) -> datetime:
    return at.astimezone(zone).replace(tzinfo=None)


def walls_around(name: str) -> Iterator[datetime]:
    """Wall times before, at and after both edges of every change."""
    zone = ZoneInfo(name)
    for at in changes_of(name):
        before, after = shown(at - timedelta(seconds=1), zone) + timedelta(seconds=1), shown(at, zone)
        for edge in (before, after, before + (after - before) / 2):
            yield from (edge + step for step in AROUND)


def theirs(instant: datetime, name: str) -> datetime:
    """What clocks show then, as the other library has it."""
    return Instant(instant).to_tz(name).to_plain().to_stdlib()


def exists(plain: PlainDateTime, name: str) -> bool:
    try:
        plain.assume_tz(name, disambiguation="raise")
    except SkippedTime:
        return False
    except RepeatedTime:
        return True
    return True


def check(wall: datetime, name: str) -> None:
    """All that is promised of one wall time in one zone."""
    zone, plain = ZoneInfo(name), PlainDateTime(wall)
    first, second = instant_of(wall, zone), instant_of(wall, zone, overlap="second")
    there_is = exists(plain, name)
    if there_is:
        assert first == plain.assume_tz(name, disambiguation="earlier").to_instant().to_stdlib()
        assert second == plain.assume_tz(name, disambiguation="later").to_instant().to_stdlib()
        assert instant_of(wall, zone, "skip") == first
    else:
        assert instant_of(wall, zone, "skip") is None and first == second
        assert theirs(first - timedelta(seconds=1), name) < wall < theirs(first, name)
    assert earliest(wall) <= first <= second <= earliest(wall) + AROUND_THE_WORLD


def test_there_are_zones_of_every_kind():
    kinds = {
        (int(abs((shown(at, ZoneInfo(name)) - shown(at - MINUTE, ZoneInfo(name)) - MINUTE).total_seconds())) // 60)
        for name in that_change()
        for at in changes_of(name)
    }
    assert {30, 60} <= kinds
    midnights = {
        name for name in that_change() for at in changes_of(name) if shown(at - MINUTE, ZoneInfo(name)).hour == 23
    }
    assert midnights
    assert len(that_change()) > 100


def test_every_change_of_every_zone_is_seen_as_others_see_it():
    for name in that_change():
        for wall in walls_around(name):
            check(wall, name)


def test_a_date_that_a_zone_skipped_is_a_gap_like_any_other():
    for name, skipped in (("Pacific/Apia", "2011-12-30"), ("Pacific/Fakaofo", "2011-12-30")):
        for hour in (0, 12, 23):
            wall = datetime.combine(datetime.fromisoformat(skipped), time(hour, 30))
            assert instant_of(wall, ZoneInfo(name), "skip") is None
            assert shown(instant_of(wall, ZoneInfo(name)), ZoneInfo(name)) == datetime(2011, 12, 31)


@given(st.sampled_from(ZONES), st.datetimes(datetime(2020, 1, 1), datetime(2035, 12, 31)))
def test_any_time_of_any_zone_is_what_others_say(name, wall):
    check(wall.replace(microsecond=0), name)


def test_what_was_believed_is_kept_with_what_was_meant():
    meant = Meant(datetime(2027, 3, 28, 2, 30), "Europe/Berlin")
    assert meant.believing(ZoneInfo("Europe/Berlin")).offset_s == 7200
    assert meant.believing(ZoneInfo("America/New_York")).offset_s == -14400
    assert meant.instant(ZoneInfo("Europe/Berlin")) == datetime(2027, 3, 28, 1, tzinfo=UTC)


# hours


def watched(at: datetime, zone: ZoneInfo, quiet: list[Hours], windows: list[Hours]) -> datetime | None:
    """The first instant that is allowed, by looking at the clock each minute for two weeks."""
    for n in range(14 * 24 * 60):
        then = at + n * MINUTE
        clock = shown(then, zone)
        if not any(inside(one, clock) for one in quiet) and (not windows or any(inside(one, clock) for one in windows)):
            return then
    return None


def inside(one: Hours, clock: datetime) -> bool:
    """The same question asked in another way: minutes since the start of the last day on which it began."""
    for back in (0, 1):
        day = clock.date() - back * DAY
        start = datetime.combine(day, one.start)
        end = datetime.combine(day + (DAY if one.end <= one.start else timedelta(0)), one.end)
        if day.weekday() in one.days and start <= clock < end:
            return True
    return False


times = st.builds(time, st.integers(0, 23), st.sampled_from((0, 15, 30, 45)))
some_hours = st.builds(
    lambda both, days: Hours(both[0], both[1], days),
    st.tuples(times, times).filter(lambda both: both[0] != both[1]),
    st.one_of(st.just(EVERY_DAY), st.frozensets(st.integers(0, 6), min_size=1)),
)


@st.composite
def moments(draw) -> tuple[datetime, str]:
    """Some minute of some zone, most of them near a change of its clocks."""
    name = draw(st.sampled_from(that_change()))
    at = draw(st.sampled_from(changes_of(name)))
    return at + draw(st.integers(-3000, 600)) * MINUTE, name


@settings(max_examples=300)
@given(moments(), st.lists(some_hours, max_size=2), st.lists(some_hours, max_size=2))
def test_what_is_held_leaves_at_the_first_minute_that_allows_it(moment, quiet, windows):
    at, zone = moment[0], ZoneInfo(moment[1])
    found = next_allowed(at, zone, quiet, windows)
    seen = watched(at, zone, quiet, windows)
    assert found == seen or (seen is None and (found is None or found > at + 13 * DAY))


@pytest.mark.parametrize(
    ("zone", "at", "leaves"),
    [
        ("Europe/Berlin", "2026-06-01T21:00+02:00", "2026-06-01T21:00+02:00"),
        ("Europe/Berlin", "2026-06-01T22:00+02:00", "2026-06-02T07:00+02:00"),
        ("Europe/Berlin", "2026-06-02T06:59:59+02:00", "2026-06-02T07:00+02:00"),
        ("Europe/Berlin", "2026-10-24T23:00+02:00", "2026-10-25T07:00+01:00"),
        ("Europe/Berlin", "2026-03-28T23:00+01:00", "2026-03-29T07:00+02:00"),
        ("Pacific/Auckland", "2026-09-26T23:00+12:00", "2026-09-27T07:00+13:00"),
    ],
)
def test_a_night_is_as_long_as_it_is_that_night(zone, at, leaves):
    night = Hours(time(22), time(7))
    assert next_allowed(datetime.fromisoformat(at), ZoneInfo(zone), [night]) == datetime.fromisoformat(leaves)


def test_what_would_be_held_for_ever_is_not_held():
    whole = [Hours(time(0), time(12)), Hours(time(12), time(0))]
    assert next_allowed(FIRST, ZoneInfo("Europe/Berlin"), whole) is None


def test_hours_that_end_when_they_start_are_refused():
    with pytest.raises(ValueError, match="no hours"):
        Hours(time(8), time(8))


# recurrence


def runs(cron: Cron, since: datetime, until: datetime, zone: ZoneInfo) -> list[datetime]:
    found, at = list[datetime](), since
    while (following := next_after(cron, at, zone)) is not None and following < until:
        found.append(at := following)
    return found


@settings(max_examples=60)
@given(moments(), st.sets(st.integers(0, 59), min_size=1, max_size=3))
def test_a_rule_for_every_hour_runs_whenever_the_clock_shows_its_minutes(moment, minutes):
    at, zone = moment[0].replace(second=0), ZoneInfo(moment[1])
    cron = cron_of(",".join(map(str, minutes)) + " * * * *")
    clock = [at + n * MINUTE for n in range(1, 2 * 24 * 60)]
    assert runs(cron, at, at + 2 * DAY, zone) == [then for then in clock if shown(then, zone).minute in minutes]


@settings(max_examples=100)
@given(moments(), times)
def test_a_time_of_the_day_comes_once_a_day(moment, at_time):
    zone, name = ZoneInfo(moment[1]), moment[1]
    cron = cron_of(f"{at_time.minute} {at_time.hour} * * *")
    found = runs(cron, moment[0], moment[0] + 5 * DAY, zone)
    days = [theirs(at, name).date() for at in found]
    first = datetime.combine(days[0], at_time)
    assert days == [days[0] + n * DAY for n in range(len(days))]
    assert found == [instant_of(first + n * DAY, zone) for n in range(len(found))]
    assert 4 <= len(found) <= 6


@pytest.mark.parametrize(
    ("zone", "day", "times_"),
    [
        ("Europe/Berlin", "2026-03-29", 23),
        ("Europe/Berlin", "2026-10-25", 25),
        ("America/New_York", "2026-11-01", 25),
        ("Pacific/Auckland", "2026-09-27", 23),
        ("America/Santiago", "2026-09-06", 23),
        ("Asia/Kolkata", "2026-10-25", 24),
    ],
)
def test_an_hourly_one_runs_as_often_as_the_day_has_hours(zone, day, times_):
    here = ZoneInfo(zone)
    midnight = datetime.fromisoformat(day)
    since, until = (readings(midnight + n * DAY, here) or (instant_of(midnight + n * DAY, here),) for n in (0, 1))
    hourly = cron_of("@hourly")
    assert len(runs(hourly, since[0] - MINUTE, until[0], here)) == times_


def test_policies_say_what_becomes_of_a_run_that_clocks_skip_or_show_twice():
    zone, cron = ZoneInfo("Europe/Berlin"), cron_of("30 2 * * *")
    gap, overlap = datetime(2026, 3, 28, 12, tzinfo=UTC), datetime(2026, 10, 24, 12, tzinfo=UTC)
    assert next_after(cron, gap, zone) == datetime(2026, 3, 29, 1, tzinfo=UTC)
    assert next_after(cron, gap, zone, gap="skip") == datetime(2026, 3, 30, 0, 30, tzinfo=UTC)
    assert next_after(cron, overlap, zone) == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    assert next_after(cron, overlap, zone, overlap="second") == datetime(2026, 10, 25, 1, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "after", "comes"),
    [
        ("0 9 * * mon-fri", "2026-05-01T09:00", "2026-05-04T09:00"),
        ("0 0 29 2 *", "2026-05-01T00:00", "2028-02-29T00:00"),
        ("0 0 29 2 *", "2096-05-01T00:00", "2104-02-29T00:00"),
        ("*/20 8-10 * * *", "2026-05-01T10:40", "2026-05-02T08:00"),
        ("0 12 13 * fri", "2026-05-01T12:00", "2026-05-08T12:00"),
        ("0 12 13 * 5", "2026-05-08T12:00", "2026-05-13T12:00"),
        ("0 0 * * 7", "2026-05-01T00:00", "2026-05-03T00:00"),
        ("@yearly", "2026-05-01T00:00", "2027-01-01T00:00"),
        ("5/15 0 * dec *", "2026-12-01T00:05", "2026-12-01T00:20"),
    ],
)
def test_the_fields_mean_what_they_mean_everywhere(text, after, comes):
    utc = [datetime.fromisoformat(one).replace(tzinfo=UTC) for one in (after, comes)]
    assert next_after(cron_of(text), utc[0], UTC) == utc[1]


@pytest.mark.parametrize(
    "text",
    ["", "* * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * 8", "5-3 * * * *", "*/0 * * * *",
     "a * * * *", "1,, * * * *", "0 0 31 2 *", "@never", "-1 * * * *", "٣ * * * *", "1-2-3 * * * *"],
)  # fmt: skip
def test_what_is_no_rule_is_refused(text):
    with pytest.raises(ValueError):
        cron_of(text)

"""What an overview says of a system, and whether it fits on a screen."""

import io
from datetime import UTC, datetime
from math import inf

import pytest
from msgspec.structs import replace
from rich.console import Console

from tests.unit.test_presence import MAIL, NEWS, there
from tidings.cli.screen import number, screen, span
from tidings.domain.figures import Buried, LaneCount, LaneFigures, lane_figures, unserved
from tidings.domain.lanes import DEAD, Channel, Class, lane_name, lane_of, sending_lanes
from tidings.domain.overview import (
    CauseView,
    DeadView,
    DoubtView,
    Overview,
    ProviderView,
    ShardView,
    attention,
    causes,
)
from tidings.domain.presence import API, RELAY, WORK, Pace
from tidings.domain.routing import AccountState

NOW = datetime(2026, 5, 1, 12, 30, tzinfo=UTC)
SETTLE_S = 300.0
EVERYBODY = (there(API, pid=1), there(WORK, pid=2, lanes=tuple(map(lane_name, sending_lanes()))), there(RELAY, pid=3))
WELL = ProviderView("sendgrid", "default", "email", AccountState.auto, "closed")
OPEN = replace(WELL, name="mailgun", breaker="open", why="http_503", since=NOW, workers_open=2)


def lane(name: str = MAIL, due: int = 0, **more) -> LaneFigures:
    return LaneFigures(**{"lane": name, "waiting": due, "due": due, "oldest_due_s": 0.0, "workers": 1, **more})


def overview(**more) -> Overview:
    """Of a system that is well, but for what is given."""
    well = Overview(
        at=NOW,
        accepted_per_s=12.0,
        sent_per_s=9.5,
        lanes=[lane(lane_name(one)) for one in sending_lanes()],
        providers=[WELL],
        doubt=DoubtView(0, 0.0),
        dead_letters=DeadView(0, ()),
        processes=EVERYBODY,
        shards=[ShardView(0), ShardView(1)],
        control=None,
    )
    return replace(well, **more)


def wants(**more) -> str:
    """The first thing that needs somebody, then the others."""
    return "\n".join(attention(overview(**more), SETTLE_S))


# lanes


def test_a_lane_is_that_of_all_shards():
    mail = lane_of(Channel.email, Class.transactional)
    counted = [LaneCount(mail, 5, 3, 2.0), LaneCount(mail, 7, 1, 9.0), LaneCount(DEAD, 4, 4, 1.0)]
    found = lane_figures(counted, EVERYBODY, Pace(0, 0, {MAIL: 2.0}))
    assert found[0] == LaneFigures(MAIL, 12, 4, 9.0, per_s=2.0, drain_s=2.0, workers=1)
    assert [one.lane for one in found] == [lane_name(one) for one in sending_lanes()], "parked ones are no work"


@pytest.mark.parametrize(
    ("due", "pace", "drain_s"),
    [
        (0, None, 0.0),
        (0, Pace(0, 0, {}), 0.0),
        (100, None, None),
        (100, Pace(0, 0, {}), inf),
        (100, Pace(0, 0, {MAIL: 4.0}), 25.0),
    ],
)
def test_a_lane_is_drained_when_what_is_due_is_gone_at_its_pace(due, pace, drain_s):
    mail = lane_of(Channel.email, Class.transactional)
    assert lane_figures([LaneCount(mail, due, due, 1.0)], EVERYBODY, pace)[0].drain_s == drain_s


def test_a_lane_without_a_worker_is_missed_only_when_something_is_due_there_and_somebody_can_tell():
    idle, missed, unknown = lane(workers=0), lane(NEWS, due=1, workers=0), lane(due=1, workers=None)
    assert unserved([idle, missed, unknown, lane(due=1)]) == [missed]


# attention


def test_a_system_that_is_well_needs_nobody():
    assert wants() == ""


def test_a_lane_without_a_worker_says_what_to_start():
    said = wants(lanes=[lane(NEWS, due=1204, workers=0)])
    assert said == f"no worker serves {NEWS}: 1,204 are due; start one with `tidings work --lanes {NEWS}`"


def test_the_worst_comes_first():
    said = wants(
        shards=[ShardView(0), ShardView(1, "ConnectionRefusedError")],
        processes=EVERYBODY[:2],
        lanes=[lane(NEWS, due=1, workers=0)],
        providers=[OPEN],
        dead_letters=DeadView(14, ()),
    ).splitlines()
    assert [line.split()[0] for line in said] == ["shard", "no", "no", "mailgun", "dead"]
    assert "shard 1" in said[0] and "tidings relay" in said[1] and NEWS in said[2] and "14" in said[4]


def test_without_an_api_server_nothing_is_accepted():
    assert "tidings api" in wants(processes=EVERYBODY[1:])


def test_where_nobody_can_tell_who_is_there_nobody_is_missed():
    said = wants(processes=None, lanes=[lane(due=9, workers=None)])
    assert "Valkey" in said and "tidings relay" not in said and "no worker" not in said


def test_a_lane_that_is_served_and_stands_still_is_named():
    stands = lane(due=9, per_s=0.0, oldest_due_s=60.0, workers=2)
    assert "nothing leaves" in wants(lanes=[stands])
    assert wants(lanes=[replace(stands, per_s=1.0)]) == ""
    assert wants(lanes=[replace(stands, oldest_due_s=1.0)]) == ""


def test_providers_that_take_no_calls_are_named_with_the_reason():
    paused = replace(WELL, name="twilio", state=AccountState.paused)
    said = wants(providers=[OPEN, paused, WELL, replace(OPEN, name="half", breaker="half_open")])
    assert "mailgun (email) takes no calls: http_503, as 2 workers find" in said
    assert "tidings providers resume twilio" in said
    assert "sendgrid" not in said and "half" not in said


def test_doubt_is_left_alone_until_it_should_be_over():
    assert wants(doubt=DoubtView(3, SETTLE_S)) == ""
    assert "3 in doubt" in wants(doubt=DoubtView(3, 3 * SETTLE_S))


def test_causes_are_those_of_all_shards_the_most_frequent_first():
    buried = [
        Buried("attempts_used", Channel.email, 1, 2),
        Buried("template_error", Channel.email, 0, 4),
        Buried("attempts_used", Channel.email, 1, 5),
        Buried("attempts_used", Channel.sms, 9, 1),
    ]
    assert causes(buried, {1: "sendgrid"}) == [
        CauseView("attempts_used", "email", "sendgrid", 7),
        CauseView("template_error", "email", None, 4),
        CauseView("attempts_used", "sms", None, 1),
    ]


# the screen


def shown(seen: Overview, width: int = 80, lines: int | None = 24) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width, height=lines).print(screen(seen, attention(seen, SETTLE_S), lines))
    return [line.rstrip() for line in out.getvalue().rstrip("\n").splitlines()]


def worst() -> Overview:
    """Everything that can be wrong, with figures that are as wide as they come."""
    lanes = [
        lane(lane_name(one), 9_999_999, oldest_due_s=359_000.0, per_s=9_999.0, drain_s=inf, workers=0, lag=999_999)
        for one in sending_lanes()
    ]
    cause = CauseView("attempts_used", "whatsapp", "a-provider-with-a-long-name", 123_456)
    return overview(
        accepted_per_s=99_999.0,
        sent_per_s=99_999.0,
        lanes=lanes,
        providers=[replace(OPEN, name=f"account-{n}") for n in range(9)] + [WELL],
        doubt=DoubtView(9_999, 99_999.0),
        dead_letters=DeadView(99_999, [cause] * 9),
        processes=EVERYBODY[:1],
        shards=[ShardView(0), ShardView(1, "ConnectionRefusedError")],
        control="ConnectionRefusedError",
    )


def test_a_system_that_is_well_fits_a_small_terminal():
    lines = shown(overview())
    assert len(lines) <= 24
    text = "\n".join(lines)
    assert "nothing needs attention" in text and "accepted 12/s" in text and "sent 9.5/s" in text
    assert "api 1, work 1, relay 1; 2 of 2 shards answer" in text
    assert all(lane_name(one) in text for one in sending_lanes())


@pytest.mark.parametrize("width", [80, 120])
def test_whatever_is_wrong_no_figure_is_cut_off(width):
    lines = shown(worst(), width)
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    assert "…" not in text
    assert text.count("10.0M") == 16 and text.count("999,999") == 8 and text.count("never") == 8


def test_a_small_terminal_has_the_worst_and_says_that_there_is_more():
    lines = shown(worst())
    assert len(lines) <= 24
    assert lines[2].startswith("! shard 1 does not answer")
    assert any("more: `tidings status --once` has them all" in line for line in lines)
    assert next(n for n, line in enumerate(lines) if line.startswith("whatsapp.promotional")) < 24


def test_a_page_has_all_of_it():
    text = "\n".join(shown(worst(), 200, lines=None))
    assert text.count("tidings work --lanes") == len(sending_lanes())
    assert text.count("account-") >= 9


def test_what_nobody_knows_is_a_question_mark():
    unknown = [lane(due=1, per_s=None, drain_s=None, workers=None)]
    text = "\n".join(shown(overview(lanes=unknown, processes=None, accepted_per_s=None, sent_per_s=None)))
    assert "accepted ?" in text and "api ?" in text
    assert next(line for line in text.splitlines() if line.startswith(MAIL)).split()[-3:] == ["?", "?", "?"]


@pytest.mark.parametrize(
    ("figure", "text"),
    [
        (0, "0"),
        (0.04, "0.0"),
        (0.44, "0.4"),
        (2.0, "2"),
        (9.96, "10"),
        (1234, "1,234"),
        (999_999, "999,999"),
        (2.5e6, "2.5M"),
    ],
)
def test_numbers_are_short(figure, text):
    assert number(figure) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0.2 s"), (119.0, "119 s"), (120.0, "2 min"), (5_400.0, "90 min"), (9_000.0, "2.5 h"), (259_200.0, "3 d")],
)
def test_times_are_in_the_unit_that_a_person_would_choose(seconds, text):
    assert span(seconds) == text

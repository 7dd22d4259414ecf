"""Whether a claimed delivery goes ahead, and in whose company."""

from datetime import UTC, datetime, timedelta

import pytest

from tidings.domain.claimed import Claimed
from tidings.domain.decide import company, decide
from tidings.domain.delivery import Mark
from tidings.domain.dispatch import Bury, Finish
from tidings.domain.ids import DeliveryId, NotificationId, Slot, TenantId, UserId, compose
from tidings.domain.lanes import Channel, Class, lane_of

NOW = datetime(2026, 5, 1, tzinfo=UTC)
LANE = lane_of(Channel.email, Class.transactional)
NEWS = lane_of(Channel.email, Class.promotional)


def held(n: int = 1, **more: object) -> Claimed:
    fields = {
        "id": DeliveryId(compose(Slot(1), 1_700_000_000_000, n)),
        "notification": NotificationId(compose(Slot(1), 1_700_000_000_000, 0)),
        "token": 7,
        "lane": LANE,
        "home": LANE,
        "claims": 1,
        "tries": 0,
        "spent": 0,
        "tried": (),
        "provider": 0,
        "started_at": None,
        "in_doubt": False,
        "now": NOW,
        "slot": Slot(1),
        "tenant": TenantId(1),
        "user": UserId("ada"),
        "channel": Channel.email,
        "category": 1,
        "template_version": None,
        "sender": None,
        "payload": b"{}",
        "address": "ada@example.com",
        "address_hash": None,
        "suppressed": {},
        "preferences": None,
        "zone": None,
        "locale": None,
        "created_at": NOW - timedelta(minutes=1),
        "expires_at": None,
    }
    return Claimed(**fields | more)


def suppressed_for(reason: str) -> Finish:
    return Finish(Mark.suppressed, "suppressed", f"{reason} since 2026-05-01T00:00:00Z")


@pytest.mark.parametrize(
    ("more", "verdict"),
    [
        ({}, None),
        ({"expires_at": NOW + timedelta(seconds=1)}, None),
        ({"expires_at": NOW}, Finish(Mark.expired, "expired")),
        ({"address": None}, Finish(Mark.suppressed, "no_address")),
        ({"suppressed": {"hard_bounce": NOW}}, suppressed_for("hard_bounce")),
        ({"suppressed": {"unsubscribe": NOW}}, None),
        ({"suppressed": {"unsubscribe": NOW}, "home": NEWS}, suppressed_for("unsubscribe")),
        ({"suppressed": {"unsubscribe": NOW, "complaint": NOW}}, suppressed_for("complaint")),
        ({"expires_at": NOW, "address": None}, Finish(Mark.expired, "expired")),
        ({"claims": 5}, None),
    ],
)
def test_a_delivery_goes_ahead_unless_there_is_a_reason_not_to(more, verdict):
    assert decide(held(**more), quarantine_after_claims=5) == verdict


@pytest.mark.parametrize("more", [{}, {"address": None}, {"suppressed": {"stop": NOW}}])
def test_a_user_for_whom_the_channel_is_not_on_yet_is_left_out(more):
    verdict = decide(held(**more), 5, percent=0)
    assert verdict == Finish(Mark.suppressed, "not_rolled_out")


def test_what_ended_its_worker_again_and_again_is_quarantined():
    verdict = decide(held(claims=6), quarantine_after_claims=5)
    assert isinstance(verdict, Bury) and verdict.reason == "quarantined"


def test_a_first_claim_is_served_whole():
    crowd = [held(n) for n in range(200)]
    assert company(crowd, 200, 5) == (crowd, ())


@pytest.mark.parametrize(("claims", "places"), [(2, 25), (3, 3), (4, 1), (5, 1), (6, 1)])
def test_a_suspect_is_served_in_ever_smaller_company(claims, places):
    crowd = [held(n, claims=claims if n % 2 else 1) for n in range(200)]
    together, later = company(crowd, 200, 5)
    assert len(together) == places
    assert {one.claims for one in together} == {claims}
    assert {one.id for one in [*together, *later]} == {one.id for one in crowd}


@pytest.mark.parametrize("limit", [1, 2, 3, 5])
def test_a_suspect_is_alone_before_it_is_quarantined(limit):
    together, _ = company([held(n, claims=limit) for n in range(2, 50)], 200, limit)
    assert len(together) == 1 or limit == 1

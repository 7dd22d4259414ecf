"""Callbacks, the pure half: signed as Standard Webhooks says, with nothing in them that nobody gave us to tell."""

import base64
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
import standardwebhooks

from tidings.domain.callback import (
    DISABLED,
    EVENTS,
    NAMES,
    PREFIX,
    SECRET_BYTES,
    Callback,
    Disabled,
    Signing,
    Webhook,
    event_of,
    headers_of,
    listeners,
    notices_of,
    secret_of,
    signature,
    wait_s,
)
from tidings.domain.delivery import Mark, Status
from tidings.domain.ids import DeliveryId, NotificationId, TenantId, UserId
from tidings.domain.lanes import Channel

NOW = datetime.now(UTC)
ID = UUID("019a0000-0000-7001-8000-000000000001")
CALLBACK = Callback(
    id=ID,
    webhook=1,
    token=1,
    tries=0,
    delivery=DeliveryId(UUID("019a0000-0000-7001-8000-000000000002")),
    status=Mark.undelivered,
    reason="hard_bounce",
    at=datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC),
    notification=NotificationId(UUID("019a0000-0000-7001-8000-000000000003")),
    channel=Channel.email,
    user=UserId("user-1"),
    category=3,
    reference="order-1",
    metadata={"order": "1"},
)


def secret(n: int = 0) -> str:
    return secret_of(bytes([n]) * SECRET_BYTES)


def test_the_signatures_are_those_of_the_specification(providers_data: Path):
    cases = json.loads((providers_data / "vectors" / "standard_webhooks.json").read_text())["cases"]
    assert len(cases) >= 3
    for case in cases:
        ours = signature(case["secret"], case["id"], case["timestamp"], case["body"].encode())
        assert (ours in case["signature"].split()) == case["valid"], case["name"]


def test_the_official_library_believes_what_we_sign_and_nothing_else():
    body = event_of(CALLBACK, "orders")
    headers = dict(headers_of(str(ID), datetime.now(UTC), body, [Signing(secret())]))
    assert standardwebhooks.Webhook(secret()).verify(body, headers) == json.loads(body)
    for wrong in (secret(1), body[:-1], "id"):
        changed = {**headers, "webhook-id": "other"} if wrong == "id" else headers
        key = wrong if isinstance(wrong, str) and wrong.startswith(PREFIX) else secret()
        with pytest.raises(standardwebhooks.WebhookVerificationError):
            standardwebhooks.Webhook(key).verify(wrong if isinstance(wrong, bytes) else body, changed)


def test_two_secrets_sign_while_one_takes_the_place_of_the_other():
    signing = [Signing(secret(1)), Signing(secret(0), until=NOW + timedelta(hours=1))]
    during = headers_of("x", NOW, b"{}", signing)["webhook-signature"].split()
    after = headers_of("x", NOW + timedelta(hours=1), b"{}", signing)["webhook-signature"].split()
    assert len(during) == 2
    assert after == [signature(secret(1), "x", int(NOW.timestamp()) + 3600, b"{}")]


def test_secrets_have_the_form_and_the_length_of_the_specification():
    assert SECRET_BYTES >= 24
    assert base64.b64decode(secret().removeprefix("whsec_")) == bytes(SECRET_BYTES)


def test_an_event_says_what_happened_to_which_delivery():
    assert json.loads(event_of(CALLBACK, "orders")) == {
        "type": "delivery.undelivered",
        "timestamp": "2026-01-02T03:04:05.678Z",
        "data": {
            "notification_id": "019a0000-0000-7001-8000-000000000003",
            "delivery_id": "019a0000-0000-7001-8000-000000000002",
            "user": "user-1",
            "channel": "email",
            "status": "undelivered",
            "reason": "hard_bounce",
            "category": "orders",
            "reference": "order-1",
            "metadata": {"order": "1"},
        },
    }


def test_an_event_is_told_even_when_the_history_is_gone():
    bare = Callback(ID, 1, 1, 0, CALLBACK.delivery, Mark.dead, "attempts_used", NOW)
    told = json.loads(event_of(bare, None))
    assert told["type"] == "delivery.dead"
    assert told["data"]["delivery_id"] == str(CALLBACK.delivery) and told["data"]["metadata"] == {}


def test_every_end_that_callers_see_has_its_event():
    ends = {status.value for status in Status} - {"scheduled", "queued", "sending", "in_doubt"}
    assert {name.removeprefix("delivery.") for name in EVENTS} == ends


def test_only_enabled_webhooks_listen_and_only_for_what_they_want():
    on = Webhook(1, TenantId(7), "on", "https://example.com", ("delivery.sent", "delivery.dead"), ())
    off = Webhook(2, TenantId(7), "off", "https://example.com", tuple(EVENTS), (), NOW, "gone")
    (one,) = listeners([on, off])
    assert (one.tenant, one.webhook, one.events) == (7, 1, 1 << Mark.sent | 1 << Mark.dead)


def test_one_that_listens_for_other_webhooks_alone_listens_to_no_status():
    (one,) = listeners([Webhook(1, TenantId(7), "watch", "https://example.com", (DISABLED,), ())])
    assert one.events == 0


def watching(id_: int, tenant: int = 7, events: tuple[str, ...] = NAMES, off: datetime | None = None) -> Webhook:
    return Webhook(id_, TenantId(tenant), f"w{id_}", "https://example.com", events, (), off, off and "gone")


def test_that_a_webhook_is_disabled_is_news_for_the_tenants_others_that_want_to_hear_of_it():
    lost = Disabled(1, TenantId(7), "orders", datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC), "failing")
    others = [watching(1), watching(2), watching(3, tenant=8), watching(4, events=tuple(EVENTS)), watching(5, off=NOW)]
    (notice,) = notices_of(lost, others)
    assert notice.webhook == 2
    assert json.loads(notice.body) == {
        "type": "webhook.disabled",
        "timestamp": "2026-01-02T03:04:05.678Z",
        "data": {"webhook": "orders", "disabled_because": "failing"},
    }
    assert notices_of(lost, others) == [notice], "under the same id, whoever makes it"
    again = Disabled(1, TenantId(7), "orders", lost.at + timedelta(days=1), "failing")
    ids = {one.id for disabled in (lost, again) for one in notices_of(disabled, [watching(2), watching(6)])}
    assert len(ids) == 4, "one for each listener and each time"


@pytest.mark.parametrize(("tries", "low_s", "high_s"), [(0, 4.0, 6.0), (1, 240.0, 360.0)])
def test_waits_follow_the_schedule_give_or_take_a_fifth(tries, low_s, high_s):
    schedule_s = [5.0, 300.0]
    assert wait_s(tries, schedule_s, 0.0) == pytest.approx(low_s)
    assert wait_s(tries, schedule_s, 1.0) == pytest.approx(high_s)
    assert wait_s(2, schedule_s, 0.5) is None, "then it is given up"

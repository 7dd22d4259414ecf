"""The story of a notification, told in order."""

from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import msgspec
import pytest

from tidings.domain.delivery import Mark, Status
from tidings.domain.history import PastAttempt, PastDelivery, PastNotification, PastReceipt, timeline
from tidings.domain.ids import DeliveryId, NotificationId, TenantId, UserId
from tidings.domain.lanes import Channel
from tidings.domain.notification import Payload

START = datetime(2026, 5, 1, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def delivery(status: Status, **more) -> PastDelivery:
    plain = PastDelivery(DeliveryId(UUID(int=2)), Channel.email, "a@b.example", status, None, None, False, None, None)
    return msgspec.structs.replace(plain, **more)


def lived(*deliveries: PastDelivery, send_at: datetime | None = None) -> PastNotification:
    id_, user = NotificationId(UUID(int=1)), UserId("ada")
    return PastNotification(id_, TenantId(1), user, 1, None, None, Payload(), send_at, None, START, deliveries)


def told(*deliveries: PastDelivery, send_at: datetime | None = None) -> list[str]:
    lines = timeline(lived(*deliveries, send_at=send_at))
    assert [line.at for line in lines] == sorted(line.at for line in lines)
    return [line.what for line in lines]


def attempt(n: int, outcome: str, seconds: float) -> PastAttempt:
    return PastAttempt(n, 1, outcome, "code", None, None, at(seconds), 5, at(seconds + 1))


def test_retries_and_receipts_come_in_the_order_in_which_they_happened():
    receipt = PastReceipt(2, 1, "delivered", Mark.delivered, None, at(70), at(71))
    retried = delivery(
        Status.delivered,
        attempts=(attempt(1, "try_later", 1), attempt(2, "sent", 62)),
        receipts=(receipt,),
        finished_at=at(63),
    )
    assert told(retried) == [
        "accepted", "try 1 began", "try 1: try_later", "try 2 began", "try 2: sent", "receipt: delivered",
    ]  # fmt: skip


def test_a_call_was_taken_when_its_answer_says_so_or_a_receipt_about_it():
    receipts = (PastReceipt(2, 1, "delivered", Mark.delivered, None, at(70), at(71)),)
    news = (PastReceipt(1, 1, "open", None, None, at(70), at(71)),)
    for attempts, told_later, taken in (
        ([attempt(1, "sent", 1)], (), [True]),
        ([attempt(1, "unsure", 1), attempt(2, "unsure", 9)], receipts + news, [False, True]),
        ([attempt(1, "refused", 1), attempt(2, "try_next", 9)], (), [False, False]),
    ):
        one = delivery(Status.delivered, attempts=tuple(attempts), receipts=told_later)
        assert [one.was_taken(call) for call in one.attempts] == taken


@pytest.mark.parametrize("status", [Status.suppressed, Status.cancelled, Status.expired, Status.failed, Status.unknown])
def test_an_end_without_a_send_is_told(status):
    assert told(delivery(status, finished_at=at(5), reason="why")) == ["accepted", status]


@pytest.mark.parametrize(
    ("status", "what"),
    [
        (Status.queued, "due"),
        (Status.scheduled, "due"),
        (Status.sending, "end of a worker's hold"),
        (Status.in_doubt, "in doubt, looked at again"),
        (Status.dead, "buried"),
    ],
)
def test_what_is_left_to_do_comes_last(status, what):
    assert told(delivery(status, due_at=at(600)))[-1] == what


def test_a_schedule_is_part_of_the_story():
    assert told(delivery(Status.scheduled, due_at=at(900)), send_at=at(900)) == ["accepted", "scheduled", "due"]


def test_a_schedule_is_told_in_universal_time_with_milliseconds():
    paris = at(900).astimezone(timezone(timedelta(hours=2)))
    assert [line.why for line in timeline(lived(send_at=paris))] == [None, "for 2026-05-01T12:15:00.000Z"]

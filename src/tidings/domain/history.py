"""What is on record about a notification, and its story in the order in which it happened."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from uuid import UUID

import msgspec

from tidings.domain.delivery import Mark, Status, overall
from tidings.domain.ids import DeliveryId, NotificationId, TenantId, UserId
from tidings.domain.lanes import Channel
from tidings.domain.notification import Payload
from tidings.domain.outcome import Engagement


class PastAttempt(msgspec.Struct, frozen=True):
    """One call to one provider (``provider`` is the account's number). ``units`` and ``cost_micros`` are what it comes
    to if it was taken, in millionths of the account's currency; None for what surely was not."""

    n: int
    provider: int
    outcome: str
    code: str
    detail: str | None
    message_id: str | None
    started_at: datetime | None
    took_ms: int | None
    at: datetime
    units: int | None = None
    cost_micros: int | None = None


class PastReceipt(msgspec.Struct, frozen=True):
    """A provider's later word. ``status`` None: news that changes no status; ``engagement`` is what the recipient
    did."""

    n: int
    provider: int
    kind: str
    status: Mark | None
    reason: str | None
    occurred_at: datetime
    received_at: datetime
    engagement: Engagement | None = None


class Engaged(msgspec.Struct, frozen=True):
    """How often a recipient did something, as far as the provider noticed."""

    first_at: datetime
    count: int


class Note(msgspec.Struct, frozen=True):
    """What was done to a dead letter. ``by`` is the public id of the key of whoever did it."""

    at: datetime
    what: str
    why: str | None = None
    by: str | None = None


class PastDelivery(msgspec.Struct, frozen=True):
    """``due_at`` is None once nothing is left to do; ``detail`` says more about the ``reason`` of a
    dead letter, or of what was suppressed."""

    id: DeliveryId
    channel: Channel
    address: str | None
    status: Status
    reason: str | None
    detail: str | None
    duplicate_possible: bool
    due_at: datetime | None
    finished_at: datetime | None
    attempts: tuple[PastAttempt, ...] = ()
    receipts: tuple[PastReceipt, ...] = ()
    notes: tuple[Note, ...] = ()

    def was_taken(self, attempt: PastAttempt) -> bool:
        """Where the answer to a call was lost, a receipt may say so all the same."""
        said = attempt.outcome == "sent"
        return said or any(one.n == attempt.n and one.status is not None for one in self.receipts)

    @property
    def engagement(self) -> Mapping[Engagement, Engaged]:
        """What the recipient did, if anything. It never changes the status."""
        times = defaultdict[Engagement, list[datetime]](list)
        for receipt in self.receipts:
            if receipt.engagement is not None:
                times[receipt.engagement].append(receipt.occurred_at)
        return {what: Engaged(min(at), len(at)) for what, at in times.items()}


class PastNotification(msgspec.Struct, frozen=True):
    """``deliveries`` in the order in which they were planned."""

    id: NotificationId
    tenant: TenantId
    user: UserId
    category: int
    template_version: int | None
    reference: str | None
    payload: Payload
    send_at: datetime | None
    expires_at: datetime | None
    created_at: datetime
    deliveries: tuple[PastDelivery, ...]

    @property
    def status(self) -> Status:
        return overall([one.status for one in self.deliveries]) if self.deliveries else Status.unknown


class Page(msgspec.Struct, frozen=True):
    """``first <= id < before``, the newest ``limit`` of them."""

    first: UUID
    before: UUID
    limit: int
    category: int | None = None


class Moment(msgspec.Struct, frozen=True):
    """One line of a timeline. ``delivery`` is None for what happened to the notification as a whole."""

    at: datetime
    what: str
    delivery: DeliveryId | None = None
    channel: Channel | None = None
    why: str | None = None
    detail: str | None = None
    provider: int | None = None


def timeline(past: PastNotification) -> Sequence[Moment]:
    """The story, newest last. Where two things share an instant, cause comes before effect."""
    moments = [Moment(past.created_at, "accepted")]
    if past.send_at is not None:
        send_at = past.send_at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds")
        moments.append(Moment(past.created_at, "scheduled", why=f"for {send_at}Z"))
    for delivery in past.deliveries:
        moments += _of_delivery(delivery)
    return sorted(moments, key=lambda moment: moment.at)


def _of_delivery(delivery: PastDelivery) -> Iterator[Moment]:
    for attempt in delivery.attempts:
        yield from _of_attempt(delivery, attempt)
    for receipt in delivery.receipts:
        what = receipt.engagement or f"receipt: {receipt.kind}"
        why, provider = receipt.reason, receipt.provider
        yield Moment(receipt.received_at, what, delivery.id, delivery.channel, why, provider=provider)
    for note in delivery.notes:
        by = f"by the key {note.by}" if note.by else None
        yield Moment(note.at, note.what, delivery.id, delivery.channel, note.why, by)
    at, what = _where_it_stands(delivery)
    if at is not None:
        yield Moment(at, what, delivery.id, delivery.channel, delivery.reason, delivery.detail)


def _of_attempt(delivery: PastDelivery, attempt: PastAttempt) -> Iterator[Moment]:
    of = (delivery.id, delivery.channel)
    if attempt.started_at is not None:
        yield Moment(attempt.started_at, f"try {attempt.n} began", *of, provider=attempt.provider)
    what, why = f"try {attempt.n}: {attempt.outcome}", attempt.code
    yield Moment(attempt.at, what, *of, why, attempt.detail, attempt.provider)


def _where_it_stands(delivery: PastDelivery) -> tuple[datetime | None, str]:
    """The last line of a delivery's story, unless a call that went well or a receipt has told it already."""
    if delivery.finished_at is not None:
        told = any(attempt.outcome == "sent" for attempt in delivery.attempts)
        return None if told else delivery.finished_at, delivery.status
    match delivery.status:
        case Status.dead:
            return delivery.due_at, "buried"
        case Status.in_doubt:
            return delivery.due_at, "in doubt, looked at again"
        case Status.sending:
            return delivery.due_at, "end of a worker's hold"
        case _:
            return delivery.due_at, "due"

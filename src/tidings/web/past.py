"""Notifications as they are shown."""

from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

import msgspec

from tidings.domain.catalog import Account, Catalog
from tidings.domain.delivery import Status
from tidings.domain.history import Moment, PastAttempt, PastDelivery, PastNotification, PastReceipt, timeline
from tidings.domain.price import amount
from tidings.web.fields import Answer, Stamp


class DeliverySummary(Answer):
    """``due_at`` is null once nothing is left to do."""

    id: UUID
    channel: str
    address: str | None
    status: Status
    reason: str | None
    duplicate_possible: bool
    due_at: Stamp | None
    finished_at: Stamp | None


class Money(Answer):
    """``amount`` is exact, as decimal text; ``currency`` is that of ISO 4217."""

    amount: str
    currency: str


class Attempt(Answer):
    """One call to one provider. ``units`` are those of the channel: messages, for SMS segments. Both they and ``cost``
    are null for what was not taken, ``cost`` also where no price was known when it was."""

    n: int
    provider: str
    outcome: str
    code: str
    detail: str | None
    message_id: str | None
    started_at: Stamp | None
    took_ms: int | None
    at: Stamp
    units: int | None
    cost: Money | None


class Receipt(Answer):
    """A provider's later word. ``status`` is null for news that changes none."""

    n: int
    provider: str
    kind: str
    status: str | None
    reason: str | None
    engagement: str | None
    occurred_at: Stamp
    received_at: Stamp


class Engaged(Answer):
    """How often the provider noticed it, and when first."""

    first_at: Stamp
    count: int


class Delivery(DeliverySummary):
    """``engagement`` says what the recipient did: ``opened``, ``clicked``, ``read``. It is no status."""

    detail: str | None
    engagement: dict[str, Engaged]
    attempts: list[Attempt]
    receipts: list[Receipt]


class Line(Answer):
    """One line of the timeline. ``delivery`` is null for what happened to the notification as a whole."""

    at: Stamp
    what: str
    delivery: UUID | None
    channel: str | None
    provider: str | None
    why: str | None
    detail: str | None


class Summary(Answer):
    """A notification in a list."""

    id: UUID
    user: str
    status: Status
    category: str | None
    reference: str | None
    metadata: dict[str, str]
    created_at: Stamp
    send_at: Stamp | None
    expires_at: Stamp | None
    deliveries: list[DeliverySummary]


class Story(Summary):
    """The whole of a notification. ``template_version`` is null for inline content; ``timeline`` is newest last."""

    template_version: int | None
    content: dict[str, Any] | None
    data: dict[str, Any]
    reply_to: str | None
    deliveries: list[Delivery]  # type: ignore[assignment]
    timeline: list[Line]


class Summaries(Answer):
    """``next`` is null at the end; else ask again with ``after`` set to it."""

    items: list[Summary]
    next: UUID | None


class Cancelled(Answer):
    """``cancelled`` are the deliveries that will not go out now."""

    id: UUID
    status: Status
    cancelled: list[UUID]


Naming = Callable[[int], str]


def summary(past: PastNotification, catalog: Catalog) -> Summary:
    return Summary(**_common(past, catalog), deliveries=[DeliverySummary(**_standing(one)) for one in past.deliveries])


def story(past: PastNotification, catalog: Catalog) -> Story:
    def named(account: int) -> str:
        found = catalog.accounts.get(account)
        return found.name if found and found.tenant == past.tenant else str(account)

    content = past.payload.content
    return Story(
        **_common(past, catalog),
        template_version=past.template_version,
        content=msgspec.to_builtins(content) if content is not None else None,
        data=past.payload.data,
        reply_to=past.payload.reply_to,
        deliveries=[_delivery(one, named, catalog) for one in past.deliveries],
        timeline=[_line(moment, named) for moment in timeline(past)],
    )


def _common(past: PastNotification, catalog: Catalog) -> dict[str, Any]:
    category = catalog.categories_by_id.get(past.category)
    return {
        "id": past.id,
        "user": past.user,
        "status": past.status,
        "category": category.name if category else None,
        "reference": past.reference,
        "metadata": past.payload.metadata or {},
        "created_at": past.created_at,
        "send_at": past.send_at,
        "expires_at": past.expires_at,
    }


def _standing(one: PastDelivery) -> dict[str, Any]:
    fields = {name: getattr(one, name) for name in DeliverySummary.model_fields}
    return {**fields, "channel": one.channel.name}


def _delivery(one: PastDelivery, named: Naming, catalog: Catalog) -> Delivery:
    attempts = [_attempt(attempt, named, _charge(one, attempt, catalog)) for attempt in one.attempts]
    receipts = [_receipt(receipt, named) for receipt in one.receipts]
    engagement = {what.value: Engaged(first_at=did.first_at, count=did.count) for what, did in one.engagement.items()}
    return Delivery(**_standing(one), detail=one.detail, engagement=engagement, attempts=attempts, receipts=receipts)


def _attempt(one: PastAttempt, named: Naming, charge: Mapping[str, Any]) -> Attempt:
    return Attempt(**{**msgspec.structs.asdict(one), "provider": named(one.provider), **charge})


def _charge(delivery: PastDelivery, one: PastAttempt, catalog: Catalog) -> Mapping[str, Any]:
    if not delivery.was_taken(one):
        return {"units": None, "cost": None}
    return {"units": one.units, "cost": _cost(one, catalog.accounts.get(one.provider))}


def _cost(one: PastAttempt, account: Account | None) -> Money | None:
    if one.cost_micros is None or account is None or account.price is None:
        return None
    return Money(amount=amount(one.cost_micros), currency=account.price.currency)


def _receipt(one: PastReceipt, named: Naming) -> Receipt:
    status = one.status.name if one.status is not None else None
    return Receipt(**{**msgspec.structs.asdict(one), "provider": named(one.provider), "status": status})


def _line(moment: Moment, named: Naming) -> Line:
    channel = moment.channel.name if moment.channel is not None else None
    provider = named(moment.provider) if moment.provider is not None else None
    return Line(**{**msgspec.structs.asdict(moment), "channel": channel, "provider": provider})

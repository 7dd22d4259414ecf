"""What requests and answers about dead letters are made of."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from tidings.domain.dead_letters import Place
from tidings.domain.ids import DeliveryId
from tidings.web.fields import LIST_DEFAULT, LIST_MAX, Answer, Body, Instant, Name, Stamp, Text
from tidings.web.past import Attempt, Story

IDS_MAX: Final = 1_000
RATE_MAX: Final = 10_000.0
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

Id = Annotated[UUID, Field(strict=False)]
Moment = Annotated[Instant, Field(strict=False)]
Cursor = Annotated[str, StringConstraints(pattern=r"^\d{16}-[0-9a-f]{32}$")]


class Which(BaseModel):
    """Letters that are all of this. ``provider`` and ``code`` are those of the last attempt; ``since`` and ``until``
    are about the burial."""

    model_config = ConfigDict(extra="forbid")

    reason: Text | None = None
    provider: Name | None = None
    code: Text | None = None
    template: Name | None = None
    channel: Name | None = None
    since: Moment | None = None
    until: Moment | None = None


class Listing(Which):
    """From new to old. ``after`` is the ``next`` of the page before."""

    limit: int = Field(LIST_DEFAULT, ge=1, le=LIST_MAX)
    after: Cursor | None = None


class Chosen(Which):
    """By ids of deliveries, or by what they have in common. ``dry_run`` changes nothing, and ``after`` goes on."""

    model_config = ConfigDict(extra="forbid", strict=True)

    ids: Annotated[list[Id], Field(min_length=1, max_length=IDS_MAX)] | None = None
    after: Cursor | None = None
    dry_run: bool = False

    @property
    def says_which(self) -> bool:
        return self.ids is not None or any(getattr(self, name) is not None for name in Which.model_fields)


class Replaying(Chosen):
    """``rate`` is how many a second, from ``start_at`` on; without it all are due at once. ``newest_template`` sends
    each with the newest version of its template, not the one that was fixed when it was accepted."""

    rate: Annotated[float, Field(strict=False, gt=0, le=RATE_MAX)] | None = None
    start_at: Moment | None = None
    newest_template: bool = False


class Discarding(Chosen):
    """``because`` stays with the deliveries as their reason."""

    because: Annotated[Text, Field(min_length=1)] | None = None


class Editing(Body):
    """What to change; fields that are not named stay. ``content`` and ``data`` are merged into what is there (RFC
    7396); content goes before a template. ``template`` takes the newest version of the one that it names."""

    address: Annotated[str, Field(min_length=1, max_length=4_096)] | None = None
    content: dict[str, Any] | None = None
    data: dict[str, Any] | None = None
    template: Name | None = None


class DeadCause(Answer):
    """Dead letters that have all of this in common; ``latest`` is a delivery to look at."""

    reason: str
    channel: str
    provider: str | None
    code: str | None
    template: str | None
    count: int
    first_at: Stamp
    last_at: Stamp
    latest: UUID


class DeadCauses(Answer):
    """``complete`` is false where there are too many to count or to show them all: the newest are counted, and the most
    frequent causes shown."""

    items: list[DeadCause]
    next: None = None
    complete: bool


class DeadSummary(Answer):
    """A dead letter in a list. ``address`` is null where the user's own is used when it is sent."""

    id: UUID
    notification: UUID
    user: str
    channel: str
    address: str | None
    reason: str
    detail: str | None
    provider: str | None
    code: str | None
    template: str | None
    buried_at: Stamp
    expires_at: Stamp | None
    duplicate_possible: bool


class DeadSummaries(Answer):
    """``next`` is null at the end; else ask again with ``after`` set to it. A page may be short and not the last."""

    items: list[DeadSummary]
    next: str | None


class Preview(Answer):
    """What would be sent if it were sent now, or why it could not be."""

    content: dict[str, Any] | None
    fault: str | None


class DeadLetter(Answer):
    """One delivery that could not be made: what it would be sent with, all that was tried, and the story of its
    notification, which stays as it was asked for."""

    id: UUID
    channel: str
    reason: str
    detail: str | None
    buried_at: Stamp
    duplicate_possible: bool
    address: str | None
    template: str | None
    content: dict[str, Any] | None
    data: dict[str, Any]
    preview: Preview
    last_attempt: Attempt | None
    notification: Story


class Onward(Answer):
    """Add these to the same request to go on where it ended."""

    after: str
    until: Stamp
    start_at: Stamp | None = None


class Done(Answer):
    """The deliveries concerned, a thousand at most in one call. ``more`` says that there may be others: go on with
    ``next``."""

    ids: list[UUID]
    more: bool
    next: Onward | None


class Replayed(Done):
    """``first_due_at`` and ``last_due_at`` are when they go out. ``expiring`` of them expire before that, and
    ``duplicate_possible`` of them may be the second copy."""

    first_due_at: Stamp | None
    last_due_at: Stamp | None
    expiring: int
    duplicate_possible: int


def cursor(place: Place) -> str:
    return f"{(place.at - _EPOCH) // _MICROSECOND}-{place.id.hex}"


def place_of(cursor: Cursor) -> Place:
    at, _, id_ = cursor.partition("-")
    return Place(_EPOCH + int(at) * _MICROSECOND, DeliveryId(UUID(hex=id_)))

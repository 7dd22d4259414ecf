"""Lists: windows of time and cursors. Ids are times, so both are bounds on ids."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from tidings.domain import ids
from tidings.domain.delivery import Status
from tidings.domain.errors import Invalid
from tidings.domain.history import Page, PastNotification
from tidings.web.fields import LIST_DEFAULT, LIST_MAX, Instant, Name, Text

WINDOW_DEFAULT: Final = timedelta(hours=24)
WINDOW_MAX: Final = timedelta(days=7)
_SLACK: Final = timedelta(minutes=1)
"""What clocks, and a request's way here, may differ by."""

_FIRST: Final = datetime(1970, 1, 2, tzinfo=UTC)
_SCANNED: Final = 1_000
_LAST: Final = UUID(int=(1 << 128) - 1)


class Search(BaseModel):
    """Which notifications, from new to old. ``after`` is the ``next`` of the page before."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(LIST_DEFAULT, ge=1, le=LIST_MAX)
    after: UUID | None = None
    since: Instant | None = None
    until: Instant | None = None
    status: Status | None = None
    category: Name | None = None
    channel: Name | None = None
    reference: Text | None = None

    def match(self, past: PastNotification) -> bool:
        """Of what the database does not look at: a derived status, and channels."""
        on_channel = self.channel is None or any(one.channel.name == self.channel for one in past.deliveries)
        return on_channel and (self.status is None or past.status == self.status)

    def page(self, category: int | None) -> Page:
        """One row more than asked for, to know whether there are more; many, where they have to be looked through."""
        rows = self.limit + 1 if self.status is None and self.channel is None else _SCANNED
        before = min(_at(self.until) if self.until else _LAST, self.after or _LAST)
        return Page(_at(self.since) if self.since else UUID(int=0), before, rows, category)


class SearchAll(Search):
    """The same over all users, or of one. Without user or reference at most seven days at once, by default one."""

    user: Name | None = None

    def bounded(self, now: datetime) -> "SearchAll":
        """Raises Invalid for a window that is too long."""
        if self.reference is not None:
            return self
        since = self.since or max(self.until or now, _FIRST) - WINDOW_DEFAULT
        if (self.until or now) - since > WINDOW_MAX + _SLACK:
            detail = "without user or reference at most seven days at once: set since and until"
            raise Invalid(detail, pointer="?since", code="window_too_long")
        return self.model_copy(update={"since": since, "until": self.until or now + _SLACK})


def cut(
    search: Search, page: Page, found: Sequence[PastNotification]
) -> tuple[Sequence[PastNotification], UUID | None]:
    """What matches, and the cursor of the next page, None at the end."""
    matching = [one for one in found if search.match(one)]
    if len(matching) > search.limit:
        return matching[: search.limit], matching[search.limit - 1].id
    return matching, found[-1].id if len(found) == page.limit else None


def _at(instant: datetime) -> UUID:
    return ids.first_at(max(0, int(instant.timestamp() * 1000)))

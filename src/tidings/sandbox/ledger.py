"""What the stand-ins took: the messages, as many as memory may hold, and the counts of all of them."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice, zip_longest

import msgspec

from tidings.sandbox.standin import Fate, Forecast, Message


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One message taken; ``answered`` is what the client was told: a status, ``hang`` or ``reset``. ``forecast`` is
    None where nobody made one."""

    id: int
    provider: str
    message: Message
    accepted_at: datetime
    answered: str
    forecast: Forecast | None = None

    def happened(self, now: datetime) -> Sequence[Fate]:
        """What has become of it by now, as far as the provider tells."""
        return self.forecast.fates if self.forecast and self.forecast.at <= now else ()


class Stats(msgspec.Struct, frozen=True, gc=False):
    """``accepted`` counts messages and ``refused`` calls not taken; ``references`` are distinct, ``repeated`` those of
    them that were taken more than once."""

    requests: int
    accepted: int
    refused: int
    references: int
    repeated: int


class Book:
    """The counts of one provider."""

    def __init__(self) -> None:
        self.requests = 0
        self.accepted = 0
        self.refused = 0
        self.references: set[str] = set()
        self.repeated: set[str] = set()

    def stats(self) -> Stats:
        return Stats(self.requests, self.accepted, self.refused, len(self.references), len(self.repeated))


class Wanted(msgspec.Struct, frozen=True):
    """A filter of entries; None matches all."""

    provider: str | None = None
    to: str | None = None
    reference: str | None = None

    def matches(self, entry: Entry) -> bool:
        return (
            (self.provider is None or entry.provider == self.provider)
            and (self.to is None or self.to in entry.message.recipients)
            and (self.reference is None or entry.message.reference == self.reference)
        )


class Ledger:
    """Everything taken, in order. Whole messages up to ``keep`` and ``keep_bytes``, none at 0, the oldest forgotten
    first; counts and references for good."""

    def __init__(self, providers: Sequence[str], *, keep: int = 200_000, keep_bytes: int = 512 << 20) -> None:
        self._providers = tuple(providers)
        self._keep, self._keep_bytes = keep, keep_bytes
        self.last = 0
        self.forget()

    @property
    def first(self) -> int:
        """The id of the oldest message still kept, or of the next one."""
        return self.last + 1 - len(self._entries)

    def forget(self) -> None:
        """Messages, references and counts. Ids go on, so that no cursor points at another message later."""
        self.books = {name: Book() for name in self._providers}
        self._entries: dict[int, Entry] = {}
        self._bytes = 0
        self._order: list[str] = []

    def take(
        self, provider: str, messages: Sequence[Message], answered: str, expected: Sequence[Forecast] = ()
    ) -> None:
        """``expected`` is what will become of each, in their order."""
        now = datetime.now(UTC)
        book = self.books[provider]
        for message, forecast in zip_longest(messages, expected):
            book.accepted += 1
            self._count(book, message.reference)
            self.last += 1
            if self._keep:
                self._entries[self.last] = Entry(self.last, provider, message, now, answered, forecast)
                self._bytes += message.size
        while len(self._entries) > self._keep or (self._bytes > self._keep_bytes and len(self._entries) > 1):
            self._bytes -= self._entries.pop(self.first).message.size

    def get(self, id_: int) -> Entry | None:
        return self._entries.get(id_)

    def find(self, wanted: Wanted, after: int, limit: int) -> tuple[list[Entry], int | None]:
        """Oldest first, and where to go on, None at the end."""
        ids = range(max(after + 1, self.first), self.last + 1)
        found = list(islice(self._among(ids, wanted), limit + 1))
        return found[:limit], found[limit - 1].id if len(found) > limit else None

    def newest(self, wanted: Wanted, after: int, limit: int) -> list[Entry]:
        """The last ones, the newest first."""
        ids = range(self.last, max(after, self.first - 1), -1)
        return list(islice(self._among(ids, wanted), limit))

    def references(self, after: int, limit: int) -> tuple[list[str], int | None]:
        """Distinct references in the order in which they were first taken, and where to go on, None at the end."""
        page = self._order[after : after + limit]
        end = after + len(page)
        return page, end if end < len(self._order) else None

    def _among(self, ids: range, wanted: Wanted) -> Iterator[Entry]:
        return (entry for id_ in ids if (entry := self._entries.get(id_)) and wanted.matches(entry))

    def _count(self, book: Book, reference: str | None) -> None:
        if reference is None:
            return
        if reference in book.references:
            book.repeated.add(reference)
        else:
            book.references.add(reference)
            self._order.append(reference)

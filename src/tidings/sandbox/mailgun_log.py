"""What Mailgun's events API remembers, and how it is asked."""

import base64
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import Any, Final

import msgspec

Event = Mapping[str, Any]
MOST_MESSAGES: Final = 20_000
MOST_PAGE: Final = 300
USUAL_PAGE: Final = 100
_FILTERS: Final = ("event", "recipient", "message-id", "subject", "from", "to", "tags", "severity")


class BadQuery(Exception):
    """A query that Mailgun would refuse. The message says why."""


class _Place(msgspec.Struct, frozen=True):
    """Where a page begins: what its address ends with."""

    query: dict[str, str]
    start: int


class Log:
    """The events of the latest messages, by domain."""

    def __init__(self) -> None:
        self._events: OrderedDict[tuple[str, str], list[Event]] = OrderedDict()

    def begin(self, domain: str, message_id: str, events: Sequence[Event]) -> None:
        """A message that was taken."""
        self._events[domain, message_id] = list(events)
        if len(self._events) > MOST_MESSAGES:
            self._events.popitem(last=False)

    def add(self, domain: str, message_id: str, event: Event) -> None:
        """The same event repeated is one event."""
        known = self._events.setdefault((domain, message_id), [])
        if all(one["id"] != event["id"] for one in known):
            known.append(event)

    def page(self, domain: str, place: str | Mapping[str, str]) -> tuple[list[Event], str, str]:
        """A page's events, and where the next and the previous one begin. ``place`` is a query, or what a page said.
        Raises BadQuery."""
        at = _place(place) if isinstance(place, str) else _Place(dict(place), 0)
        size = _size(at.query)
        found = sorted(
            self._found(domain, at.query), key=lambda one: float(one["timestamp"]), reverse=_newest(at.query)
        )
        next_, previous = at.start + size, max(at.start - size, 0)
        page = found[at.start : next_]
        return page, _token(_Place(at.query, next_)), _token(_Place(at.query, previous if at.start else next_))

    def _found(self, domain: str, query: Mapping[str, str]) -> Iterator[Event]:
        first, last = sorted((_instant_s(query, "begin", 0.0), _instant_s(query, "end", float("inf"))))
        message_id = query.get("message-id")
        for (where, name), events in self._events.items():
            if where == domain and message_id in (None, name):
                yield from (one for one in events if first <= one["timestamp"] <= last and _wanted(query, one))


def _wanted(query: Mapping[str, str], event: Event) -> bool:
    filters = ((name, query[name]) for name in _FILTERS if query.get(name))
    return all(_either(value) & _values(event, name) for name, value in filters)


def _either(value: str) -> set[str]:
    return {one.strip().strip('"()').lower() for one in value.split(" OR ")}


def _values(event: Event, name: str) -> set[str]:
    found = event["message"]["headers"].get(name) if name not in event else event[name]
    return {str(one).lower() for one in (found if isinstance(found, list) else [found])}


def _newest(query: Mapping[str, str]) -> bool:
    """Whether the newest event comes first. The order follows from the range, or is asked for."""
    if "end" not in query:
        if query.get("ascending") not in ("yes", "no"):
            raise BadQuery("'ascending' must be given where there is no 'end'")
        return query["ascending"] == "no"
    return _instant_s(query, "end", 0.0) < _instant_s(query, "begin", 0.0)


def _instant_s(query: Mapping[str, str], name: str, usual_s: float) -> float:
    if not (given := query.get(name)):
        return usual_s
    try:
        return float(given) if given.replace(".", "", 1).isdigit() else parsedate_to_datetime(given).timestamp()
    except ValueError:
        raise BadQuery(f"'{name}' is not a valid date") from None


def _size(query: Mapping[str, str]) -> int:
    size = query.get("limit", str(USUAL_PAGE))
    if not size.isdigit() or not 1 <= int(size) <= MOST_PAGE:
        raise BadQuery(f"'limit' is from 1 to {MOST_PAGE}")
    return int(size)


def _token(place: _Place) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(place)).decode().rstrip("=")


def _place(token: str) -> _Place:
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)), type=_Place)
    except (ValueError, msgspec.MsgspecError):
        raise BadQuery("there is no such page") from None

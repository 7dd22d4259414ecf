"""Dead letters as people work with them: which ones are meant, what they have in common, and at which pace they go out
after all. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

import msgspec

from tidings.domain.ids import DeliveryId, NotificationId, UserId
from tidings.domain.lanes import Channel, Lane, channel_of
from tidings.domain.notification import Payload


class Place(msgspec.Struct, frozen=True, order=True):
    """Where a letter stands in the order of burials."""

    at: datetime
    id: DeliveryId


class Choice(msgspec.Struct, frozen=True):
    """The letters that are all of this; None: whichever. ``provider`` and ``code`` are those of the last attempt,
    ``versions`` all those of a template; buried from ``since`` on and before ``until``."""

    reason: str | None = None
    provider: int | None = None
    code: str | None = None
    versions: Sequence[int] | None = None
    channel: Channel | None = None
    since: datetime | None = None
    until: datetime | None = None

    def takes(self, one: "Letter") -> bool:
        """Of what the dispatch alone tells: neither code nor version."""
        for wanted, is_ in ((self.reason, one.reason), (self.provider, one.provider), (self.channel, one.channel)):
            if wanted not in (None, is_):
                return False
        since, until = self.since or one.buried_at, self.until
        return since <= one.buried_at and (until is None or one.buried_at < until)


class Letter(msgspec.Struct, frozen=True):
    """``provider`` is 0 and ``code`` None where no call was made; ``template_version`` None for inline content;
    ``address`` None where the user's own is looked up when it is sent."""

    id: DeliveryId
    buried_at: datetime
    home: Lane
    reason: str
    detail: str | None
    provider: int
    code: str | None
    template_version: int | None
    notification_id: NotificationId
    user_id: UserId
    address: str | None
    expires_at: datetime | None
    duplicate_possible: bool

    @property
    def place(self) -> Place:
        return Place(self.buried_at, self.id)

    @property
    def channel(self) -> Channel:
        return channel_of(self.home)


class Cause(msgspec.Struct, frozen=True):
    """What letters have in common. Fields as in ``Letter``."""

    reason: str
    channel: Channel
    provider: int
    code: str | None
    template_version: int | None


class Group(msgspec.Struct, frozen=True):
    """The letters of one cause; ``latest`` is one of them to look at."""

    cause: Cause
    count: int
    first_at: datetime
    last_at: datetime
    latest: DeliveryId

    def joined(self, other: "Group") -> "Group":
        """With those of the same cause elsewhere."""
        latest = max(self, other, key=lambda one: (one.last_at, one.latest))
        first_at = min(self.first_at, other.first_at)
        return msgspec.structs.replace(latest, count=self.count + other.count, first_at=first_at)

    def of(self, version: int | None) -> "Group":
        """The same for another version of its template."""
        return msgspec.structs.replace(self, cause=msgspec.structs.replace(self.cause, template_version=version))


def joined(groups: Iterable[Group]) -> Sequence[Group]:
    """One for each cause, the most frequent first."""
    found = dict[Cause, Group]()
    for one in groups:
        found[one.cause] = found[one.cause].joined(one) if one.cause in found else one
    return sorted(found.values(), key=lambda one: (-one.count, one.cause.reason, one.latest))


def of_templates(groups: Iterable[Group], names: Mapping[int, str]) -> Sequence[Group]:
    """One version of each template stands for all of them."""
    stands_for = {name: version for version, name in names.items()}
    alike = {version: stands_for[name] for version, name in names.items()}
    return joined(one.of(alike.get(one.cause.template_version or 0, one.cause.template_version)) for one in groups)


class Groups(msgspec.Struct, frozen=True):
    """The most frequent first. ``complete`` is False where there were too many letters to count them all: then it is
    the newest of them that are counted."""

    items: Sequence[Group]
    complete: bool


class Contents(msgspec.Struct, frozen=True):
    """What a letter would be sent with. ``version`` changes with every edit."""

    address: str | None
    payload: Payload
    version: int


class Edit(msgspec.Struct, frozen=True):
    """What changes: an address with its hash, or a payload with the version of the template that it is for (None: its
    own content). ``what`` names it, and ``version`` is that of the contents it was made from."""

    what: str
    version: int
    address: str | None = None
    address_hash: bytes | None = None
    payload: Payload | None = None
    template_version: int | None = None


class Back(msgspec.Struct, frozen=True):
    """A letter on its way back: due in ``after_s`` seconds, with another ``version`` of its template, or its own."""

    id: DeliveryId
    after_s: float = 0.0
    version: int | None = None


class Found(msgspec.Struct, frozen=True):
    """What one shard found. Beyond ``horizon`` it has not looked; None: there is no more."""

    letters: Sequence[Letter]
    horizon: Place | None


class Pile(msgspec.Struct, frozen=True):
    """Letters in the order of burials, or against it; ``next`` is where to go on, None at the end."""

    letters: Sequence[Letter]
    next: Place | None


def pile(found: Sequence[Found], limit: int, *, newest: bool) -> Pile:
    """One page of all shards. Beyond the nearest horizon nothing is certain, because a shard may hold more there."""
    nearest = max if newest else min
    horizon = nearest((one.horizon for one in found if one.horizon is not None), default=None)
    letters = sorted((one for some in found for one in some.letters), key=lambda one: one.place, reverse=newest)
    if horizon is not None:
        letters = [one for one in letters if nearest(one.place, horizon) == one.place]
    if len(letters) > limit:
        return Pile(letters[:limit], letters[limit - 1].place)
    return Pile(letters, horizon)


def paced(count: int, rate_per_s: float | None, start_s: float) -> list[float]:
    """When each of them is due, in seconds from now: one after the other, or all at once without a rate."""
    return [start_s + (n / rate_per_s if rate_per_s else 0.0) for n in range(count)]

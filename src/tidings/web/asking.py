"""From a valid body to what the pipeline is asked: names become ids, addresses take their normal form."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from tidings.domain.asked import Addresses, Asked
from tidings.domain.catalog import Catalog, Category, Template
from tidings.domain.errors import Invalid, UnknownCategory, UnknownTemplate
from tidings.domain.ids import TenantId, UserId
from tidings.domain.lanes import Channel
from tidings.domain.notification import Content, Payload
from tidings.domain.timing import instant_of
from tidings.web.requests import BatchItem, NotificationRequest, Recipient, WallTime

if TYPE_CHECKING:
    from tidings.channels.base import Plugin

GENERAL: Final = "general"
NO_ADDRESS: Final = "no_usable_address"
_USERS_ZONE: Final = "user"
_SLACK: Final = timedelta(minutes=1)
"""What the caller's clock and the way here may differ from ours."""

_encode: Final = msgspec.json.Encoder().encode


class Asking:
    """One caller at one instant."""

    def __init__(self, catalog: Catalog, channels: Mapping[Channel, "Plugin"], tenant: TenantId, now: datetime) -> None:
        self._catalog = catalog
        self._channels = channels
        self._tenant = tenant
        self._now = now

    def message(self, request: NotificationRequest | BatchItem) -> Asked:
        """All but the recipient. Raises a Refusal with a pointer."""
        if request.attachments:
            raise Invalid("attachments are not supported yet", pointer="/attachments", code="not_supported_yet")
        template = self._template(request)
        category = self._category(request, template)
        channels = self._wanted(request, category)
        if request.content is not None:
            for channel in channels:
                check_content(self._channels[channel], request.content)
        return Asked(
            tenant=self._tenant,
            user=None,
            addresses={},
            category=category,
            channels=channels,
            payload=_encode(Payload(request.data, request.content, request.metadata, self._reply_to(request))),
            template=request.template or "",
            template_version=template.version if template else None,
            sender=self._sender(request, channels),
            reference=request.reference,
            deduplication=request.deduplication_key,
            send_at=self._send_at(request),
            expires_after_s=request.expires_after_s,
        )

    def to(self, asked: Asked, recipient: str | Recipient, wall: Any, at: str) -> Asked:
        """The message to one recipient, who stands at the pointer ``at``. ``wall`` is the request's ``send_at``, which
        may mean the recipient's own zone. Raises Invalid."""
        if isinstance(recipient, str) and not isinstance(wall, WallTime):
            return msgspec.structs.replace(asked, user=UserId(recipient))
        if isinstance(recipient, str):
            recipient = Recipient(user=recipient)
        addresses = self._addresses(recipient, at, asked.channels)
        user = UserId(recipient.user) if recipient.user is not None else None
        changed: dict[str, Any] = {"user": user, "addresses": addresses}
        if isinstance(wall, WallTime) and wall.zone == _USERS_ZONE:
            changed["send_at"] = self._at_users(wall, recipient, at)
        return msgspec.structs.replace(asked, **changed)

    def _template(self, request: NotificationRequest | BatchItem) -> Template | None:
        if request.template is None:
            if request.content is None:
                raise Invalid("give a template or content", pointer="/template", code="missing_field")
            return None
        if request.content is not None:
            raise Invalid("a template and content exclude each other: give one of them", pointer="/template")
        template = self._catalog.templates.get((self._tenant, request.template))
        if template is None:
            raise UnknownTemplate(pointer="/template")
        return template

    def _category(self, request: NotificationRequest | BatchItem, template: Template | None) -> Category:
        if request.category is None and template is not None:
            return self._catalog.categories_by_id[template.category]
        category = self._catalog.categories.get((self._tenant, request.category or GENERAL))
        if category is None:
            raise UnknownCategory(pointer="/category")
        return category

    def _wanted(self, request: NotificationRequest | BatchItem, category: Category) -> tuple[Channel, ...]:
        if request.channels is not None:
            return tuple(dict.fromkeys(channel_named(name, self._channels) for name in request.channels))
        served = tuple(channel for channel in category.channels if channel in self._channels)
        if not served:
            raise Invalid("none of the category's channels is served here", pointer="/category", code="unknown_channel")
        return served

    def _reply_to(self, request: NotificationRequest | BatchItem) -> str | None:
        email = self._channels.get(Channel.email)
        if request.reply_to is None or email is None:
            return None
        return email.normal(request.reply_to, pointer="/reply_to")

    def _sender(self, request: NotificationRequest | BatchItem, channels: Iterable[Channel]) -> int | None:
        if request.sender is None:
            return None
        for channel in channels:
            for sender in self._catalog.senders.get((self._tenant, channel), ()):
                if sender.name == request.sender:
                    return sender.id
        raise Invalid("there is no sender of that name on these channels", pointer="/sender", code="unknown_sender")

    def _send_at(self, request: NotificationRequest | BatchItem) -> datetime | None:
        match request.send_at:
            case datetime() as instant:
                return self._soon_enough(instant)
            case WallTime(zone=zone) as wall if zone != _USERS_ZONE:
                return self._at(wall, zone, "/send_at/zone")
            case _:
                return None

    def _at_users(self, wall: WallTime, recipient: Recipient, at: str) -> datetime:
        if recipient.zone is None:
            detail = 'the zone "user" needs a "zone" in "to": a stored one is not used yet'
            raise Invalid(detail, pointer="/send_at/zone", code="not_supported_yet")
        return self._at(wall, recipient.zone, f"{at}/zone")

    def _at(self, wall: WallTime, zone: str, pointer: str) -> datetime:
        try:
            local = datetime.fromisoformat(wall.local)
            instant = instant_of(local, zone_named(zone, pointer), wall.gap, wall.overlap)
        except (ValueError, OverflowError) as fault:
            raise Invalid("there is no such date or time", pointer="/send_at/local") from fault
        if instant is None:
            raise Invalid("clocks in that zone skip that time", pointer="/send_at/local", code="no_such_time")
        return self._soon_enough(instant)

    def _soon_enough(self, instant: datetime) -> datetime:
        if instant > in_a_year(self._now) + _SLACK:
            raise Invalid("at most a year ahead", pointer="/send_at", code="too_far_ahead")
        return instant.astimezone(UTC) if instant > self._now else self._now

    def _addresses(self, recipient: Recipient, at: str, wanted: Collection[Channel]) -> Addresses:
        """The usable ones, each once; the others are left out. Raises Invalid when neither they nor a user say who is
        meant."""
        if recipient.zone is not None:
            zone_named(recipient.zone, f"{at}/zone")
        found, flaws = Addresses(), list[Invalid]()
        for channel, name, address in _given(recipient):
            if channel not in self._channels:
                continue
            try:
                usable = self._channels[channel].normal(address, pointer=f"{at}/{name}")
            except Invalid as flaw:
                if channel in wanted:
                    flaws.append(flaw)
                continue
            if usable not in found.get(channel, ()):
                found[channel] = (*found.get(channel, ()), usable)
        if recipient.user is None and found.keys().isdisjoint(wanted):
            raise _nobody(flaws, at)
        return found


def _nobody(flaws: Sequence[Invalid], at: str) -> Invalid:
    if flaws:
        return Invalid(flaws[0].detail, pointer=flaws[0].pointer or at, code=NO_ADDRESS)
    return Invalid("name a user, or an address for one of the channels", pointer=at, code=NO_ADDRESS)


def check_content(rules: "Plugin", content: Content) -> None:
    """Raises Invalid under ``/content`` for what its channel cannot send."""
    try:
        rules.check(content)
    except Invalid as fault:
        raise Invalid(fault.detail, pointer=f"/content{fault.pointer or ''}", code=fault.code) from fault


def in_a_year(now: datetime) -> datetime:
    """The same date next year; for 29 February the 28th."""
    try:
        return now.replace(year=now.year + 1)
    except ValueError:
        return now.replace(year=now.year + 1, day=28)


def _given(recipient: Recipient) -> Iterator[tuple[Channel, str, str]]:
    """Each address with its channel and its field: "whatsapp" defaults to "phone"."""
    if recipient.email is not None:
        yield Channel.email, "email", recipient.email
    if recipient.phone is not None:
        yield Channel.sms, "phone", recipient.phone
    if recipient.whatsapp is not None:
        yield Channel.whatsapp, "whatsapp", recipient.whatsapp
    elif recipient.phone is not None:
        yield Channel.whatsapp, "phone", recipient.phone
    for n, token in enumerate(recipient.push_tokens or ()):
        yield Channel.push, f"push_tokens/{n}", token


def channel_named(name: str, channels: Iterable[Channel], pointer: str = "/channels") -> Channel:
    """Raises Invalid for a channel that does not exist or is not served here."""
    for channel in channels:
        if channel.name == name:
            return channel
    raise Invalid(f"there is no channel {name!r} here", pointer=pointer, code="unknown_channel")


def zone_named(name: str, pointer: str) -> ZoneInfo:
    """Raises Invalid at ``pointer``."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as fault:
        raise Invalid("there is no time zone of that name", pointer=pointer, code="unknown_zone") from fault

"""The dead letters: what could not be delivered, kept with all it needs to be sent after all."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Final

import msgspec
from fastapi import APIRouter, Query

from tidings.domain.dead_letters import Back, Choice, Contents, Group, Letter, Pile, Place, of_templates, paced
from tidings.domain.errors import Invalid, NotFound, UnknownTemplate
from tidings.domain.events import DeadLettersDecided
from tidings.domain.ids import DeliveryId, TenantId
from tidings.web.asking import channel_named, in_a_year
from tidings.web.edge import Edge
from tidings.web.fields import LIST_MAX, MayManage, MayRead, PathId, problems
from tidings.web.letter_edit import edit_of, preview
from tidings.web.letters import (
    IDS_MAX,
    Chosen,
    DeadCause,
    DeadCauses,
    DeadLetter,
    DeadSummaries,
    DeadSummary,
    Discarding,
    Done,
    Editing,
    Listing,
    Onward,
    Replayed,
    Replaying,
    Which,
    cursor,
    place_of,
)
from tidings.web.past import story
from tidings.web.problems import Changed

_SLACK: Final = timedelta(minutes=1)
"""What the clocks of the databases may differ by from ours."""


class DeadLetters:
    """The endpoints of the dead letters."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    def routes(self) -> APIRouter:
        router = APIRouter(tags=["dead letters"])
        router.add_api_route("/dead-letters", self.causes, methods=["GET"], responses=problems())
        router.add_api_route("/dead-letters/each", self.each, methods=["GET"], responses=problems())
        router.add_api_route("/dead-letters/replay", self.replay, methods=["POST"], responses=problems())
        router.add_api_route("/dead-letters/discard", self.discard, methods=["POST"], responses=problems())
        router.add_api_route("/dead-letters/{id}", self.one, methods=["GET"], responses=problems())
        router.add_api_route("/dead-letters/{id}", self.edit, methods=["PATCH"], responses=problems(412))
        return router

    async def causes(self, caller: MayRead, which: Annotated[Which, Query()]) -> DeadCauses:
        """Grouped by what they have in common, the most frequent first."""
        found = await self._edge.dead_letters.groups(caller.tenant, await self._choice(caller.tenant, which, "?"))
        names = await self._templates(caller.tenant, (one.cause.template_version for one in found.items))
        groups = of_templates(found.items, names)
        return DeadCauses(
            items=[self._cause(caller.tenant, one, names) for one in groups[:LIST_MAX]],
            complete=found.complete and len(groups) <= LIST_MAX,
        )

    async def each(self, caller: MayRead, which: Annotated[Listing, Query()]) -> DeadSummaries:
        """One by one, the last buried first."""
        choice = await self._choice(caller.tenant, which, "?")
        after = place_of(which.after) if which.after else None
        found = await self._edge.dead_letters.page(caller.tenant, choice, which.limit, after, newest=True)
        names = await self._templates(caller.tenant, (one.template_version for one in found.letters))
        items = [self._summary(caller.tenant, one, names) for one in found.letters]
        return DeadSummaries(items=items, next=cursor(found.next) if found.next else None)

    async def one(self, caller: MayRead, id: PathId) -> DeadLetter:
        """Why a delivery could not be made, all that was tried, and what it would be sent with."""
        return await self._shown(caller.tenant, *await self._read(caller.tenant, DeliveryId(id)))

    async def edit(self, caller: MayManage, id: PathId, body: Editing) -> DeadLetter:
        """Changes what this delivery is sent with when it is replayed. The notification stays as it was asked for."""
        letter, contents = await self._read(caller.tenant, DeliveryId(id))
        edit = edit_of(self._edge, caller.tenant, letter, contents, body)
        if not await self._edge.dead_letters.edit(caller.tenant, letter.id, edit, caller.public_id):
            raise Changed("it was changed, replayed or discarded in the meantime: read it again")
        self._edge.emit(DeadLettersDecided(1, "edited"))
        return await self.one(caller, id)

    async def replay(self, caller: MayManage, body: Replaying) -> Replayed:
        """Back to their lanes with a fresh schedule, the oldest first: all at once, or so many a second."""
        now = self._edge.clock.now()
        start_at = _start(body.start_at, now)
        chosen = await self._chosen(caller.tenant, body, now)
        due_s = paced(len(chosen.letters), body.rate, (start_at - now).total_seconds())
        newest = await self._newest(caller.tenant, chosen.letters) if body.newest_template else {}
        going = [Back(one.id, s, newest.get(one.id)) for one, s in zip(chosen.letters, due_s, strict=True)]
        if body.dry_run:
            done = {one.id for one in going}
        else:
            done = await self._edge.dead_letters.replay(caller.tenant, going, caller.public_id)
            self._tell(len(done), "replayed")
        due = [
            (one, now + timedelta(seconds=s)) for one, s in zip(chosen.letters, due_s, strict=True) if one.id in done
        ]
        next_at = start_at + timedelta(seconds=len(due_s) / body.rate) if body.rate else body.start_at
        return _replayed(due, _onward(chosen.next, body, now, next_at))

    async def discard(self, caller: MayManage, body: Discarding) -> Done:
        """Given up for good: their deliveries end as dead."""
        now = self._edge.clock.now()
        chosen = await self._chosen(caller.tenant, body, now)
        wanted = [one.id for one in chosen.letters]
        done = set(wanted)
        if not body.dry_run:
            done = await self._edge.dead_letters.discard(caller.tenant, wanted, body.because, caller.public_id)
            self._tell(len(done), "discarded")
        next_ = _onward(chosen.next, body, now)
        return Done(ids=[id_ for id_ in wanted if id_ in done], more=next_ is not None, next=next_)

    async def _chosen(self, tenant: TenantId, body: Chosen, now: datetime) -> Pile:
        """The oldest first, at most a thousand. What is buried later, while somebody goes on, is left alone."""
        if not body.says_which:
            raise Invalid("name ids, or what the letters have in common", pointer="/ids", code="missing_field")
        choice = await self._choice(tenant, body, "/")
        if body.ids is not None:
            wanted = [DeliveryId(id_) for id_ in body.ids]
            return Pile(await self._edge.dead_letters.named(tenant, choice, wanted), None)
        choice = msgspec.structs.replace(choice, until=_until(body, now))
        after = place_of(body.after) if body.after else None
        return await self._edge.dead_letters.page(tenant, choice, IDS_MAX, after)

    async def _choice(self, tenant: TenantId, which: Which, at: str) -> Choice:
        """Names become numbers. Raises Invalid and UnknownTemplate at pointers that begin with ``at``."""
        versions = None
        if which.template is not None:
            rows = await self._edge.control.template_versions(tenant, which.template)
            versions = [row["id"] for row in rows]
            if not versions:
                raise UnknownTemplate(pointer=f"{at}template")
        channel = channel_named(which.channel, self._edge.channels, f"{at}channel") if which.channel else None
        provider = self._account(tenant, which.provider, f"{at}provider") if which.provider else None
        return Choice(which.reason, provider, which.code, versions, channel, which.since, which.until)

    def _account(self, tenant: TenantId, name: str, pointer: str) -> int:
        for account in self._edge.catalogs().accounts.values():
            if account.tenant == tenant and account.name == name:
                return account.id
        raise Invalid("there is no provider of that name", pointer=pointer, code="unknown_provider")

    async def _newest(self, tenant: TenantId, letters: Sequence[Letter]) -> Mapping[DeliveryId, int]:
        """The newest versions of their templates, where it is another one."""
        names = await self._templates(tenant, (one.template_version for one in letters))
        published = {name: self._edge.catalogs().templates[tenant, name].version for name in set(names.values())}
        newest = {version: published[name] for version, name in names.items() if published[name] != version}
        return {one.id: newest[one.template_version] for one in letters if one.template_version in newest}

    async def _templates(self, tenant: TenantId, versions: Iterable[int | None]) -> Mapping[int, str]:
        """The names of the templates that these are versions of."""
        wanted = {version for version in versions if version is not None}
        return await self._edge.control.template_names(tenant, wanted) if wanted else {}

    async def _read(self, tenant: TenantId, id_: DeliveryId) -> tuple[Letter, Contents]:
        letters = await self._edge.dead_letters.named(tenant, Choice(), [id_])
        contents = await self._edge.dead_letters.contents(tenant, id_) if letters else None
        if contents is None:
            raise NotFound
        return letters[0], contents

    async def _shown(self, tenant: TenantId, letter: Letter, contents: Contents) -> DeadLetter:
        past = await self._edge.queries.notification(tenant, letter.notification_id)
        if past is None:
            raise NotFound
        told = story(past, self._edge.catalogs())
        [delivery] = [one for one in told.deliveries if one.id == letter.id]
        names = await self._templates(tenant, [letter.template_version])
        content = contents.payload.content if letter.template_version is None else None
        return DeadLetter(
            id=letter.id,
            channel=letter.channel.name,
            reason=letter.reason,
            detail=letter.detail,
            buried_at=letter.buried_at,
            duplicate_possible=letter.duplicate_possible,
            address=contents.address,
            template=names.get(letter.template_version or 0),
            content=msgspec.to_builtins(content) if content is not None else None,
            data=contents.payload.data,
            preview=await preview(self._edge, letter, contents.payload),
            last_attempt=delivery.attempts[-1] if delivery.attempts else None,
            notification=told,
        )

    def _cause(self, tenant: TenantId, group: Group, templates: Mapping[int, str]) -> DeadCause:
        cause = group.cause
        return DeadCause(
            reason=cause.reason,
            channel=cause.channel.name,
            provider=self._named(tenant, cause.provider),
            code=cause.code,
            template=templates.get(cause.template_version or 0),
            count=group.count,
            first_at=group.first_at,
            last_at=group.last_at,
            latest=group.latest,
        )

    def _summary(self, tenant: TenantId, letter: Letter, templates: Mapping[int, str]) -> DeadSummary:
        return DeadSummary(
            id=letter.id,
            notification=letter.notification_id,
            user=letter.user_id,
            channel=letter.channel.name,
            address=letter.address,
            reason=letter.reason,
            detail=letter.detail,
            provider=self._named(tenant, letter.provider),
            code=letter.code,
            template=templates.get(letter.template_version or 0),
            buried_at=letter.buried_at,
            expires_at=letter.expires_at,
            duplicate_possible=letter.duplicate_possible,
        )

    def _named(self, tenant: TenantId, account: int) -> str | None:
        known = self._edge.catalogs().accounts.get(account)
        return known.name if known is not None and known.tenant == tenant else None

    def _tell(self, count: int, how: str) -> None:
        if count:
            self._edge.emit(DeadLettersDecided(count, how))


def _start(start_at: datetime | None, now: datetime) -> datetime:
    if start_at is not None and start_at > in_a_year(now):
        raise Invalid("at most a year ahead", pointer="/start_at", code="too_far_ahead")
    return max(start_at, now) if start_at is not None else now


def _until(body: Chosen, now: datetime) -> datetime:
    return body.until or now + _SLACK


def _onward(next_: Place | None, body: Chosen, now: datetime, start_at: datetime | None = None) -> Onward | None:
    return Onward(after=cursor(next_), until=_until(body, now), start_at=start_at) if next_ is not None else None


def _replayed(due: Sequence[tuple[Letter, datetime]], next_: Onward | None) -> Replayed:
    return Replayed(
        ids=[one.id for one, _ in due],
        more=next_ is not None,
        next=next_,
        first_due_at=due[0][1] if due else None,
        last_due_at=due[-1][1] if due else None,
        expiring=sum(one.expires_at is not None and one.expires_at <= due_at for one, due_at in due),
        duplicate_possible=sum(one.duplicate_possible for one, _ in due),
    )

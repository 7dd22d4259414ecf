"""Users and their addresses."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final

from fastapi import APIRouter, Header, Response
from pydantic import Field, ValidationError

from tidings.domain.errors import Invalid, NotFound
from tidings.domain.ids import TenantId, UserId
from tidings.domain.lanes import Channel
from tidings.domain.people import Person
from tidings.web.asking import zone_named
from tidings.web.edge import Edge
from tidings.web.exchange import MERGE_PATCH
from tidings.web.fields import Answer, Body, MayManage, MayRead, Name, Stamp, UserPath, problems
from tidings.web.problems import Changed, SeveralInvalid
from tidings.web.validation import field_errors

BATCH_MAX: Final = 10_000
_ATTEMPTS: Final = 5
Address = Annotated[str, Field(min_length=1, max_length=512)]
Addresses = Annotated[list[Address], Field(max_length=20, default_factory=list)]
Token = Annotated[str, Field(min_length=1, max_length=4096)]
Tokens = Annotated[list[Token], Field(max_length=100, default_factory=list)]
_MERGE_PATCH: Final = {
    "requestBody": {"content": {MERGE_PATCH.decode(): {"schema": {"type": "object", "additionalProperties": True}}}}
}
FIELDS: Final[Mapping[str, Channel]] = {
    "emails": Channel.email,
    "phones": Channel.sms,
    "whatsapp": Channel.whatsapp,
    "push_tokens": Channel.push,
}


_LIKE: Final[Mapping[str, str]] = {"whatsapp": "phones"}
"""Lists that are like another as long as nobody says otherwise, be it with an empty one."""


class UserBody(Body):
    """All that is kept of a user. Lists have the primary address first; ``whatsapp`` left out is like ``phones``."""

    emails: Addresses
    phones: Addresses
    whatsapp: Addresses
    push_tokens: Tokens
    zone: Name | None = None
    locale: Annotated[str, Field(min_length=1, max_length=35)] | None = None
    attributes: Annotated[dict[str, Any], Field(default_factory=dict)]


class BatchUser(UserBody):
    id: Name


class UserBatch(Body):
    users: Annotated[list[BatchUser], Field(max_length=BATCH_MAX)]


class User(Answer):
    id: str
    emails: list[str]
    phones: list[str]
    whatsapp: list[str]
    push_tokens: list[str]
    zone: str | None
    locale: str | None
    attributes: dict[str, Any]
    updated_at: Stamp | None


class Stored(Answer):
    """How many users were stored."""

    stored: int


IfMatch = Annotated[str | None, Header(description="The ETag of what you have read.")]


class Users:
    """The endpoints of users."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    def routes(self) -> APIRouter:
        router = APIRouter(tags=["people"])
        router.add_api_route("/users/batch", self.put_many, methods=["POST"], responses=problems())
        router.add_api_route("/users/{user}", self.get, methods=["GET"], responses=problems())
        router.add_api_route("/users/{user}", self.put, methods=["PUT"], responses=problems(412))
        router.add_api_route(
            "/users/{user}", self.patch, methods=["PATCH"], responses=problems(412), openapi_extra=_MERGE_PATCH
        )
        router.add_api_route("/users/{user}", self.delete, methods=["DELETE"], status_code=204, responses=problems(412))
        return router

    async def get(self, caller: MayRead, user: UserPath, response: Response) -> User:
        return _shown(await self._person(caller.tenant, UserId(user)), response)

    async def put(
        self, caller: MayManage, user: UserPath, body: UserBody, response: Response, if_match: IfMatch = None
    ) -> User:
        """Creates the user or replaces all of it; preferences stay as they are."""
        person = self._read(_own(user), body)
        stored = await self._edge.people.put(caller.tenant, person, version_of(if_match))
        if stored is None:
            raise Changed
        return _shown(stored, response)

    async def patch(
        self, caller: MayManage, user: UserPath, body: dict[str, Any], response: Response, if_match: IfMatch = None
    ) -> User:
        """Changes the fields that are named (RFC 7396): null takes one away, lists are replaced whole."""
        expected = version_of(if_match)
        for _ in range(_ATTEMPTS):
            known = await self._person(caller.tenant, UserId(user))
            if expected not in (None, known.version):
                raise Changed
            person = self._read(known.id, _patched(known, body))
            stored = await self._edge.people.put(caller.tenant, person, known.version)
            if stored is not None:
                return _shown(stored, response)
        raise Changed

    async def delete(self, caller: MayManage, user: UserPath, if_match: IfMatch = None) -> None:
        """Forgets the user and the addresses; what was sent stays on record."""
        await self._person(caller.tenant, UserId(user))
        if not await self._edge.people.delete(caller.tenant, UserId(user), version_of(if_match)):
            raise Changed

    async def put_many(self, caller: MayManage, body: UserBatch) -> Stored:
        """Up to 10,000 users, each created or replaced; all of them are valid, or none is stored."""
        seen = set[str]()
        for n, one in enumerate(body.users):
            if one.id in seen:
                raise Invalid("this user comes twice", pointer=f"/users/{n}/id")
            seen.add(one.id)
        people = [self._read(_own(one.id, f"/users/{n}/id"), one, f"/users/{n}") for n, one in enumerate(body.users)]
        await self._edge.people.put_many(caller.tenant, people)
        return Stored(stored=len(people))

    async def _person(self, tenant: TenantId, user: UserId) -> Person:
        person = await self._edge.people.get(tenant, user)
        if person is None:
            raise NotFound
        return person

    def _read(self, user: UserId, body: UserBody, under: str = "") -> Person:
        """Addresses in normal form. Raises Invalid."""
        if body.zone is not None:
            zone_named(body.zone, f"{under}/zone")
        addresses = {
            channel: tuple(self._normal(channel, _listed(body, name), f"{under}/{name}"))
            for name, channel in FIELDS.items()
        }
        return Person(user, addresses, body.zone, body.locale, body.attributes)

    def _normal(self, channel: Channel, texts: Iterable[str], under: str) -> Iterable[str]:
        """A channel that is not served here yet keeps its addresses as they came."""
        rules = self._edge.channels.get(channel)
        for n, text in enumerate(texts):
            yield text if rules is None else rules.normal(text, pointer=f"{under}/{n}")


def version_of(if_match: str | None) -> int | None:
    """The version in an ETag; one that is not ours matches nothing."""
    if if_match is None or if_match.strip() == "*":
        return None
    bare = if_match.strip().removeprefix("W/").strip('"')
    return int(bare) if bare.isascii() and bare.isdigit() and len(bare) < 10 else 0


def merged(target: Any, patch: Any) -> Any:
    """RFC 7396."""
    if not isinstance(patch, dict):
        return patch
    kept = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            kept.pop(name, None)
        else:
            kept[name] = merged(kept.get(name), value)
    return kept


def _listed(body: UserBody, name: str) -> list[str]:
    given: list[str] = getattr(body, name if name in body.model_fields_set else _LIKE.get(name, name))
    return given


def _patched(known: Person, patch: dict[str, Any]) -> UserBody:
    fields = _fields(known)
    for name, like in _LIKE.items():
        if fields[name] == fields[like]:
            del fields[name]
    try:
        return UserBody.model_validate(merged(fields, patch))
    except ValidationError as fault:
        raise SeveralInvalid(field_errors(fault.errors())) from fault


def _fields(person: Person) -> dict[str, Any]:
    addresses = {name: list(person.addresses.get(channel, ())) for name, channel in FIELDS.items()}
    own = {"zone": person.zone, "locale": person.locale, "attributes": dict(person.attributes)}
    return {**addresses, **own}


def _own(user: str, pointer: str = "?user") -> UserId:
    """Ids with a leading tilde are made here, for recipients without one."""
    if user.startswith("~"):
        raise Invalid("a user id does not start with ~", pointer=pointer)
    return UserId(user)


def _shown(person: Person, response: Response) -> User:
    response.headers["etag"] = f'"{person.version}"'
    return User(id=person.id, updated_at=person.updated_at, **_fields(person))

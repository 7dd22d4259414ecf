"""Who calls, and what they may do. Decided from the catalog in memory: a wrong key costs the database nothing."""

import hmac
from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from tidings.domain.catalog import ApiKey
from tidings.domain.ids import TenantId
from tidings.domain.keys import digest_of, public_id_of
from tidings.web.problems import ScopeMissing, Unauthorized

Scope = Literal["send", "read", "manage"]
SCOPES: Final[Mapping[Scope, str]] = {
    "send": "accept notifications, cancel them",
    "read": "read notifications, people, content and routing",
    "manage": "change people, content, routing and keys; replay dead letters",
}
_BEARER: Final = "bearer "
_KEY_MAX: Final = 200
_NOBODY: Final = bytes(32)
_KNOWN_MAX: Final = 10_000


class Caller(msgspec.Struct, frozen=True, gc=False):
    """``public_id`` names the key, and says nothing about its secret."""

    tenant: TenantId
    public_id: str
    scopes: frozenset[str]

    def must(self, scope: Scope) -> None:
        """Raises ScopeMissing."""
        if scope not in self.scopes:
            raise ScopeMissing(f"this call needs a key with the scope {scope!r}")


class Door:
    """Lets callers in. Who was let in is remembered as long as the keys are the same, because a proof costs more than
    the rest of the check; expiry is looked at every time."""

    def __init__(self, pepper: bytes) -> None:
        self._pepper = pepper
        self._keys: Mapping[str, ApiKey] = {}
        self._known: dict[bytes, ApiKey] = {}

    def admit(self, keys: Mapping[str, ApiKey], authorization: bytes | None, unix_s: float) -> Caller:
        """The caller of an ``Authorization`` header. Raises Unauthorized, the same for an unknown and for a wrong
        key."""
        if keys is not self._keys or len(self._known) > _KNOWN_MAX:
            self._keys, self._known = keys, {}
        key = self._known.get(authorization or b"") or self._prove(authorization or b"")
        if key.expires_at_unix_s is not None and key.expires_at_unix_s <= unix_s:
            raise Unauthorized
        return Caller(key.tenant, key.public_id, key.scopes)

    def _prove(self, authorization: bytes) -> ApiKey:
        plain = _bearer(authorization)
        key = self._keys.get(public_id_of(plain) or "")
        right = hmac.compare_digest(digest_of(plain, self._pepper), key.digest if key else _NOBODY)
        if key is None or not right:
            raise Unauthorized
        self._known[authorization] = key
        return key


def _bearer(authorization: bytes) -> str:
    text = authorization.decode("latin-1")
    if len(text) > _KEY_MAX or text[: len(_BEARER)].lower() != _BEARER:
        raise Unauthorized
    return text[len(_BEARER) :].strip()

"""API keys: ``td_live_<public id>_<secret>``, found by the public id and proven by a digest."""

import hmac
from base64 import b32encode
from typing import Final, Literal

import msgspec

_PREFIXES: Final = {True: "td_live_", False: "td_test_"}


class MadeKey(msgspec.Struct, frozen=True):
    """``plain`` is shown once and never stored."""

    plain: str
    public_id: str
    digest: bytes


def make_key(*, live: bool, public: bytes, secret: bytes, pepper: bytes) -> MadeKey:
    """``public`` and ``secret`` are random bytes; a 256-bit random secret needs no slow hash."""
    public_id = _text(public)
    plain = f"{_PREFIXES[live]}{public_id}_{_text(secret)}"
    return MadeKey(plain, public_id, digest_of(plain, pepper))


def digest_of(plain: str, pepper: bytes) -> bytes:
    return hmac.digest(pepper, plain.encode(), "sha256")


def public_id_of(plain: str) -> str | None:
    """The public id in what looks like a key; None for anything else."""
    prefix, rest = plain[:8], plain[8:]
    public_id, separator, secret = rest.partition("_")
    return public_id if prefix in _PREFIXES.values() and separator and public_id and secret else None


def kind_of(plain: str) -> Literal["live", "test"]:
    return "live" if plain.startswith(_PREFIXES[True]) else "test"


def _text(raw: bytes) -> str:
    return b32encode(raw).decode().rstrip("=").lower()

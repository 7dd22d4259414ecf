"""What every provider's webhook has in common: values from outside, made fit to be stored."""

import hashlib
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

RAW_BYTES: Final = 4096
"""As much of an event as is kept."""

NOT_JSON: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_TEXT_LENGTH: Final = 500
_KEY_LENGTH: Final = 128


def json_object(raw: bytes) -> dict[str, Any]:
    """Empty for what is no JSON object."""
    try:
        return msgspec.json.decode(raw, type=dict[str, Any])
    except NOT_JSON:
        return {}


def within(value: object, *names: str) -> object:
    """What lies at the end of this path of names; None where it breaks off."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def text(value: object) -> str | None:
    """Text that can be stored as it is: bounded, and without the NUL that PostgreSQL does not take."""
    return value.replace("\0", "")[:_TEXT_LENGTH] or None if isinstance(value, str) else None


def event_key(given: object, raw: bytes) -> str:
    """The provider's id of the event, else the event's own digest: the same event repeated has the same key."""
    key = text(given)
    return key if key and len(key) <= _KEY_LENGTH else hashlib.sha256(raw).hexdigest()


def instant(value: object) -> datetime | None:
    """``value`` is seconds since 1970, as a number or as digits."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return datetime.fromtimestamp(float(value), UTC)
    except (ValueError, OverflowError, OSError):
        return None

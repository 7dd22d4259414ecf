"""Errors as RFC 9457 problems.

This table alone knows which code has which HTTP status; ``docs/problems.md`` explains each of them.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from tidings.domain.errors import Refusal

CONTENT_TYPE: Final = "application/problem+json"


class Kind(msgspec.Struct, frozen=True):
    status: int
    title: str


KINDS: Final[Mapping[str, Kind]] = {
    "malformed_json": Kind(400, "The body is not usable JSON"),
    "unauthorized": Kind(401, "No key, or not a valid one"),
    "forged": Kind(401, "The signature is not the provider's"),
    "scope": Kind(403, "The key may not do this"),
    "not_found": Kind(404, "There is nothing here"),
    "method_not_allowed": Kind(405, "This address does not take that method"),
    "body_too_slow": Kind(408, "The body did not arrive in time"),
    "still_committing": Kind(409, "The same key is being committed right now"),
    "too_late": Kind(409, "It has left already"),
    "precondition_failed": Kind(412, "It was changed in the meantime"),
    "too_large": Kind(413, "The body is too large"),
    "unsupported_media_type": Kind(415, "The body must be application/json"),
    "invalid": Kind(422, "A field has a value that cannot be used"),
    "unknown_field": Kind(422, "There is no such field"),
    "missing_field": Kind(422, "A field is missing"),
    "nul_character": Kind(422, "NUL characters cannot be stored"),
    "no_usable_address": Kind(422, "The recipient has neither a user id nor a usable address"),
    "unknown_template": Kind(422, "There is no published template of that name"),
    "unknown_category": Kind(422, "There is no category of that name"),
    "unknown_channel": Kind(422, "There is no channel of that name here"),
    "unknown_sender": Kind(422, "There is no sender of that name"),
    "unknown_provider": Kind(422, "There is no provider of that name"),
    "unknown_event": Kind(422, "There is no event of that name"),
    "unknown_zone": Kind(422, "There is no time zone of that name"),
    "unknown_scope": Kind(422, "There is no scope of that name"),
    "no_such_time": Kind(422, "Clocks skip that time"),
    "too_far_ahead": Kind(422, "More than a year ahead"),
    "window_too_long": Kind(422, "More than seven days at once"),
    "template_fault": Kind(422, "The template does not compile"),
    "idempotency_key_reused": Kind(422, "The idempotency key came before with another body"),
    "not_supported_yet": Kind(422, "This is not supported yet"),
    "internal": Kind(500, "A fault of ours"),
    "unavailable": Kind(503, "A database did not answer in time"),
    "overloaded": Kind(503, "Too much is waiting"),
}
_UNLISTED: Final = "invalid"


class FieldError(msgspec.Struct, frozen=True):
    """``pointer`` is a JSON pointer into the request's body; in the query, ``?`` and the parameter's name."""

    pointer: str
    code: str
    detail: str


class Problem(msgspec.Struct, frozen=True):
    """What went wrong. ``code`` is stable; ``type`` leads to its explanation."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    request_id: str
    errors: tuple[FieldError, ...] = ()


class Malformed(Refusal):
    """The body is not JSON that can be read."""

    code = "malformed_json"


class Unauthorized(Refusal):
    """Give a valid key: `Authorization: Bearer td_live_…`."""

    code = "unauthorized"


class Forged(Refusal):
    """The signature of this call is missing or not the provider's."""

    code = "forged"


class ScopeMissing(Refusal):
    """This key does not have the scope that the call needs."""

    code = "scope"


class TooLarge(Refusal):
    """The body is larger than this call takes."""

    code = "too_large"


class TooSlow(Refusal):
    """The body did not arrive within the time allowed for it."""

    code = "body_too_slow"


class NotJson(Refusal):
    """Send the body as JSON, with `Content-Type: application/json`."""

    code = "unsupported_media_type"


class Changed(Refusal):
    """It was changed since you read it: read it again, and send its ETag in `If-Match`."""

    code = "precondition_failed"


class Overloaded(Refusal):
    """More is waiting to be stored than the shards can take. Repeat with the same idempotency key."""

    code = "overloaded"


class SeveralInvalid(Refusal):
    """Several fields have values that cannot be used. With one error alone this is that error."""

    code = "invalid"

    def __init__(self, errors: Sequence[FieldError]) -> None:
        super().__init__(errors[0].detail if len(errors) == 1 else None)
        self.errors = tuple(errors)
        self.code = errors[0].code if len(errors) == 1 else self.code


def problem_of(refusal: Refusal, request_id: str, under: str = "") -> Problem:
    """``under`` is the pointer of the part of the body that the refusal's own pointer starts from."""
    code = refusal.code if refusal.code in KINDS else _UNLISTED
    errors: tuple[FieldError, ...] = ()
    if isinstance(refusal, SeveralInvalid):
        errors = tuple(FieldError(under + one.pointer, one.code, one.detail) for one in refusal.errors)
    elif refusal.pointer is not None:
        errors = (FieldError(under + refusal.pointer, code, refusal.detail),)
    return problem(code, refusal.detail, request_id, errors)


def problem(code: str, detail: str, request_id: str, errors: tuple[FieldError, ...] = ()) -> Problem:
    kind = KINDS[code]
    return Problem(f"/docs#{code}", kind.title, kind.status, code, detail, request_id, errors)


_AT: Final = re.compile(r"^(?P<what>.*?)(?: - at `\$(?P<path>[^`]*)`)?$", re.DOTALL)
_NAMED: Final = re.compile(r"^Object (?P<fault>contains unknown|missing required) field `(?P<name>.*)`$", re.DOTALL)
_STEP: Final = re.compile(r"\.([^.\[]+)|\[(\d+)\]")


def field_error(fault: msgspec.ValidationError) -> FieldError:
    """The pointer, code and detail in a message of msgspec's. Below a free key its path stops: so does the pointer."""
    found = _AT.match(str(fault))
    what, path = (found["what"], found["path"] or "") if found else (str(fault), "")
    pointer = "".join(f"/{escaped(name or number)}" for name, number in _STEP.findall(path.partition("[...]")[0]))
    named = _NAMED.match(what)
    if named is None:
        return FieldError(pointer, "invalid", what)
    code = "unknown_field" if named["fault"].startswith("contains") else "missing_field"
    return FieldError(f"{pointer}/{escaped(named['name'])}", code, KINDS[code].title)


def escaped(name: str) -> str:
    """One step of a JSON pointer (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1")

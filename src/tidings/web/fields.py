"""What the broad API's requests and answers are made of."""

from datetime import datetime
from typing import Annotated, Any, Final
from urllib.parse import unquote
from uuid import UUID

from fastapi import Depends, Path, Request
from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    StringConstraints,
    WithJsonSchema,
)

from tidings.web.auth import Caller, Scope
from tidings.web.problems import Problem
from tidings.web.times import stamp

LIST_DEFAULT: Final = 50
LIST_MAX: Final = 200


class Body(BaseModel):
    """Part of a request: unknown fields and wrong types are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, populate_by_name=True)


class Answer(BaseModel):
    """Part of an answer."""

    model_config = ConfigDict(populate_by_name=True)


def decoded(raw: Any) -> Any:
    """Path parameters come percent-encoded. What is not UTF-8 is no id of ours."""
    return unquote(raw, errors="strict") if isinstance(raw, str) else raw


def _unspaced(raw: Any) -> Any:
    """A "+" that was not encoded reached us as a space."""
    return raw.replace(" ", "+") if isinstance(raw, str) else raw


_NO_NUL: Final = r"^[^\x00]*$"
_NAME: Final = StringConstraints(min_length=1, max_length=128, pattern=_NO_NUL)

Name = Annotated[str, _NAME]
Text = Annotated[str, StringConstraints(max_length=255, pattern=_NO_NUL)]
NamePath = Annotated[str, _NAME, BeforeValidator(decoded)]
UserPath = Annotated[str, _NAME, BeforeValidator(decoded), Path(description="A user id, percent-encoded.")]
PathId = Annotated[UUID, Path(description="An id.")]
Instant = Annotated[AwareDatetime, BeforeValidator(_unspaced)]
Stamp = Annotated[
    datetime, PlainSerializer(stamp, return_type=str), WithJsonSchema({"type": "string", "format": "date-time"})
]


def may(scope: Scope) -> Any:
    """The caller, who must have the scope."""

    def caller_of(request: Request) -> Caller:
        caller: Caller = request.state.caller
        caller.must(scope)
        return caller

    return Depends(caller_of)


MaySend = Annotated[Caller, may("send")]
MayRead = Annotated[Caller, may("read")]
MayManage = Annotated[Caller, may("manage")]


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """How an endpoint's refusals are documented; the common ones come with it."""
    content = {"application/problem+json": {"schema": {"$ref": f"#/components/schemas/{Problem.__name__}"}}}
    refusal = {"description": "A problem (RFC 9457).", "content": content}
    return dict.fromkeys(sorted({400, 401, 403, 404, 408, 413, 415, 422, 500, 503, *statuses}), refusal)

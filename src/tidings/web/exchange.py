"""One HTTP exchange on bare ASGI: the head, a body of bounded size and time, an answer."""

import asyncio
import re
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Iterable, MutableMapping
from random import uniform
from typing import Any, Final

import msgspec

from tidings.web.problems import CONTENT_TYPE as PROBLEM_TYPE
from tidings.web.problems import NotJson, Problem, TooLarge, TooSlow

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

API: Final = "/api/v1"
JSON: Final = b"application/json"
MERGE_PATCH: Final = b"application/merge-patch+json"
_SANE_ID: Final = re.compile(rb"[A-Za-z0-9._:/+=-]{1,128}").fullmatch
_RETRY_AFTER_S: Final = (1.0, 4.0)
encoded: Final = msgspec.json.Encoder().encode


class ClientGone(Exception):
    """Nobody is there any more to be answered."""


class Head(msgspec.Struct, gc=False):
    """What the edge looks at in a request's header. ``key`` is the idempotency key as it came."""

    request_id: str
    authorization: bytes | None = None
    key: bytes | None = None
    content_type: bytes = b""
    content_length: int = 0


def read_head(headers: Iterable[tuple[bytes, bytes]]) -> Head:
    """One pass; a request id that is absent or not sane is replaced."""
    head = Head("")
    for name, value in headers:
        match name:
            case b"authorization":
                head.authorization = value
            case b"idempotency-key" | b"x-idempotency-key":
                head.key = value
            case b"content-type":
                head.content_type = value
            case b"content-length":
                head.content_length = int(value) if value.isdigit() else 0
            case b"x-request-id" if _SANE_ID(value):
                head.request_id = value.decode()
    if not head.request_id:
        head.request_id = secrets.token_hex(12)
    return head


def must_be_json(head: Head, also: bytes = JSON) -> None:
    """``also`` is another media type that the call takes. Raises NotJson."""
    if head.content_type != JSON and head.content_type.partition(b";")[0].strip().lower() not in (JSON, also):
        raise NotJson


async def read_body(receive: Receive, head: Head, most_bytes: int, deadline_s: float) -> bytes:
    """The whole body. Raises TooLarge before and while reading, TooSlow, ClientGone."""
    if head.content_length > most_bytes:
        raise TooLarge(f"this call takes at most {most_bytes} bytes")
    return await _within(deadline_s, _read(receive, most_bytes))


async def _within(deadline_s: float, reading: Coroutine[Any, Any, bytes]) -> bytes:
    """Raises TooSlow. As ``asyncio.timeout``, at a tenth of its price: this is on the hot path."""
    task, late = asyncio.current_task(), False

    def cut_off() -> None:
        nonlocal late
        late = task is not None and task.cancel()

    timer = asyncio.get_running_loop().call_later(deadline_s, cut_off)
    try:
        return await reading
    except asyncio.CancelledError:
        if not late or task is None or task.uncancel() > 0:
            raise
        raise TooSlow from None
    finally:
        timer.cancel()


async def _read(receive: Receive, most_bytes: int) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        body = body + message["body"] if body else message["body"]
        more = message["more_body"]
        if len(body) > most_bytes:
            raise TooLarge(f"this call takes at most {most_bytes} bytes")
    return body


def replayed(body: bytes) -> Receive:
    """A ``receive`` for a framework behind us: the body that was read already."""
    messages = iter(({"type": "http.request", "body": body, "more_body": False},))

    async def receive() -> Message:
        return next(messages, {"type": "http.disconnect"})

    return receive


async def answer(send: Send, status: int, content: bytes, headers: Headers) -> None:
    headers.append((b"content-length", b"%d" % len(content)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


async def answer_json(send: Send, status: int, value: Any, request_id: str, more: Headers | None = None) -> None:
    headers = [(b"content-type", JSON), (b"x-request-id", request_id.encode()), *(more or ())]
    await answer(send, status, encoded(value), headers)


async def answer_problem(send: Send, problem: Problem) -> None:
    status, headers, content = written_problem(problem)
    await answer(send, status, content, headers)


def written_problem(problem: Problem) -> tuple[int, Headers, bytes]:
    """Status, headers and body."""
    headers = [(b"content-type", PROBLEM_TYPE.encode()), (b"x-request-id", problem.request_id.encode())]
    headers += [(name.encode(), value.encode()) for name, value in problem_headers(problem).items()]
    return problem.status, headers, encoded(problem)


def problem_headers(problem: Problem) -> dict[str, str]:
    """Retry-After is jittered, so that those who were refused together do not come back together."""
    match problem.status:
        case 429 | 503:
            return {"retry-after": str(round(uniform(*_RETRY_AFTER_S)))}
        case 401:
            return {"www-authenticate": "Bearer"}
        case 408:
            return {"connection": "close"}
        case _:
            return {}


async def answer_nothing(send: Send, request_id: str) -> None:
    """204: all went well, and there is nothing to say."""
    await send(
        {"type": "http.response.start", "status": 204, "headers": [(b"x-request-id", request_id.encode())]}
    )  # fmt: skip
    await send({"type": "http.response.body", "body": b""})

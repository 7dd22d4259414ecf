"""The ASGI application: the hot endpoints on bare ASGI, everything else through FastAPI, one set of rules for both.

A request id on every answer, errors as problems, bodies bounded in size, time and depth, a key for all of the API.
"""

from typing import Final

from fastapi import FastAPI

from tidings.domain.errors import Refusal
from tidings.web.auth import Door
from tidings.web.broad import build_broad
from tidings.web.edge import Edge
from tidings.web.exchange import (
    API,
    JSON,
    MERGE_PATCH,
    ClientGone,
    Head,
    Message,
    Receive,
    Scope,
    Send,
    answer_problem,
    must_be_json,
    read_body,
    read_head,
    replayed,
)
from tidings.web.json_body import ANYTHING, read_json
from tidings.web.problems import problem, problem_of
from tidings.web.receipts import PREFIX as RECEIPTS
from tidings.web.receipts import TakingReceipts
from tidings.web.send import Sending

_NO_KEY: Final = frozenset({f"{API}/openapi.json"})
_LARGE: Final = frozenset({f"{API}/users/batch"})
_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH"})


class App:
    """The ASGI callable; ``edge`` is what it was built from."""

    def __init__(self, edge: Edge, broad: FastAPI) -> None:
        self.edge = edge
        self._broad = broad
        self._door = Door(edge.pepper)
        self._sending = Sending(edge, self._door)
        self._receipts = TakingReceipts(edge)
        self.short = {f"{API}/notifications".encode(): self._sending}
        self._hot = {f"{API}/notifications": self._sending.one, f"{API}/notifications/batch": self._sending.batch}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._broad(scope, receive, send)
        head = read_head(scope["headers"])
        try:
            await self._exchange(scope, head, receive, send)
        except Refusal as refusal:
            await answer_problem(send, problem_of(refusal, head.request_id))
        except ClientGone:
            pass
        except Exception as fault:  # the top of every request
            self.edge.emit(self.edge.failure("http", fault))
            await answer_problem(send, problem("internal", "a fault of ours; it is on record", head.request_id))
        return None

    async def _exchange(self, scope: Scope, head: Head, receive: Receive, send: Send) -> None:
        path, posted = scope["path"], scope["method"] == "POST"
        if posted and path in self._hot:
            await self._hot[path](head, receive, send)
        elif posted and path.startswith(RECEIPTS):
            await self._receipts.take(scope, head, receive, send)
        elif scope["method"] == "GET" and path.startswith(RECEIPTS):
            await self._receipts.confirm(scope, head, send)
        else:
            await self._through_fastapi(scope, head, receive, send)

    async def _through_fastapi(self, scope: Scope, head: Head, receive: Receive, send: Send) -> None:
        """Paths are matched as they came, still encoded, so that a user id may hold a slash."""
        state = scope.setdefault("state", {})
        state["request_id"] = head.request_id
        if scope["path"].startswith(API) and scope["path"] not in _NO_KEY:
            edge = self.edge
            now_s = edge.clock.now().timestamp()
            state["caller"] = self._door.admit(edge.catalogs().keys, head.authorization, now_s)
        body = await self._body(scope, head, receive) if scope["method"] in _WITH_BODY else b""
        raw = scope["raw_path"].decode("latin-1")
        try:
            await self._broad({**scope, "path": raw}, replayed(body), _identified(send, head.request_id))
        except Exception as fault:  # the top of a request that FastAPI has answered already
            self.edge.emit(self.edge.failure("http", fault))

    async def _body(self, scope: Scope, head: Head, receive: Receive) -> bytes:
        """Read, and found to be JSON that does no harm."""
        limits = self.edge.limits
        most = limits.batch_body_bytes if scope["path"] in _LARGE else limits.body_bytes
        body = await read_body(receive, head, most, limits.body_deadline_s)
        if body:
            must_be_json(head, MERGE_PATCH if scope["method"] == "PATCH" else JSON)
            read_json(body, ANYTHING)
        return body


def _identified(send: Send, request_id: str) -> Send:
    """Adds the request's id to the answer."""

    async def send_with_id(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
        await send(message)

    return send_with_id


def build_app(edge: Edge) -> App:
    return App(edge, build_broad(edge))

"""The way every sending call over HTTP goes, whatever the provider: fault, check, ledger, webhooks, answer."""

import asyncio
import contextlib
from typing import Final

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import Receive, Scope, Send

from tidings.sandbox.faults import TAKES, Fault, FaultKind
from tidings.sandbox.intake import Intake
from tidings.sandbox.listener import gone, reset
from tidings.sandbox.standin import Answer, HttpStandIn, Look

BROKEN: Final = 500
_ENDED: Final = frozenset({FaultKind.down, FaultKind.reset})
_OF_ALL_CALLS: Final = frozenset({FaultKind.rate_limit, FaultKind.error, FaultKind.garbage, FaultKind.unauthorized})
"""Other faults are about a message: whoever only looks meets none."""


class Front:
    """An ASGI application for the sending paths of one stand-in."""

    def __init__(self, standin: HttpStandIn, intake: Intake) -> None:
        self._standin = standin
        self._intake = intake

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request, fault = Request(scope, receive), self._intake.asked()
        try:
            if fault is None:
                answer = self._serve(request, await self._body(request))
                await respond(answer)(scope, receive, send)
            elif (wrong := await self._misbehave(request, fault)) is not None:
                await respond(wrong)(scope, receive, send)
        except ClientDisconnect:
            return

    def enquiry(self, look: Look) -> "Enquiry":
        return Enquiry(self._standin, self._intake, look)

    async def _body(self, request: Request) -> bytes | None:
        """None when it is too large: then the rest stays unread."""
        limit, chunks, size = self._standin.limit_bytes, list[bytes](), 0
        if int(request.headers.get("content-length", 0)) > limit:
            return None
        async for chunk in request.stream():
            chunks.append(chunk)
            size += len(chunk)
            if size > limit:
                return None
        return b"".join(chunks)

    def _serve(self, request: Request, body: bytes | None, told: str | None = None) -> Answer:
        """What the real one would answer. ``told`` is noted instead, when the client hears otherwise."""
        read = self._standin.error(413) if body is None else self._standin.read(request, body)
        if isinstance(read, Answer):
            self._intake.refused()
            return read
        self._intake.took(read.messages, told or str(read.answer.status))
        return read.answer

    async def _misbehave(self, request: Request, fault: Fault) -> Answer | None:
        """The answer under this fault; None when there was none, and never will be."""
        if fault.fault == FaultKind.down:
            self._intake.refused()
            await reset(request)
            return None
        body = await self._body(request)
        if fault.fault in TAKES:
            return await self._take_and_fail(request, body, fault)
        self._intake.refused()
        await _pause(request, fault.delay_s)
        if fault.fault == FaultKind.reset:
            await reset(request)
            return None
        return self._standin.misbehave(fault)

    async def _take_and_fail(self, request: Request, body: bytes | None, fault: Fault) -> Answer | None:
        """In the ledger first. A call that the real one would refuse is refused as ever: it cannot be taken."""
        answer = self._serve(request, body, _told(fault))
        await _pause(request, fault.delay_s)
        if answer.status >= 400 or fault.fault == FaultKind.slow:
            return answer
        if fault.fault == FaultKind.accept_then_error:
            return self._standin.misbehave(fault)
        await (gone(request.receive) if fault.fault == FaultKind.accept_then_hang else reset(request))
        return None


class Enquiry:
    """An ASGI application for what a customer may ask about its own account: nothing is taken, and nothing counted."""

    def __init__(self, standin: HttpStandIn, intake: Intake, look: Look) -> None:
        self._standin = standin
        self._intake = intake
        self._look = look

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request, fault = Request(scope, receive), self._intake.fault()
        if fault is not None and fault.fault in _ENDED:
            return await reset(request)
        try:
            if fault is not None:
                await _pause(request, fault.delay_s)
            if fault is None or fault.fault not in _OF_ALL_CALLS:
                answer = self._look(request)
            else:
                answer = self._standin.misbehave(fault)
            await respond(answer)(scope, receive, send)
        except ClientDisconnect:
            return None


def _told(fault: Fault) -> str | None:
    """What the ledger notes of this answer; None: its status."""
    if fault.fault == FaultKind.accept_then_error:
        return str(fault.status or BROKEN)
    return TAKES[fault.fault]


async def _pause(request: Request, delay_s: float) -> None:
    """Raises ClientDisconnect as soon as the client gives up waiting."""
    if delay_s:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(gone(request.receive), delay_s)
            raise ClientDisconnect


def provider_app(standin: HttpStandIn, front: Front) -> Router:
    """Everything that a provider answers, at the paths that it really has."""
    wrong_method = respond(standin.error(405))
    return Router(
        [
            *(Route(path, front, methods=["POST"]) for path in standin.paths),
            *(Route(path, front.enquiry(look), methods=["GET"]) for path, look in standin.account().items()),
            *standin.routes(),
            *(Route(path, wrong_method) for path in standin.paths),
        ],
        redirect_slashes=False,
        default=respond(standin.error(404)),
    )


def respond(answer: Answer) -> Response:
    return Response(answer.body, answer.status, answer.headers, answer.media_type)

"""Everything but the hot endpoints, as a FastAPI application."""

from typing import Any, Final, cast

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Route

from tidings import __version__
from tidings.domain.errors import Refusal
from tidings.web.content import Contents
from tidings.web.dead_letters import DeadLetters
from tidings.web.docs import page
from tidings.web.doubts import Doubts
from tidings.web.edge import Edge
from tidings.web.exchange import API, encoded, problem_headers
from tidings.web.history import History
from tidings.web.keys import Keys
from tidings.web.openapi import with_hot
from tidings.web.people import Users
from tidings.web.problems import CONTENT_TYPE, KINDS, Problem, SeveralInvalid, problem, problem_of
from tidings.web.providers import Providers
from tidings.web.rollouts import Rollouts
from tidings.web.routing import Routing
from tidings.web.suppressions import Suppressions
from tidings.web.validation import field_errors, no_body, no_such_id
from tidings.web.webhooks import Webhooks

_DESCRIPTION: Final = (
    "Says whom to tell what; answers what became of it, and why. Every call needs `Authorization: Bearer td_live_…`; "
    "errors are problems (RFC 9457) with a stable code."
)
_PARTS: Final = (
    History,
    Users,
    Contents,
    Providers,
    Routing,
    Rollouts,
    Suppressions,
    Doubts,
    Webhooks,
    Keys,
    DeadLetters,
)
_OF_STATUS: Final = {400: "malformed_json", 404: "not_found", 405: "method_not_allowed"}
_SECURITY: Final = {
    "default-src": "'none'",
    "style-src": "'unsafe-inline'",
    "frame-ancestors": "'none'",
    "base-uri": "'none'",
}


class Broad(FastAPI):
    """Its document describes the hot endpoints too."""

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            self.openapi_schema = with_hot(super().openapi())
        return self.openapi_schema


def build_broad(edge: Edge) -> FastAPI:
    app = Broad(
        title="Tidings",
        version=__version__,
        description=_DESCRIPTION,
        openapi_url=f"{API}/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers={
            Refusal: _refused,
            RequestValidationError: _not_valid,
            HTTPException: _no_such_call,
            Exception: _broken,
        },
    )
    for part in _PARTS:
        app.include_router(part(edge).routes(), prefix=API)
    app.router.routes.append(Route("/docs", _docs))
    for path in ("/healthz", "/readyz", "/metrics"):
        app.router.routes.append(Route(path, _for_machines(edge)))
    return app


def _for_machines(edge: Edge) -> Any:
    async def answer(request: Request) -> Response:
        said = await edge.ops.answer(request.url.path)
        if said is None:
            raise HTTPException(404)
        return Response(said.body, said.status, media_type=said.content_type)

    return answer


async def _docs(request: Request) -> Response:
    policy = "; ".join(f"{name} {value}" for name, value in _SECURITY.items())
    headers = {"content-security-policy": policy, "x-content-type-options": "nosniff"}
    return Response(page(cast(Broad, request.app).openapi()), media_type="text/html", headers=headers)


def _answered(problem_: Problem) -> Response:
    return Response(encoded(problem_), problem_.status, problem_headers(problem_), CONTENT_TYPE)


async def _refused(request: Request, fault: Exception) -> Response:
    assert isinstance(fault, Refusal)
    return _answered(problem_of(fault, request.state.request_id))


async def _not_valid(request: Request, fault: Exception) -> Response:
    assert isinstance(fault, RequestValidationError)
    faults, request_id = fault.errors(), request.state.request_id
    if no_such_id(faults):
        return _answered(problem("not_found", KINDS["not_found"].title, request_id))
    if no_body(faults):
        return _answered(problem("malformed_json", "there is no body", request_id))
    return _answered(problem_of(SeveralInvalid(field_errors(faults)), request_id))


async def _no_such_call(request: Request, fault: Exception) -> Response:
    assert isinstance(fault, HTTPException)
    code = _OF_STATUS.get(fault.status_code, "internal")
    answer = _answered(problem(code, KINDS[code].title, request.state.request_id))
    answer.headers.update(fault.headers or {})
    return answer


async def _broken(request: Request, fault: Exception) -> Response:
    return _answered(problem("internal", "a fault of ours; it is on record", request.state.request_id))

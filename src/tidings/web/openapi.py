"""The OpenAPI 3.1 document: what FastAPI knows of the broad API, and the hot endpoints beside it."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from tidings.web.exchange import API
from tidings.web.problems import CONTENT_TYPE, KINDS, Problem
from tidings.web.requests import BatchAnswer, BatchRequest, NotificationAnswer, NotificationRequest

_SCHEMAS: Final = "#/components/schemas/"
_KEY: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "1 to 255 printable characters. The same key with the same body gets the same answer for 72 hours.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
}
_REFUSALS: Final = (400, 401, 403, 408, 409, 413, 415, 422, 500, 503)


def with_hot(document: dict[str, Any]) -> dict[str, Any]:
    """The document with the hot endpoints and their schemas in it."""
    types = (NotificationRequest, NotificationAnswer, BatchRequest, BatchAnswer, Problem)
    _, components = msgspec.json.schema_components(types, ref_template=_SCHEMAS + "{name}")
    document.setdefault("components", {}).setdefault("schemas", {}).update(components)
    document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    document["security"] = [{"key": []}]
    paths: dict[str, Any] = document["paths"]
    one = _call("Accept a notification", "NotificationRequest", _either("NotificationAnswer", "BatchAnswer"))
    paths.setdefault(f"{API}/notifications", {})["post"] = one
    batch = _call("Accept many notifications", "BatchRequest", _ref("BatchAnswer"))
    paths[f"{API}/notifications/batch"] = {"post": batch}
    paths[f"{API}/receipts/{{provider}}/{{account}}"] = {"post": _receipts()}
    return document


def _call(summary: str, body: str, answer: Mapping[str, Any]) -> dict[str, Any]:
    replayed = {"description": "The key came before: this is the first answer's id.", "schema": {"const": "true"}}
    return {
        "tags": ["notifications"],
        "summary": summary,
        "description": "202 means that it is stored durably. A refused request has stored nothing.",
        "operationId": summary.lower().replace(" ", "_"),
        "parameters": [_KEY],
        "requestBody": {"required": True, "content": {"application/json": {"schema": _ref(body)}}},
        "responses": {
            "202": {
                "description": "Accepted.",
                "headers": {"Idempotent-Replayed": replayed},
                "content": {"application/json": {"schema": answer}},
            },
            **_problems(_REFUSALS),
        },
    }


def _receipts() -> dict[str, Any]:
    names = ("provider", "account")
    return {
        "tags": ["receipts"],
        "summary": "For the webhooks of providers",
        "description": "The signature in the call is checked; the address itself is a secret, and needs no key.",
        "operationId": "take_receipts",
        "security": [],
        "parameters": [{"name": one, "in": "path", "required": True, "schema": {"type": "string"}} for one in names],
        "requestBody": {"required": True, "content": {"*/*": {"schema": {}}}},
        "responses": {"204": {"description": "Filed."}, **_problems((401, 404, 408, 413, 500, 503))},
    }


def _problems(statuses: tuple[int, ...]) -> dict[str, Any]:
    content = {CONTENT_TYPE: {"schema": _ref(Problem.__name__)}}
    return {str(status): {"description": _titles(status), "content": content} for status in statuses}


def _titles(status: int) -> str:
    return "; ".join(f"`{code}`: {kind.title}" for code, kind in KINDS.items() if kind.status == status)


def _ref(name: str) -> dict[str, str]:
    return {"$ref": _SCHEMAS + name}


def _either(*names: str) -> dict[str, Any]:
    return {"anyOf": [_ref(name) for name in names]}

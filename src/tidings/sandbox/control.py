"""The sandbox's own API under ``/_sandbox``: the ledger, the counts, the faults, the webhooks."""

from collections.abc import Mapping
from typing import Any, Final, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tidings.sandbox.faults import Fault, Faults
from tidings.sandbox.ledger import Entry, Ledger, Wanted
from tidings.sandbox.receipts import Postman, Receipts

MOST_MESSAGES: Final = 1000
MOST_REFERENCES: Final = 100_000
_DEFAULT_LIMIT: Final = 50

T = TypeVar("T")


class Wrong(Exception):
    """The call cannot be done; ``status`` is the HTTP status of the answer."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


class Control:
    """The endpoints. ``postmen`` and ``faults`` go by the name of the provider."""

    def __init__(self, ledger: Ledger, faults: Faults, postmen: Mapping[str, Postman]) -> None:
        self._ledger = ledger
        self._faults = faults
        self._postmen = postmen

    def routes(self) -> list[Route]:
        return [
            Route("/_sandbox/messages", self.messages, methods=["GET"]),
            Route("/_sandbox/messages", self.forget, methods=["DELETE"]),
            Route("/_sandbox/references", self.references, methods=["GET"]),
            Route("/_sandbox/stats", self.stats, methods=["GET"]),
            Route("/_sandbox/faults", self.faults, methods=["GET"]),
            Route("/_sandbox/faults/{provider}", self.put_fault, methods=["PUT"]),
            Route("/_sandbox/faults/{provider}", self.clear_fault, methods=["DELETE"]),
            Route("/_sandbox/receipts/{provider}", self.receipts, methods=["GET"]),
            Route("/_sandbox/receipts/{provider}", self.put_receipts, methods=["PUT"]),
        ]

    async def messages(self, request: Request) -> Response:
        query = request.query_params
        wanted = Wanted(query.get("provider"), query.get("to"), query.get("reference"))
        entries, next_ = self._ledger.find(wanted, number(request, "after", 0), _limit(request, MOST_MESSAGES))
        return reply({"items": [item(entry) for entry in entries], "next": next_})

    async def forget(self, _request: Request) -> Response:
        self._ledger.forget()
        return Response(status_code=204)

    async def references(self, request: Request) -> Response:
        limit = _limit(request, MOST_REFERENCES)
        found, next_ = self._ledger.references(number(request, "after", 0), limit)
        return reply({"items": found, "next": next_})

    async def stats(self, _request: Request) -> Response:
        return reply(
            {
                name: msgspec.structs.asdict(book.stats()) | {"webhooks": self._postmen[name].posted()}
                for name, book in self._ledger.books.items()
            }
        )

    async def faults(self, _request: Request) -> Response:
        return reply({name: self._faults.at(name) for name in self._postmen})

    async def put_fault(self, request: Request) -> Response:
        provider, fault = self._provider(request), await _body(request, Fault)
        await self._faults.put(provider, fault)
        return reply(fault)

    async def clear_fault(self, request: Request) -> Response:
        await self._faults.clear(self._provider(request))
        return Response(status_code=204)

    async def receipts(self, request: Request) -> Response:
        return reply(self._postmen[self._provider(request)].receipts)

    async def put_receipts(self, request: Request) -> Response:
        postman = self._postmen[self._provider(request)]
        postman.receipts = await _body(request, Receipts)
        return reply(postman.receipts)

    def _provider(self, request: Request) -> str:
        name: str = request.path_params["provider"]
        if name not in self._postmen:
            raise Wrong(404, f"there is no provider {name!r} here, but {', '.join(self._postmen)}")
        return name


def item(entry: Entry) -> dict[str, object]:
    """An entry as the ledger shows it."""
    return {
        "provider": entry.provider,
        "to": ", ".join(entry.message.recipients),
        "reference": entry.message.reference,
        "content": entry.message.content,
        "accepted_at": instant(entry),
        "answered": entry.answered,
    }


def instant(entry: Entry) -> str:
    """RFC 3339 with milliseconds and ``Z``."""
    return entry.accepted_at.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def reply(value: object) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")


async def problem(_request: Request, wrong: Exception) -> Response:
    """The answer to ``Wrong``, as RFC 9457 has it."""
    assert isinstance(wrong, Wrong)
    body = {
        "type": "about:blank",
        "title": "The sandbox cannot do this",
        "status": wrong.status,
        "detail": wrong.detail,
    }
    return Response(msgspec.json.encode(body), wrong.status, media_type="application/problem+json")


async def _body(request: Request, type_: type[T]) -> T:
    try:
        return msgspec.json.decode(await request.body(), type=type_)
    except msgspec.ValidationError as error:
        raise Wrong(422, str(error)) from error
    except msgspec.DecodeError as error:
        raise Wrong(400, str(error)) from error


def number(request: Request, name: str, default: int) -> int:
    text: Any = request.query_params.get(name, default)
    try:
        return int(text)
    except ValueError:
        raise Wrong(422, f"{name} is not a number") from None


def _limit(request: Request, most: int) -> int:
    limit = number(request, "limit", _DEFAULT_LIMIT)
    if not 1 <= limit <= most:
        raise Wrong(422, f"limit is from 1 to {most}")
    return limit

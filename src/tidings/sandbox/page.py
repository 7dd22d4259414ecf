"""The page at ``/``: messages as they arrive and as people see them, e-mails where they can do no harm."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tidings.sandbox.control import Wrong, instant, item, number, reply
from tidings.sandbox.faults import Faults
from tidings.sandbox.ledger import Entry, Ledger, Wanted
from tidings.sandbox.receipts import Postman
from tidings.sandbox.standin import StandIn

MOST_SHOWN: Final = 100
SNIPPET_CHARS: Final = 120
_STATIC: Final = Path(__file__).parent / "static"
_SCRIPTS: Final = ("page.js", "elements.js", "message.js", "providers.js")
_FILES: Final = {"/": "index.html", **{f"/_page/{name}": name for name in ("page.css", "message.css", *_SCRIPTS)}}
_TYPES: Final = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
_HARMLESS: Final = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-cache"}
_PAGE_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; frame-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# An e-mail brings its own styles and nothing else: no script, no request to anywhere, no origin.
_MAIL_POLICY: Final = (
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'self'"
)


class Page:
    """The endpoints of the page. ``standins`` and ``postmen`` go by the name of the provider."""

    def __init__(
        self, ledger: Ledger, faults: Faults, standins: Mapping[str, StandIn], postmen: Mapping[str, Postman]
    ) -> None:
        self._ledger = ledger
        self._faults = faults
        self._standins = standins
        self._postmen = postmen

    def routes(self) -> list[Route]:
        return [
            *(Route(path, _file(_STATIC / name)) for path, name in _FILES.items()),
            Route("/_page/feed", self.feed),
            Route("/_page/messages/{id:int}", self.message),
            Route("/_page/messages/{id:int}/html", self.html),
        ]

    async def feed(self, request: Request) -> Response:
        """What came after ``after``, of one provider or of all, the newest 100 at most; and how the providers do."""
        wanted = Wanted(request.query_params.get("provider") or None)
        newest = self._ledger.newest(wanted, number(request, "after", 0), MOST_SHOWN)
        return reply(
            {
                "first": self._ledger.first,
                "last": self._ledger.last,
                "items": [self._line(entry) for entry in reversed(newest)],
                "providers": [self._provider(name) for name in self._standins],
            }
        )

    async def message(self, request: Request) -> Response:
        entry = self._entry(request)
        return reply(item(entry) | {"happened": entry.happened(datetime.now(UTC))})

    async def html(self, request: Request) -> Response:
        html = self._entry(request).message.content.get("html", "")
        return Response(
            str(html), headers=_HARMLESS | {"Content-Security-Policy": _MAIL_POLICY}, media_type="text/html"
        )

    def _entry(self, request: Request) -> Entry:
        if entry := self._ledger.get(request.path_params["id"]):
            return entry
        raise Wrong(404, "this message is forgotten")

    def _line(self, entry: Entry) -> dict[str, object]:
        content = entry.message.content
        return {
            "id": entry.id,
            "provider": entry.provider,
            "channel": self._standins[entry.provider].channel,
            "to": ", ".join(entry.message.recipients),
            "title": content.get("subject") or content.get("title") or "",
            "snippet": _snippet(content),
            "accepted_at": instant(entry),
            "answered": entry.answered,
        }

    def _provider(self, name: str) -> dict[str, object]:
        return {
            "name": name,
            "channel": self._standins[name].channel,
            "stats": self._ledger.books[name].stats(),
            "fault": self._faults.at(name),
            "receipts": self._postmen[name].receipts if self._standins[name].reports else None,
        }


def _snippet(content: Mapping[str, object]) -> str:
    """The beginning of what it says; of a template that the provider fills in, the name."""
    template = content.get("template")
    name = template.get("name") if isinstance(template, Mapping) else None
    return str(content.get("text") or content.get("body") or name or "")[:SNIPPET_CHARS]


def _file(path: Path) -> Response:
    headers = _HARMLESS | {"Content-Security-Policy": _PAGE_POLICY}
    return Response(path.read_bytes(), headers=headers, media_type=_TYPES[path.suffix])

"""The page at ``/``: messages as they arrive, e-mails shown where they can do no harm."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tidings.sandbox.control import Wrong, instant, item, number, reply
from tidings.sandbox.faults import Faults
from tidings.sandbox.ledger import Entry, Ledger
from tidings.sandbox.standin import StandIn

MOST_SHOWN: Final = 100
SNIPPET_CHARS: Final = 120
_STATIC: Final = Path(__file__).parent / "static"
_FILES: Final = {"/": "index.html", "/_page/page.css": "page.css", "/_page/page.js": "page.js"}
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
    """The endpoints of the page."""

    def __init__(self, ledger: Ledger, faults: Faults, standins: Mapping[str, StandIn]) -> None:
        self._ledger = ledger
        self._faults = faults
        self._standins = standins

    def routes(self) -> list[Route]:
        return [
            *(Route(path, _file(_STATIC / name)) for path, name in _FILES.items()),
            Route("/_page/feed", self.feed),
            Route("/_page/messages/{id:int}", self.message),
            Route("/_page/messages/{id:int}/html", self.html),
        ]

    async def feed(self, request: Request) -> Response:
        """What came after ``after``, the newest 100 at most, and how the providers do."""
        after = number(request, "after", 0)
        ids = range(max(after + 1, self._ledger.first, self._ledger.last + 1 - MOST_SHOWN), self._ledger.last + 1)
        entries = [entry for id_ in ids if (entry := self._ledger.get(id_))]
        return reply(
            {
                "first": self._ledger.first,
                "last": self._ledger.last,
                "items": [self._line(entry) for entry in entries],
                "providers": [self._provider(name) for name in self._standins],
            }
        )

    async def message(self, request: Request) -> Response:
        return reply(item(self._entry(request)))

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
            "snippet": str(content.get("text") or content.get("body") or "")[:SNIPPET_CHARS],
            "accepted_at": instant(entry),
            "answered": entry.answered,
        }

    def _provider(self, name: str) -> dict[str, object]:
        stats, fault = self._ledger.books[name].stats(), self._faults.at(name)
        return {"name": name, "channel": self._standins[name].channel, "stats": stats, "fault": fault}


def _file(path: Path) -> Response:
    headers = _HARMLESS | {"Content-Security-Policy": _PAGE_POLICY}
    return Response(path.read_bytes(), headers=headers, media_type=_TYPES[path.suffix])

"""The way to callers' systems: one signed call for one callback, over the same wire as the calls to providers, which
follows no redirect, uses no proxy, and opens no connection that ``Reach`` does not allow."""

import ssl
from collections.abc import Iterable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urlsplit

import msgspec

from tidings.domain.callback import Posted, Webhook, headers_of
from tidings.providers.wire import Answer, Limits, Wire
from tidings.providers.wire_reach import Reach

_ANSWER_BYTES: Final = 65_536
_IDLE_S: Final = 20.0
_GONE: Final = 410
_NOT_NOW: Final = (429, 503)


class PostLimits(msgspec.Struct, frozen=True):
    """Of one webhook: calls at once, seconds for one of them and for its connection alone, and the longest pause that
    it may ask for."""

    connections: int
    timeout_s: float
    connect_s: float
    pause_most_s: float


class CallbackPost:
    """Implements ``ports.Post``. Keeps a wire for each webhook, made anew when its address changes. ``tls`` replaces
    the default context."""

    def __init__(self, reach: Reach, limits: PostLimits, tls: ssl.SSLContext | None = None) -> None:
        self._reach = reach
        self._tls = tls or ssl.create_default_context()
        self._pause_most_s = limits.pause_most_s
        self._limits = Limits(
            connections=limits.connections,
            wait_s=limits.timeout_s,
            connect_s=limits.connect_s,
            total_s=limits.timeout_s,
            idle_s=_IDLE_S,
            header_bytes=_ANSWER_BYTES // 2,
            answer_bytes=_ANSWER_BYTES,
        )
        self._wires: dict[int, tuple[str, Wire]] = {}

    async def __call__(self, webhook: Webhook, id_: str, body: bytes, now: datetime) -> Posted:
        flaw = self._reach.egress.flaw(webhook.url)
        if flaw is not None:  # it was stored under other rules than those of today
            return Posted(ok=False, code="address_refused")
        url = urlsplit(webhook.url)
        headers = {"Content-Type": "application/json", "User-Agent": "tidings"}
        path = (url.path or "/") + (f"?{url.query}" if url.query else "")
        wire = self._wire(webhook.id, f"{url.scheme}://{url.netloc}")
        head = wire.head("POST", path, {**headers, **headers_of(id_, now, body, webhook.signing)})
        said = await wire.call(head, body, _whenever)
        if not isinstance(said, Answer):
            return Posted(ok=False, code=said.code)
        after_s = min(asked_s(said, now), self._pause_most_s) if said.status in _NOT_NOW else 0.0
        return Posted(said.status // 100 == 2, f"http_{said.status}", said.status == _GONE, after_s)

    def keep(self, webhooks: Iterable[int]) -> None:
        """Forgets all others."""
        for id_ in self._wires.keys() - set(webhooks):
            self._wires.pop(id_)[1].close()

    def close(self) -> None:
        self.keep(())

    def _wire(self, id_: int, origin: str) -> Wire:
        known = self._wires.get(id_)
        if known and known[0] == origin:
            return known[1]
        if known:
            known[1].close()
        wire = Wire(origin, limits=self._limits, tls=self._tls, reach=self._reach)
        self._wires[id_] = (origin, wire)
        return wire


def asked_s(answer: Answer, now: datetime) -> float:
    """``Retry-After``, a number of seconds or a date; 0 when it is absent, over or a riddle."""
    words = (answer.header(b"retry-after") or b"").decode("latin-1").strip()
    if words.isascii() and words.isdigit():
        return float(words)
    try:
        at = parsedate_to_datetime(words)
        return max(0.0, ((at if at.tzinfo else at.replace(tzinfo=UTC)) - now).total_seconds())
    except (ValueError, OverflowError):
        return 0.0


def _whenever() -> bool:
    """A callback may be told twice: there is nothing to fence."""
    return True

"""``/healthz``, ``/readyz`` and ``/metrics`` of a process, on a port of their own."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

import msgspec

from tidings.runtime.telemetry import CONTENT_TYPE

Check = Callable[[], Awaitable[None]]
"""Really tries one dependency; raises when it cannot be used."""

JSON: Final = "application/json"
_REQUEST_TIMEOUT_S: Final = 5.0
_REASONS: Final = {200: "OK", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}


class Answer(msgspec.Struct, frozen=True):
    status: int
    content_type: str
    body: bytes


class Ops(msgspec.Struct, frozen=True):
    """What a process tells machines. ``checks`` are named after the dependency that they try; ``warnings`` is what is
    wrong around this process, which can do its work all the same."""

    checks: Mapping[str, Check]
    metrics: Callable[[], bytes]
    timeout_s: float
    warnings: Callable[[], Sequence[str]] = tuple

    async def answer(self, path: str) -> Answer | None:
        """For these three paths, None for any other."""
        match path:
            case "/healthz":
                return _json(200, {"status": "alive"})
            case "/readyz":
                return await self.readiness()
            case "/metrics":
                return Answer(200, CONTENT_TYPE, self.metrics())
        return None

    async def readiness(self) -> Answer:
        """200 when every dependency answers in time, else 503; each is named with what is wrong with it."""
        faults = await asyncio.gather(*(_fault(check, self.timeout_s) for check in self.checks.values()))
        found = dict(zip(self.checks, faults, strict=True))
        ready = not any(faults)
        checks = {name: fault or "ok" for name, fault in found.items()}
        told = {"status": "ready" if ready else "not ready", "checks": checks, "warnings": self.warnings()}
        return _json(200 if ready else 503, told)

    async def serve(self, host: str, port: int) -> asyncio.Server:
        """Starts to answer; port 0 takes a free one (``port_of``). Close what is returned."""
        return await asyncio.start_server(self._converse, host, port)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request for each connection: nobody asks often."""
        try:
            async with asyncio.timeout(_REQUEST_TIMEOUT_S + self.timeout_s):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(_written(await self._reply(head)))
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    async def _reply(self, head: bytes) -> Answer:
        method, _, rest = head.decode("latin-1").partition(" ")
        if method not in ("GET", "HEAD"):
            return _json(405, {"status": "only GET"})
        path = rest.partition(" ")[0].partition("?")[0]
        return await self.answer(path) or _json(404, {"status": "not found"})


def port_of(server: asyncio.Server) -> int:
    return int(server.sockets[0].getsockname()[1])


async def _fault(check: Check, timeout_s: float) -> str | None:
    try:
        await asyncio.wait_for(check(), timeout_s)
    except TimeoutError:
        return "no answer in time"
    except Exception as error:  # whatever it is, the dependency cannot be used; its type says enough
        return type(error).__name__
    return None


def _json(status: int, body: object) -> Answer:
    return Answer(status, JSON, msgspec.json.encode(body))


def _written(answer: Answer) -> bytes:
    head = (
        f"HTTP/1.1 {answer.status} {_REASONS[answer.status]}\r\nContent-Type: {answer.content_type}\r\n"
        f"Content-Length: {len(answer.body)}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + answer.body

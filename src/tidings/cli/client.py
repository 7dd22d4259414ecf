"""How commands talk to a running system's API."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from tidings.cli.app import Failed, Unreachable
from tidings.runtime.rundir import API_KEY, find
from tidings.settings import current


class Client:
    """Calls the API. Raises Failed with the problem's own words, Unreachable when nothing answers."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self.url = url

    async def call(self, method: str, path: str, body: object = None, **headers: str) -> Any:
        """The decoded answer, None where it has no body."""
        try:
            async with self._session.request(
                method, f"{self.url}/api/v1{path}", data=_encoded(body), headers=headers
            ) as answer:
                content = await answer.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as fault:
            raise Unreachable(
                f"{self.url} does not answer ({type(fault).__name__}): is `tidings up` running?"
            ) from fault
        if answer.status >= 400:
            raise Failed(_told(answer.status, content))
        return msgspec.json.decode(content) if content else None


@asynccontextmanager
async def client(data_dir: Path | None = None) -> AsyncIterator[Client]:
    """To the system of the data directory, or the one that TIDINGS_URL and TIDINGS_API_KEY name."""
    url, key = os.environ.get("TIDINGS_URL"), os.environ.get("TIDINGS_API_KEY")
    if data_dir is not None or not (url and key):
        url, key = _found(current({"data_dir": data_dir and str(data_dir)}).data_dir)
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    timeout = aiohttp.ClientTimeout(total=30)
    async with aiohttp.ClientSession(headers=headers, timeout=timeout) as session:
        yield Client(session, url.rstrip("/"))


def _found(data_dir: Path) -> tuple[str, str]:
    running = find(data_dir)
    if running is None:
        raise Unreachable(f"nothing runs on {data_dir}: start `tidings up`, or set TIDINGS_URL and TIDINGS_API_KEY")
    return running.url, (data_dir / API_KEY).read_text().strip()


def _encoded(body: object) -> bytes | None:
    return msgspec.json.encode(body) if body is not None else None


def _told(status: int, content: bytes) -> str:
    try:
        problem = msgspec.json.decode(content)
        where = "".join(f"\n  {one.get('pointer')}: {one.get('detail')}" for one in problem.get("errors") or ())
        return f"{problem.get('code')}: {problem.get('detail') or problem.get('title')}{where}"
    except (msgspec.DecodeError, AttributeError):
        return f"HTTP {status}"

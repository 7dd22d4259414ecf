"""The callers of a drill: careful clients that ask again with the same key until they have an answer that counts."""

import asyncio
import os
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final
from uuid import UUID

import aiohttp
import msgspec

from tidings.bench.ledger import Call

PROMOTIONAL: Final = "news"
_EVERY: Final = 4
"""One in so many is promotional."""
_AGAIN_S: Final = 0.2
_BATCH: Final = 500
_CLIENTS: Final = 4
_NOTHING: Final[Any] = None


class Api:
    """The system's API, as an application uses it. ``calls`` is the client's ledger."""

    def __init__(self, session: aiohttp.ClientSession, url: str, key: str) -> None:
        self.calls: list[Call] = []
        self._session = session
        self._url = f"{url}/api/v1"
        self._headers = {"Authorization": f"Bearer {key}"}
        self._run = os.urandom(4).hex()
        self._asked = 0

    @property
    def asked(self) -> int:
        return self._asked

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Status and decoded answer. Raises aiohttp.ClientError, TimeoutError."""
        data = None if body is None else msgspec.json.encode(body)
        given = {**self._headers, "Content-Type": "application/json", **headers}
        async with self._session.request(method, self._url + path, data=data, headers=given) as answer:
            said = await answer.read()
            return answer.status, msgspec.json.decode(said) if said else None

    async def steady(self, per_s: float) -> None:
        """One after the other at this rate, until cancelled; then those that have no answer yet still get theirs."""
        clients = set[asyncio.Task[None]]()
        try:
            while True:
                clients.add(client := asyncio.create_task(self._insist(*self._wanted())))
                client.add_done_callback(clients.discard)
                await asyncio.sleep(1 / per_s)
        finally:
            await asyncio.gather(*clients)

    async def pile_up(self, count: int) -> None:
        """So many at once, in batches."""
        batches = iter([min(_BATCH, count - done) for done in range(0, count, _BATCH)])

        async def client() -> None:
            for size in batches:
                await self._batch([self._wanted() for _ in range(size)])

        await asyncio.gather(*(client() for _ in range(_CLIENTS)))

    def _wanted(self) -> tuple[str, dict[str, Any]]:
        self._asked += 1
        promotional = self._asked % _EVERY == 0
        user = f"{PROMOTIONAL if promotional else 'order'}-{self._run}-{self._asked}"
        body: dict[str, Any] = {
            "to": {"user": user, "email": f"{user}@example.com"},
            "content": {"subject": f"Number {self._asked}", "text": "What was promised."},
        }
        return user, {**body, "category": PROMOTIONAL} if promotional else body

    async def _insist(self, key: str, body: dict[str, Any]) -> None:
        while True:
            status, said = 0, _NOTHING
            with suppress(aiohttp.ClientError, TimeoutError):
                status, said = await self.ask("POST", "/notifications", body, **{"Idempotency-Key": key})
            self.calls.append(Call(f"{key}/{key}", status, UUID(said["id"]).bytes if status == 202 else None))
            if status not in (0, 409, 429, 503):
                return
            await asyncio.sleep(_AGAIN_S)

    async def _batch(self, items: Sequence[tuple[str, dict[str, Any]]]) -> None:
        body = {"notifications": [{**one, "idempotency_key": key} for key, one in items]}
        while True:
            status, said = 0, _NOTHING
            with suppress(aiohttp.ClientError, TimeoutError):
                status, said = await self.ask("POST", "/notifications/batch", body)
            if status not in (0, 409, 429, 503):
                break
            await asyncio.sleep(_AGAIN_S)
        results = said["results"] if status == 202 else [{}] * len(items)
        for (key, _), result in zip(items, results, strict=True):
            id_ = result.get("id")
            self.calls.append(Call(f"{key}/{key}", 202 if id_ else status, UUID(id_).bytes if id_ else None))

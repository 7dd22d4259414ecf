"""The board in Valkey: what each worker sees of accounts that are not well, under a key of its own that runs out."""

from collections.abc import Sequence
from typing import Final

import msgspec
import redis.asyncio as redis
from redis.exceptions import RedisError

from tidings.ports import Seen

_WORKERS: Final = "tidings:board"
_KEPT_MS: Final = 5_000
_TIMEOUT_S: Final = 1.0


class ValkeyBoard:
    """Implements ``ports.Board``. ``worker`` is this process's name on it. While Valkey is away nothing is shown."""

    def __init__(self, url: str, worker: str) -> None:
        self._redis = redis.Redis.from_url(url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S)
        self._worker = worker

    async def show(self, seen: Sequence[Seen]) -> None:
        try:
            async with self._redis.pipeline(transaction=False) as both:
                both.set(_key(self._worker), msgspec.json.encode(seen), px=_KEPT_MS)
                both.sadd(_WORKERS, self._worker)
                await both.execute()
        except (RedisError, OSError):
            return

    async def read(self) -> Sequence[Sequence[Seen]]:
        try:
            workers = sorted(map(_text, await self._redis.smembers(_WORKERS)))
            shown = await self._redis.mget([_key(worker) for worker in workers]) if workers else []
            if gone := [name for name, one in zip(workers, shown, strict=True) if one is None]:
                await self._redis.srem(_WORKERS, *gone)
        except (RedisError, OSError):
            return ()
        return [seen for one in shown if one is not None and (seen := _seen(one)) is not None]

    async def close(self) -> None:
        await self._redis.aclose()


class NoBoard:
    """Implements ``ports.Board`` where there is no Valkey."""

    async def show(self, seen: Sequence[Seen]) -> None:
        return

    async def read(self) -> Sequence[Sequence[Seen]]:
        return ()


def _key(worker: str) -> str:
    return f"{_WORKERS}:{worker}"


def _text(answer: bytes | str) -> str:
    return answer.decode() if isinstance(answer, bytes) else answer


def _seen(shown: bytes | str) -> Sequence[Seen] | None:
    """None for what a worker of another version shows in a way that we cannot read."""
    try:
        return msgspec.json.decode(shown, type=list[Seen])
    except msgspec.MsgspecError:
        return None

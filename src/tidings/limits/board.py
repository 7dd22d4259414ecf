"""What processes show each other, and people, in Valkey: each under a key of its own that runs out. While Valkey is
away nothing is shown, and nothing fails."""

from collections.abc import Sequence
from typing import Final, TypeVar

import msgspec
import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from tidings.domain.presence import Present
from tidings.ports import Seen

T = TypeVar("T")

_BOARD: Final = "tidings:board"
_PRESENT: Final = "tidings:present"
_KEPT_MS: Final = 5_000
_TIMEOUT_S: Final = 1.0


class Wall:
    """Notes of one process among those of others, found by the name of what they are about."""

    def __init__(self, url: str) -> None:
        """What could not be shown now is shown again soon anyway: nothing is repeated."""
        self._redis = redis.Redis.from_url(
            url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S, retry=Retry(NoBackoff(), 0)
        )

    async def put(self, about: str, name: str, note: object) -> None:
        """In place of what stood there under this name; forgotten soon when it is not put again."""
        try:
            async with self._redis.pipeline(transaction=False) as both:
                both.set(_key(about, name), msgspec.json.encode(note), px=_KEPT_MS)
                both.sadd(about, name)
                await both.execute()
        except (RedisError, OSError):
            return

    async def notes(self, about: str, type_: type[T]) -> Sequence[T] | None:
        """All that can be read: a process of another version may write in another way. None while Valkey is away."""
        try:
            names = sorted(map(_text, await self._redis.smembers(about)))
            found = await self._redis.mget([_key(about, name) for name in names]) if names else []
            if gone := [name for name, note in zip(names, found, strict=True) if note is None]:
                await self._redis.srem(about, *gone)
        except (RedisError, OSError):
            return None
        return [note for one in found if one is not None and (note := _decoded(one, type_)) is not None]

    async def remove(self, about: str, name: str) -> None:
        try:
            await self._redis.delete(_key(about, name))
        except (RedisError, OSError):
            return

    async def close(self) -> None:
        await self._redis.aclose()


class ValkeyBoard:
    """Implements ``ports.Board``. ``worker`` is this process's name on it."""

    def __init__(self, wall: Wall, worker: str) -> None:
        self._wall = wall
        self._worker = worker

    async def show(self, seen: Sequence[Seen]) -> None:
        await self._wall.put(_BOARD, self._worker, seen)

    async def read(self) -> Sequence[Sequence[Seen]]:
        found = await self._wall.notes(_BOARD, list[Seen])
        return () if found is None else found


class ValkeyRollCall:
    """Implements ``ports.RollCall``."""

    def __init__(self, wall: Wall) -> None:
        self._wall = wall

    async def show(self, present: Present) -> None:
        await self._wall.put(f"{_PRESENT}:{present.role}", present.name, present)

    async def leave(self, present: Present) -> None:
        await self._wall.remove(f"{_PRESENT}:{present.role}", present.name)

    async def read(self, *roles: str) -> Sequence[Present] | None:
        found = list[Present]()
        for role in roles:
            notes = await self._wall.notes(f"{_PRESENT}:{role}", Present)
            if notes is None:
                return None
            found += notes
        return found


class NoBoard:
    """Implements ``ports.Board`` where there is no Valkey."""

    async def show(self, seen: Sequence[Seen]) -> None:
        return

    async def read(self) -> Sequence[Sequence[Seen]]:
        return ()


class NoRollCall:
    """Implements ``ports.RollCall`` where there is no Valkey."""

    async def show(self, present: Present) -> None:
        return

    async def leave(self, present: Present) -> None:
        return

    async def read(self, *roles: str) -> Sequence[Present] | None:
        return None


def _key(about: str, name: str) -> str:
    """In the hash slot of the set that names it, so that a cluster can read all of them at once."""
    return f"{{{about}}}:{name}"


def _text(answer: bytes | str) -> str:
    return answer.decode() if isinstance(answer, bytes) else answer


def _decoded(note: bytes | str, type_: type[T]) -> T | None:
    try:
        return msgspec.json.decode(note, type=type_)
    except msgspec.MsgspecError:
        return None

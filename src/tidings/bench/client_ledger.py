"""The client's ledger on disk: 44 bytes for every notification that was asked for."""

import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple
from uuid import UUID

import msgspec

from tidings.bench.ledger import Call

_RECORD: Final = struct.Struct("<QHHQQ16s")
_NO_ID: Final = bytes(16)
_SINGLE: Final = 0xFFFF
_BATCH_REFUSED: Final = 422


class Answered(NamedTuple):
    """One request as it ended: its number, when it was due and when answered (unix ns), the HTTP status (0 for none)
    and the body of the answer."""

    number: int
    due_ns: int
    answered_ns: int
    status: int
    body: bytes


class Asked(NamedTuple):
    """One notification as it was asked for; times as in ``Answered``, ``id`` None when none was told."""

    key: str
    status: int
    due_ns: int
    answered_ns: int
    id: bytes | None


class _Problem(msgspec.Struct):
    status: int = _BATCH_REFUSED


class _Told(msgspec.Struct):
    id: str | None = None
    problem: _Problem | None = None


class _ToldOfMany(msgspec.Struct):
    results: list[_Told]


def write(path: Path, key_prefix: str, batch: int, answers: Sequence[Answered]) -> int:
    """Writes what was answered, after a line with the prefix of the keys; returns how many were accepted."""
    accepted = 0
    with path.open("wb") as file:
        file.write(key_prefix.encode() + b"\n")
        for answer in answers:
            for index, status, id_ in _results(answer, batch):
                accepted += status == 202
                number, due_ns, answered_ns = answer[:3]
                file.write(_RECORD.pack(number, index, status, due_ns, answered_ns, id_))
    return accepted


def _results(answer: Answered, batch: int) -> Iterator[tuple[int, int, bytes]]:
    if not batch:
        told = msgspec.json.decode(answer.body, type=_Told) if answer.status == 202 else _Told()
        yield _SINGLE, answer.status, _id(told)
        return
    if answer.status != 202:
        yield from ((index, answer.status, _NO_ID) for index in range(batch))
        return
    for index, told in enumerate(msgspec.json.decode(answer.body, type=_ToldOfMany).results):
        yield index, told.problem.status if told.problem else 202, _id(told)


def _id(told: _Told) -> bytes:
    return UUID(told.id).bytes if told.id else _NO_ID


def read(path: Path) -> Iterator[Asked]:
    """Every notification that was asked for. Keys of a batch are those that its header key makes: ``key:index``."""
    prefix, _, records = path.read_bytes().partition(b"\n")
    for number, index, status, due_ns, answered_ns, id_ in _RECORD.iter_unpack(records):
        key = f"{prefix.decode()}-{number}" + ("" if index == _SINGLE else f":{index}")
        yield Asked(key, status, due_ns, answered_ns, None if id_ == _NO_ID else id_)


def as_calls(asked: Iterable[Asked]) -> list[Call]:
    """The same, as the ledger check takes it."""
    return [Call(one.key, one.status, one.id) for one in asked]

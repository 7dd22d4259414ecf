"""The two hot endpoints: accept one notification, or many. Bare ASGI: nothing stands between the socket and this."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from hashlib import blake2b
from typing import Any, Final

import msgspec

from tidings.domain.asked import Answer, Asked
from tidings.domain.delivery import Status, overall
from tidings.domain.errors import Invalid, Refusal
from tidings.domain.history import PastDelivery
from tidings.domain.ids import NotificationId, TenantId
from tidings.web.asking import Asking
from tidings.web.auth import Caller, Door
from tidings.web.edge import Edge
from tidings.web.exchange import (
    JSON,
    Head,
    Headers,
    Message,
    Receive,
    Send,
    answer_json,
    encoded,
    must_be_json,
    read_body,
    read_head,
    replayed,
    written_problem,
)
from tidings.web.exchange import (
    answer as send_answer,
)
from tidings.web.json_body import read_json
from tidings.web.problems import Overloaded, Problem, TooLarge, TooSlow, problem, problem_of
from tidings.web.requests import (
    BatchAnswer,
    BatchItem,
    DeliveryAnswer,
    NotificationAnswer,
    NotificationRequest,
    RawBatch,
    Result,
)
from tidings.web.times import stamp

Written = tuple[int, Headers, bytes]
"""An answer: status, headers, body."""

Answering = Callable[[int, Headers, bytes], None]
"""Writes one."""

Today = Mapping[NotificationId, Sequence[PastDelivery]]
_one: Final = msgspec.json.Decoder(NotificationRequest)
_item: Final = msgspec.json.Decoder(BatchItem)
_batch: Final = msgspec.json.Decoder(RawBatch)
_canonical: Final = msgspec.json.Encoder(order="deterministic").encode
_KEY_MAX: Final = 255


class Sending:
    """``one`` and ``batch`` answer an exchange, or raise a Refusal."""

    def __init__(self, edge: Edge, door: Door) -> None:
        self._edge = edge
        self._door = door
        self.body_deadline_s = edge.limits.body_deadline_s
        self._going = set[asyncio.Task[None]]()

    async def one(self, head: Head, receive: Receive, send: Send) -> None:
        caller = self._admit(head)
        body = await read_body(receive, head, self._edge.limits.body_bytes, self._edge.limits.body_deadline_s)
        request: NotificationRequest = read_json(body, _one)
        asking, key = self._asking(caller), key_of(head)
        message = asking.message(request)
        if isinstance(request.to, list):
            asked = _listed(asking, message, request, key)
            await answer_json(send, 202, await self._accept_many(caller.tenant, asked, head), head.request_id)
            return
        single = asking.to(message, request.to, request.send_at, "/to")
        if key is not None:
            single = _keyed(single, key, request)
        said = await self._accept_one(single)
        status, headers, content = _written(head, said, await self._today(caller.tenant, [said]))
        await send_answer(send, status, content, headers)

    def take(self, headers: Headers, body: bytes, answer: Answering) -> None:
        """``one`` without a task: for a body that came whole. What needs more than one look takes the usual way."""
        head = read_head(headers)
        try:
            caller = self._admit(head)
            if len(body) > self._edge.limits.body_bytes:
                raise TooLarge(f"this call takes at most {self._edge.limits.body_bytes} bytes")
            request: NotificationRequest = read_json(body, _one)
            if isinstance(request.to, list):
                self._later(head, self._usual(head, body), answer)
                return
            asking, key = self._asking(caller), key_of(head)
            asked = asking.to(asking.message(request), request.to, request.send_at, "/to")
            asked = asked if key is None else _keyed(asked, key, request)
            self._edge.accept.submit_one(asked, partial(self._tell, head, caller.tenant, answer))
        except Refusal as refusal:
            answer(*written_problem(problem_of(refusal, head.request_id)))
        except Exception as fault:  # the top of every request
            answer(*written_problem(self._fault(head, fault)))

    def too_slow(self, headers: Headers, answer: Answering) -> None:
        answer(*written_problem(problem_of(TooSlow(), read_head(headers).request_id)))

    def _tell(self, head: Head, tenant: TenantId, answer: Answering, said: Answer | Exception) -> None:
        if isinstance(said, Refusal):
            answer(*written_problem(problem_of(said, head.request_id)))
        elif isinstance(said, Exception):
            answer(*written_problem(self._fault(head, said)))
        elif said.deliveries is None:
            self._later(head, self._known(head, tenant, said), answer)
        else:
            answer(*_written(head, said, {}))

    async def _known(self, head: Head, tenant: TenantId, said: Answer) -> Written:
        """A replay or a duplicate, with the deliveries of its first notification as they stand now."""
        return _written(head, said, await self._today(tenant, [said]))

    async def _usual(self, head: Head, body: bytes) -> Written:
        parts = list[Message]()

        async def send(message: Message) -> None:
            parts.append(message)

        await self.one(head, replayed(body), send)
        return 202, [one for one in parts[0]["headers"] if one[0] != b"content-length"], parts[1]["body"]

    def _later(self, head: Head, writing: Coroutine[Any, Any, Written], answer: Answering) -> None:
        """What takes more than one step gets a task after all."""

        async def write() -> None:
            try:
                answer(*await writing)
            except Refusal as refusal:
                answer(*written_problem(problem_of(refusal, head.request_id)))
            except Exception as fault:  # the top of every request
                answer(*written_problem(self._fault(head, fault)))

        going = asyncio.get_running_loop().create_task(write())
        self._going.add(going)
        going.add_done_callback(self._going.discard)

    def _fault(self, head: Head, fault: Exception) -> Problem:
        self._edge.emit(self._edge.failure("http", fault))
        return problem("internal", "a fault of ours; it is on record", head.request_id)

    async def batch(self, head: Head, receive: Receive, send: Send) -> None:
        caller = self._admit(head)
        limits = self._edge.limits
        body = await read_body(receive, head, limits.batch_body_bytes, limits.body_deadline_s)
        asking, key = self._asking(caller), key_of(head)
        asked = [
            _of_batch(asking, bytes(raw), key and f"{key}:{n}") for n, raw in enumerate(_items(body, limits.batch))
        ]
        answer = await self._accept_many(caller.tenant, asked, head, "/notifications")
        await answer_json(send, 202, answer, head.request_id)

    def _admit(self, head: Head) -> Caller:
        """Who asks. What cannot be taken is refused here, before its body is read."""
        edge = self._edge
        caller = self._door.admit(edge.catalogs().keys, head.authorization, edge.clock.now().timestamp())
        caller.must("send")
        if edge.accept.waiting >= edge.limits.waiting_max:
            raise Overloaded
        must_be_json(head)
        return caller

    def _asking(self, caller: Caller) -> Asking:
        return Asking(self._edge.catalogs(), self._edge.channels, caller.tenant, self._edge.clock.now())

    async def _accept_one(self, asked: Asked) -> Answer:
        (said,) = await self._edge.accept.submit([asked])
        if isinstance(said, Refusal):
            raise said
        return said

    async def _accept_many(
        self, tenant: TenantId, asked: Sequence[Asked | Refusal], head: Head, under: str = ""
    ) -> BatchAnswer:
        """The good ones are accepted although others are not. ``under`` is the pointer of the list in the body."""
        good = [one for one in asked if isinstance(one, Asked)]
        said = iter(await self._edge.accept.submit(good) if good else ())
        results = [next(said) if isinstance(one, Asked) else one for one in asked]
        answers = [one for one in results if isinstance(one, Answer)]
        today = await self._today(tenant, answers)
        items = [
            _accepted(one, today)
            if isinstance(one, Answer)
            else Result(problem=problem_of(one, head.request_id, under and f"{under}/{n}"))
            for n, one in enumerate(results)
        ]
        return BatchAnswer(len(answers), len(results) - len(answers), items)

    async def _today(self, tenant: TenantId, answers: Sequence[Answer]) -> Today:
        """How the deliveries of replays and duplicates stand now."""
        ids = list(dict.fromkeys(one.id for one in answers if one.deliveries is None))
        return await self._edge.queries.deliveries(tenant, ids) if ids else {}


def key_of(head: Head) -> str | None:
    """The idempotency key in the header. Raises Invalid."""
    if head.key is None:
        return None
    key = head.key.decode("latin-1")
    if not 1 <= len(key) <= _KEY_MAX or not key.isascii() or not key.isprintable():
        detail = f"the header Idempotency-Key holds 1 to {_KEY_MAX} printable ASCII characters"
        raise Invalid(detail, pointer="/idempotency_key")
    return key


def _items(body: bytes, most: int) -> Sequence[msgspec.Raw]:
    """The unread items of a batch: what is wrong inside one of them is found when it is read."""
    batch: RawBatch = read_json(body, _batch, inside=False)
    if len(batch.notifications) > most:
        raise Invalid(f"at most {most} notifications in one call", pointer="/notifications")
    return batch.notifications


def _of_batch(asking: Asking, raw: bytes, key: str | None) -> Asked | Refusal:
    try:
        item: BatchItem = read_json(raw, _item)
        asked = asking.to(asking.message(item), item.to, item.send_at, "/to")
    except Refusal as refusal:
        return refusal
    key = item.idempotency_key or key
    return asked if key is None else _keyed(asked, key, msgspec.structs.replace(item, idempotency_key=None))


def _listed(asking: Asking, message: Asked, request: NotificationRequest, key: str | None) -> Sequence[Asked | Refusal]:
    """One message to each of a list of recipients; a key counts as ``key:index``, each with its own recipient."""
    found = list[Asked | Refusal]()
    for n, recipient in enumerate(request.to if isinstance(request.to, list) else ()):
        try:
            asked = asking.to(message, recipient, request.send_at, f"/to/{n}")
        except Refusal as refusal:
            found.append(refusal)
            continue
        if key is not None:
            asked = _keyed(asked, f"{key}:{n}", msgspec.structs.replace(request, to=recipient))
        found.append(asked)
    return found


def _keyed(asked: Asked, key: str, request: NotificationRequest | BatchItem) -> Asked:
    """``request`` is what the key stands for: its canonical form, without what has its default, tells another body
    apart."""
    fingerprint = blake2b(_canonical(request), digest_size=16).digest()
    return msgspec.structs.replace(asked, key=key, fingerprint=fingerprint)


def _status(said: Answer, today: Today) -> Status:
    if said.deliveries is not None:
        return said.status
    return overall([one.status for one in today[said.id]]) if today.get(said.id) else Status.unknown


def _answer(said: Answer, today: Today) -> NotificationAnswer:
    if said.deliveries is not None:
        deliveries = [DeliveryAnswer(one.id, one.channel, one.status, stamp(one.due_at)) for one in said.deliveries]
    else:
        deliveries = [
            DeliveryAnswer(one.id, one.channel.name, one.status, stamp(one.due_at) if one.due_at else None)
            for one in today.get(said.id, ())
        ]
    return NotificationAnswer(said.id, _status(said, today), tuple(deliveries), said.deduplicated)


def _written(head: Head, said: Answer, today: Today) -> Written:
    headers = [(b"content-type", JSON), (b"x-request-id", head.request_id.encode())]
    if said.replayed:
        headers.append((b"idempotent-replayed", b"true"))
    return 202, headers, encoded(_answer(said, today))


def _accepted(said: Answer, today: Today) -> Result:
    return Result(said.id, _status(said, today), said.replayed, said.deduplicated)

"""What each provider's adapter has to do, as data: the shape of one provider's row."""

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
from wire_peer import Talk, answer

from tidings.domain.lanes import Channel
from tidings.domain.outcome import Outcome, Receipt
from tidings.ports import Message, WebhookCall

REFERENCE = "0192f0c0000070008000000000000000-1"
WEBHOOK_URL = "https://tidings.example.com/api/v1/receipts/kind/token"
ARRIVAL = datetime.fromtimestamp(0, UTC)
"""Stands for the moment of a call in the receipts of a provider that dates nothing."""

Mutant = tuple[ModuleType, str, Mapping[Any, Any]]
Sign = Callable[[WebhookCall], WebhookCall]
Due = Callable[[], str]


class Scripted(msgspec.Struct, frozen=True):
    """A complete answer of the provider, byte for byte, and the outcome it has to become; details are not compared.
    ``at`` is the step that it answers, where a call has more than one; the last one without."""

    raw: bytes
    becomes: Outcome
    at: str = ""


class Dialect(msgspec.Struct, frozen=True):
    """How the peer in the provider's place speaks.

    ``hear`` reads a call up to the step whose answer is ``due``. ``sent`` says whether a whole call is in what the peer
    saw, and ``lines`` gives what of it is protocol, not content. ``refusal`` is an answer with a status and words,
    ``foreign`` one in another protocol, ``flood`` one that is far too large, ``endless`` the beginning of one without
    end, and what it goes on with.
    """

    scheme: str
    hear: Callable[[Talk, Due], Awaitable[None]]
    sent: Callable[[bytes], bool]
    lines: Callable[[bytes], bytes]
    refusal: Callable[[int, str], bytes]
    foreign: bytes
    flood: bytes
    endless: tuple[bytes, bytes]


async def _request(talk: Talk, _due: Due) -> None:
    await talk.request()


def _lines(seen: bytes) -> bytes:
    """The head, and whatever stands behind the body that it announces."""
    head, _, rest = seen.partition(b"\r\n\r\n")
    return head + rest[int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0]) :]


def _refusal(status: int, words: str) -> bytes:
    body = msgspec.json.encode({"errors": [{"message": words, "field": words}], "message": words})
    return answer(status, body, f"X-Message-Id: {words}\r\n")


HTTP = Dialect(
    scheme="http",
    hear=_request,
    sent=bool,
    lines=_lines,
    refusal=_refusal,
    foreign=b"220 mail.example.com ESMTP\r\n",
    flood=answer(200, b"x" * 10_000_000),
    endless=(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"4000\r\n" + b"x" * 0x4000 + b"\r\n"),
)


class Webhook(msgspec.Struct, frozen=True):
    """A call of the provider's, and the receipts in it; ``raw`` is not compared; ``query`` ends its URL."""

    body: bytes
    receipts: Sequence[Receipt]
    query: str = ""


class Vector(msgspec.Struct, frozen=True):
    """A call recorded from the provider's own SDK, and whether it is to be believed under these settings."""

    name: str
    settings: Mapping[str, str]
    call: WebhookCall
    valid: bool


def tampered(call: WebhookCall) -> Iterator[WebhookCall]:
    """The same call with its body changed, or a header."""
    replace = msgspec.structs.replace
    for body in (call.body[:-1], call.body + b" ", call.body.replace(b"1", b"2"), b""):
        yield replace(call, body=body)
    for name, value in call.headers.items():
        for forged in ("", value[:-3], value[1:], value + "A", "x" * 5000, "\u00e9", "AAAA", value.replace("1", "2")):
            if forged != value:
                yield replace(call, headers={**call.headers, name: forged})


class Case(msgspec.Struct, frozen=True):
    """One provider. ``sign`` completes a webhook call under the account's key, ``sign_as_stranger`` under another, and
    ``forgeries`` are what becomes of a signed one in other hands; ``mutants`` are tables with one row put wrong, each
    of which the answers or the webhooks must expose. A provider without webhooks has none of all that. ``own`` are
    settings that a test may not write nonsense into, because the adapter reads more in them than a secret.
    ``undated``: its webhooks do not say when something happened."""

    kind: str
    channel: Channel
    settings: Mapping[str, str]
    secrets: Sequence[str]
    message: Message
    answers: Mapping[str, Scripted]
    mutants: Callable[[], Iterator[Mutant]]
    webhooks: Mapping[str, Webhook] = {}
    hostile: Sequence[bytes] = ()
    sign: Sign | None = None
    sign_as_stranger: Sign | None = None
    forgeries: Callable[[WebhookCall], Iterator[WebhookCall]] = tampered
    vectors: Callable[[Path], Iterator[Vector]] | None = None
    own: Sequence[str] = ()
    undated: bool = False
    dialect: Dialect = HTTP

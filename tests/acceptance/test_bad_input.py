"""FAULTS 55, 56 and 58: what comes in is bounded in size, depth and time, nothing in it becomes a header of its own,
and whoever else is there notices nothing."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage, Message
from typing import Any
from urllib.parse import urlsplit

import msgspec
import psutil
import pytest

from tests.acceptance.elsewhere import put
from tests.system import System, until

MB = 1_000_000
GOOD = {"to": "ada", "content": {"subject": "Hi", "text": "Hello"}}


@asynccontextmanager
async def others_undisturbed(system: System) -> AsyncIterator[None]:
    """Meanwhile well-behaved clients are served, by the same process, within a bound of memory; and afterwards the
    ledgers are clean."""
    pids, faults = system.pids("api"), len(system.events("api", "LoopFailed"))
    api = psutil.Process(pids[0])
    before, most = api.memory_info().rss, 0
    took_s = list[float]()
    over = asyncio.Event()

    async def well_behaved() -> None:
        nonlocal most
        while not over.is_set() or len(took_s) < 10:
            began_s = time.monotonic()
            await system.send()
            took_s.append(time.monotonic() - began_s)
            most = max(most, api.memory_info().rss)
            await asyncio.sleep(0.02)

    client = asyncio.create_task(well_behaved())
    try:
        yield
    finally:
        over.set()
        await client
    assert all(answer.status == 202 for answer in system.calls), "somebody else was refused"
    assert sorted(took_s)[len(took_s) * 9 // 10] < 3.0, f"others waited for up to {max(took_s)} s"
    assert most - before < 100 * MB, f"the API grew by {(most - before) // MB} MB"
    assert system.pids("api") == pids
    assert len(system.events("api", "LoopFailed")) == faults
    await system.check()


def head(system: System, path: str, more: str) -> bytes:
    lines = [f"POST /api/v1{path} HTTP/1.1", "Host: x", f"Authorization: Bearer {system.key}"]
    return "\r\n".join([*lines, "Content-Type: application/json", more, "", ""]).encode()


async def connect(system: System) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    where = urlsplit(system.url)
    return await asyncio.open_connection(where.hostname, where.port)


async def status_of(reader: asyncio.StreamReader) -> int:
    """0 when the connection ended without an answer."""
    try:
        line = await reader.readline()
    except ConnectionError:
        return 0
    return int(line.split()[1]) if line else 0


async def pour(system: System, path: str, framing: str, piece: bytes, pieces: int) -> tuple[int, int]:
    """Writes it all, whatever is answered meanwhile, until cut off; the status, and after how many pieces it came."""
    reader, writer = await connect(system)
    answered, heard_after = asyncio.create_task(status_of(reader)), 0
    try:
        writer.write(head(system, path, framing))
        for _ in range(pieces):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
            heard_after += not answered.done()
    except ConnectionError:
        pass
    status = await asyncio.wait_for(answered, 20)
    writer.transport.abort()
    return status, heard_after


@pytest.mark.parametrize("framing", ["Content-Length: 100000000", "Transfer-Encoding: chunked"])
async def test_a_hundred_megabytes_are_refused_before_they_are_here(system: System, framing: str):
    piece = b"x" * 100_000
    if "chunked" in framing:
        piece = b"186a0\r\n" + piece + b"\r\n"
    async with others_undisturbed(system):
        poured = await asyncio.gather(*(pour(system, "/notifications", framing, piece, 1000) for _ in range(4)))
    assert {status for status, _ in poured} == {413}, poured
    assert max(heard_after for _, heard_after in poured) < 500, "it was read to the end"


async def test_a_batch_of_more_than_8_megabytes_is_refused(system: System):
    status, _ = await pour(
        system, "/notifications/batch", f"Content-Length: {(8 << 20) + 1}", b" " * 1024, (8 << 10) + 1
    )
    assert status == 413


@pytest.mark.parametrize(
    ("path", "body", "status", "code", "pointer"),
    [
        ("/notifications", b'{"to": "a", "data": ' + b"[" * 20_000 + b"]" * 20_000 + b"}", 400, "malformed_json", None),
        ("/notifications", b'{"a":' * 20_000 + b"1" + b"}" * 20_000, 400, "malformed_json", None),
        ("/users/batch", b"[" * 250_000, 400, "malformed_json", None),
        ("/notifications", b" " * 262_145, 413, "too_large", None),
        ("/notifications/batch", {"notifications": [GOOD] * 1_001}, 422, "invalid", "/notifications"),
        ("/notifications", {**GOOD, "to": ["ada"] * 101}, 422, "invalid", "/to"),
        ("/notifications", {**GOOD, "nonsense": 1}, 422, "unknown_field", "/nonsense"),
        ("/notifications", {**GOOD, "to": {"user": "ada", "e-mail": "x"}}, 422, "unknown_field", "/to/e-mail"),
        ("/notifications", {**GOOD, "data": {"a": [{"b": "\0"}]}}, 422, "nul_character", "/data/a/0/b"),
        ("/notifications", {**GOOD, "to": 5}, 422, "invalid", "/to"),
        ("/notifications", {"to": "ada", "template": "absent"}, 422, "unknown_template", "/template"),
        ("/notifications", b'{"to": "a\\ud800"}', 400, "malformed_json", None),
        ("/notifications", b'{"to": "\xed\xa0\x80"}', 400, "malformed_json", None),
        ("/notifications", b"{'to': 'ada'}", 400, "malformed_json", None),
        ("/notifications", b'{"to": "ada", "data": {"n": NaN}}', 400, "malformed_json", None),
        ("/notifications", b"", 400, "malformed_json", None),
    ],
    ids=lambda value: str(value)[:50] if isinstance(value, bytes | dict) else None,
)
async def test_a_body_that_cannot_be_used_is_answered_with_what_is_wrong_at_once(
    system: System, path: str, body: Any, status: int, code: str, pointer: str | None
):
    began_s = time.monotonic()
    said_status, said, _ = await system.ask("POST", path, body)
    assert time.monotonic() - began_s < 3
    assert (said_status, said["code"], said["status"]) == (status, code, status), said
    assert [one["pointer"] for one in said["errors"]] == ([] if pointer is None else [pointer])
    assert said["request_id"]
    assert not system.events("api", "LoopFailed")


async def test_a_storm_of_bad_input_disturbs_nobody(system: System):
    bad = [
        b'{"to": "a", "data": ' + b"[" * 20_000 + b"]" * 20_000 + b"}",
        b'{"a":' * 40_000,
        msgspec.json.encode({"to": "a", "data": {"x": ["y"] * 60_000}, "nonsense": 1}),
        b'{"to": "\\ud800"}',
        b"\xff" * 200_000,
    ]
    async with others_undisturbed(system):
        said = await asyncio.gather(*(system.ask("POST", "/notifications", body) for body in bad * 20))
    assert {status for status, _, _ in said} == {400, 422}


async def test_a_mixed_batch_takes_the_good_ones_and_names_what_is_wrong_with_the_others(system: System):
    _, good = system.wanted()
    items = [good, {**good, "nonsense": 1}, {"to": "a"}, 5, None, [], {**good, "data": {"a": "\0"}}]
    status, said, _ = await system.ask("POST", "/notifications/batch", {"notifications": items})
    assert (status, said["accepted"], said["refused"]) == (202, 1, 6)
    pointers = [one["problem"]["errors"][0]["pointer"] for one in said["results"][1:]]
    where = ["/nonsense", "/template", "", "", "", "/data/a"]
    assert pointers == [f"/notifications/{n}{pointer}" for n, pointer in enumerate(where, 1)]
    await system.becomes(said["results"][0]["id"], "delivered")


async def test_bodies_of_a_byte_a_second_are_cut_off_and_hold_up_nobody(system: System):
    began_s = time.monotonic()

    async def dribble() -> tuple[int, float]:
        reader, writer = await connect(system)
        answered = asyncio.create_task(status_of(reader))
        writer.write(head(system, "/notifications", "Content-Length: 100000"))
        while not answered.done() and time.monotonic() - began_s < 40:
            writer.write(b" ")
            await asyncio.wait({answered}, timeout=1)
        writer.transport.abort()
        return (await answered if answered.done() else -1), time.monotonic() - began_s

    async with others_undisturbed(system):
        ends = await asyncio.gather(*(dribble() for _ in range(200)))
    assert {status for status, _ in ends} == {408}
    api = psutil.Process(system.pids("api")[0])
    await until(lambda: len(api.net_connections()) < 100, 20, "the slow connections to be gone")


BREAKS = ["a\r\nBcc: x@example.com", "a\nb", "a\rb", "a\0b", "a\x85b", "a\u2028b", "a\u2029b", "a\x0bb", "a\x7fb"]
CODED = [
    "=?UTF-8?Q?=0A?=Bcc: x@example.com",
    "=?utf-8?b?DQpCY2M6IHhAZXhhbXBsZS5jb20=?=",
    "=?utf-8?q?=3D=3Futf-8=3Fq=3F=0A=3F=3D?=",
    "=?utf-7?q?+AAo-?=",
    "=?nonsense?q?a?=",
    "=?utf-8?q?=E2=80=A8?=",
]
HEADERS = ["Content-Transfer-Encoding", "Content-Type", "From", "MIME-Version", "Reply-To", "Subject", "To"]
HARMLESS = [
    "=?utf-8?q?Gr=C3=BC=C3=9Fe?=",
    "50 % =? off",
    "Ünïcödé ☃ 🎉",
    "a, b <c@example.com>; d: e",
    "\\r\\n",
    "=?",
    "x" * 900,
]


def pointers_in(said: Any) -> list[str]:
    return [one["pointer"] for one in said["errors"]]


@pytest.mark.parametrize("hostile", [*BREAKS, *CODED], ids=ascii)
async def test_what_could_become_a_header_is_refused_wherever_a_header_is_made_of_it(system: System, hostile: str):
    for body, pointer in (
        ({**GOOD, "content": {"subject": hostile, "text": "x"}}, "/content/subject"),
        ({**GOOD, "reply_to": f"{hostile}@example.com"}, "/reply_to"),
        ({**GOOD, "to": {"email": f"{hostile}@example.com"}}, "/to/email"),
        ({**GOOD, "reply_to": f'"{hostile}" <a@example.com>'}, "/reply_to"),
    ):
        status, said, _ = await system.ask("POST", "/notifications", body)
        assert (status, pointers_in(said)) == (422, [pointer]), said
    for identity, pointer in (
        ({"email": "a@example.com", "name": hostile}, "/channels/email/name"),
        ({"email": f"{hostile}@example.com"}, "/channels/email/email"),
    ):
        status, said, _ = await system.ask("PUT", "/senders/hostile", {"channels": {"email": identity}})
        assert status == 422, said
        assert pointers_in(said)[0].startswith("/channels/email"), (said, pointer)
    assert (await system.ask("GET", "/senders/hostile"))[0] == 404


async def test_what_data_brings_into_a_subject_is_a_subject_or_a_dead_letter_and_never_a_header(system: System):
    name = f"greeting-{uuid.uuid4().hex[:8]}"
    await put(
        system, f"/templates/{name}", {"content": {"subject": "{{ x }}", "text": "{{ x }}", "html": "<b>{{ x }}</b>"}}
    )
    sender = f"shop-{uuid.uuid4().hex[:8]}"
    await put(system, f"/senders/{sender}", {"channels": {"email": {"email": "s@example.com", "name": "Ünï, Shop"}}})
    more = {"template": name, "sender": sender, "reply_to": "help@example.com"}
    storable = [value for value in (*BREAKS, *CODED) if "\0" not in value]
    hostile = [await system.send(**more, data={"x": value}) for value in storable]
    harmless = [await system.send(**more, data={"x": value}) for value in HARMLESS]
    for id_, value in zip(hostile, storable, strict=True):
        delivery = (await system.becomes(id_, "dead"))["deliveries"][0]
        assert delivery["reason"] == "template_error", value
        assert "subject" in delivery["detail"]
    for id_ in harmless:
        await system.becomes(id_, "delivered")
    taken = [item["content"] for item in await system.taken()]
    assert sorted(content["subject"] for content in taken) == sorted(HARMLESS)
    for content in taken:
        for raw in (rendered_old(content), rendered_new(content)):
            parsed = message_from_bytes(raw)
            assert sorted(parsed.keys()) == HEADERS, raw
    await system.check()


def rendered_new(content: dict[str, Any]) -> bytes:
    """As a mailer on Python's modern e-mail package would write it."""
    letter = EmailMessage(policy=policy.SMTP)
    for header, value in headers(content).items():
        letter[header] = value
    letter.set_content("Hello")
    return letter.as_bytes()


def rendered_old(content: dict[str, Any]) -> bytes:
    """As a mailer would that puts values into headers as they are."""
    letter = Message()
    for header, value in headers(content).items():
        letter[header] = value
    letter["MIME-Version"], letter["Content-Type"] = "1.0", "text/plain"
    letter["Content-Transfer-Encoding"] = "8bit"
    letter.set_payload("Hello")
    return letter.as_bytes()


def headers(content: dict[str, Any]) -> dict[str, str]:
    sender = content["from"]
    return {
        "Subject": content["subject"],
        "From": f'"{sender["name"]}" <{sender["email"]}>',
        "To": "ada@example.com",
        "Reply-To": content["reply_to"]["email"],
    }

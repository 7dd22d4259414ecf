"""The short way of one notification: what a connection may do around it."""

import asyncio
import json
import uuid
from urllib.parse import urlsplit

from tests.integration.api.rig import Api


def request(api: Api, body: dict, *headers: str) -> bytes:
    content = json.dumps(body).encode()
    lines = [
        "POST /api/v1/notifications HTTP/1.1",
        "Host: a",
        f"Authorization: Bearer {api.key}",
        "Content-Type: application/json",
        f"Content-Length: {len(content)}",
        *headers,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


def to(user: str) -> dict:
    return {"to": {"user": user, "email": "ada@example.com"}, "content": {"subject": "Hi", "text": "Hello"}}


async def answer(reader: asyncio.StreamReader) -> tuple[int, dict]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    length = next(int(line[16:]) for line in head.lower().split("\r\n") if line.startswith("content-length: "))
    return int(head.split()[1]), json.loads(await reader.readexactly(length))


async def connected(api: Api) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    where = urlsplit(api.url)
    return await asyncio.open_connection(where.hostname, where.port)


async def count(api: Api, user: str) -> int:
    rows = await api.system.rows("SELECT count(*) AS n FROM notification WHERE user_id = $1", user)
    return sum(row["n"] for row in rows)


async def test_a_connection_that_ends_after_its_answer_asks_for_nothing_more(api: Api):
    user = uuid.uuid4().hex
    for headers in ((), ("Connection: close",)):
        reader, writer = await connected(api)
        writer.write(request(api, to(user), *headers))
        assert (await answer(reader))[0] == 202
        writer.close()
        await writer.wait_closed()
    later = await api.send(to(user))  # the server has seen both ends by the time it answers this
    assert later.status == 202
    await asyncio.gather(*(api.send(to(uuid.uuid4().hex)) for _ in range(5)))
    assert await count(api, user) == 3


async def test_requests_in_one_piece_are_answered_in_order(api: Api):
    users = [uuid.uuid4().hex for _ in range(5)]
    reader, writer = await connected(api)
    writer.write(b"".join(request(api, to(user)) for user in users))
    answers = [await answer(reader) for _ in users]
    writer.close()
    await writer.wait_closed()
    assert [status for status, _ in answers] == [202] * 5
    said = [await api.call("GET", f"/api/v1/notifications/{body['id']}") for _, body in answers]
    assert [one.body["user"] for one in said] == users
    assert [await count(api, user) for user in users] == [1] * 5


async def test_a_refusal_on_the_short_way_leaves_the_connection_usable(api: Api):
    user = uuid.uuid4().hex
    reader, writer = await connected(api)
    writer.write(request(api, {"to": user}) + request(api, to(user)))
    assert (await answer(reader))[0] == 422
    assert (await answer(reader))[0] == 202
    writer.close()
    await writer.wait_closed()


async def test_who_asks_to_close_is_answered_first_and_then_closed_upon(api: Api):
    reader, writer = await connected(api)
    writer.write(request(api, to(uuid.uuid4().hex), "Connection: close"))
    assert (await answer(reader))[0] == 202
    assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()
    await writer.wait_closed()

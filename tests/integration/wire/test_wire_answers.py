"""The wire against a peer that cuts, drips, floods and lies, byte by byte."""

import asyncio
import time

import pytest
from wire_calls import BODY, OK, post, wired
from wire_peer import WAIT_S, Talk, answer, answering, playing, until

from tidings.providers.wire import Answer, NoAnswer, NotSent, Wire

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_an_answer_is_a_value_and_the_connection_is_kept() -> None:
    async with wired(answering(OK)) as (wire, peer):
        for _ in range(3):
            said = await post(wire)
            assert isinstance(said, Answer)
            assert (said.status, said.body, said.header(b"x-message-id")) == (202, b"taken", b"m1")
            assert said.header(b"absent") is None
        assert len(peer.seen) == 1
        assert bytes(peer.seen[0]).startswith(
            f"POST /send HTTP/1.1\r\nHost: 127.0.0.1:{peer.port}\r\nAuthorization: Bearer key\r\n"
            f"Content-Length: {len(BODY)}\r\n\r\n".encode()
            + BODY
        )


@pytest.mark.parametrize("status", [200, 202, 204, 301, 302, 304, 307, 400, 401, 404, 429, 500, 503])
async def test_every_complete_answer_is_an_answer_and_no_redirect_is_followed(status: int) -> None:
    async with playing(answering(OK)) as elsewhere:
        raw = answer(status, b"" if status in (204, 304) else b"x", f"Location: {elsewhere.origin}/\r\n")
        async with wired(answering(raw)) as (wire, _):
            said = await post(wire)
            assert isinstance(said, Answer)
            assert said.status == status
        assert elsewhere.seen == []


@pytest.mark.parametrize("end", ["reset", "close"])
async def test_an_answer_cut_at_any_byte_is_no_answer(end: str) -> None:
    for n in range(len(OK)):

        async def cut(talk: Talk, n: int = n) -> None:
            await talk.request()
            await talk.say(OK[:n])
            if end == "reset":
                talk.reset()

        async with wired(cut) as (wire, peer):
            said = await post(wire)
            assert isinstance(said, NoAnswer), (n, said)
            assert said.code in ("truncated", "reset", "closed")
            assert len(peer.seen) == 1


async def test_a_reset_at_any_byte_of_the_request_is_never_an_answer_and_never_repeated() -> None:
    whole = (
        len(b"POST /send HTTP/1.1\r\nHost: 127.0.0.1:65535\r\nAuthorization: Bearer key\r\nContent-Length: 25\r\n\r\n")
        + 20
    )
    for n in range(whole):

        async def cut(talk: Talk, n: int = n) -> None:
            await talk.read(n)
            talk.reset()

        async with wired(cut) as (wire, peer):
            said = await post(wire)
            # A reset before anything was read may have come before anything was written, too.
            assert isinstance(said, NoAnswer) or (n == 0 and isinstance(said, NotSent)), (n, said)
            assert len(peer.seen) == 1


async def test_a_write_that_fails_part_way_is_no_answer() -> None:
    async def deaf(talk: Talk) -> None:
        await talk.read(100_000)
        talk.reset()

    async with wired(deaf) as (wire, peer):
        said = await post(wire, b"x" * 20_000_000)
        assert isinstance(said, NoAnswer)
        assert said.code in ("reset", "closed")
        assert len(peer.seen) == 1


async def test_a_request_larger_than_every_buffer_arrives_whole() -> None:
    body = bytes(range(256)) * 40_000
    async with wired(answering(OK)) as (wire, peer):
        assert isinstance(await post(wire, body), Answer)
        assert peer.seen[0].endswith(body)


async def test_a_chunked_answer_may_come_byte_by_byte() -> None:
    chunks = b"3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nX-Message-Id: trailer\r\n\r\n"
    raw = b"HTTP/1.1 202 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks

    async def slowly(talk: Talk) -> None:
        while True:
            await talk.request()
            for i in range(len(raw)):
                await talk.say(raw[i : i + 1])
                await asyncio.sleep(0)

    async with wired(slowly) as (wire, peer):
        for _ in range(2):
            said = await post(wire)
            assert isinstance(said, Answer)
            assert said.body == b"abcde"
            assert said.header(b"x-message-id") is None, "a trailer is no header"
        assert len(peer.seen) == 1


@pytest.mark.parametrize(
    "drip", [b"", b"H", b"HTTP/1.1 202 OK\r\nX: ", b"HTTP/1.1 202 OK\r\nContent-Length: 9999\r\n\r\n"]
)
async def test_silence_and_dripping_end_at_the_total_deadline(drip: bytes) -> None:
    async def dripping(talk: Talk) -> None:
        await talk.request()
        await talk.say(drip)
        while drip[1:]:
            await talk.say(b"x")
            await asyncio.sleep(0.02)
        await talk.gone()

    async with wired(dripping, total_s=0.2) as (wire, peer):
        before = time.monotonic()
        said = await post(wire)
        assert isinstance(said, NoAnswer)
        assert said.code == "timeout"
        assert 0.19 <= time.monotonic() - before < 2
        await until(lambda: peer.open == 0)


async def test_each_of_many_calls_ends_at_its_own_deadline() -> None:
    async def silent(talk: Talk) -> None:
        await talk.gone()

    async def timed(wire: Wire, after_s: float) -> float:
        await asyncio.sleep(after_s)
        before = time.monotonic()
        assert isinstance(await post(wire), NoAnswer)
        return time.monotonic() - before

    async with wired(silent, total_s=0.3) as (wire, _):
        took_s = await asyncio.gather(*[timed(wire, n / 50) for n in range(10)])
        assert all(0.29 <= one < 0.6 for one in took_s), took_s


WHOLE, HEADERS = "over 200000 bytes", "headers over 8192 bytes"
CHUNKED = b"HTTP/1.1 202 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
ENDLESS = {
    "body in chunks": (CHUNKED, b"400\r\n" + b"x" * 1024 + b"\r\n", WHOLE),
    "tiny chunks": (CHUNKED, b"1\r\nx\r\n" * 500, WHOLE),
    "trailers": (CHUNKED + b"0\r\n", b"X-A: b\r\n" * 100, WHOLE),
    "body without a length": (b"HTTP/1.1 202 OK\r\n\r\n", b"x" * 1024, WHOLE),
    "body with a length": (b"HTTP/1.1 202 OK\r\nContent-Length: 99999999\r\n\r\n", b"x" * 1024, WHOLE),
    "headers": (b"HTTP/1.1 202 OK\r\n", b"X-A: b\r\n" * 100, HEADERS),
    "one header": (b"HTTP/1.1 202 OK\r\nX-A: ", b"b" * 1024, HEADERS),
    "reason": (b"HTTP/1.1 202 ", b"b" * 1024, HEADERS),
    "interim answers": (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 50, HEADERS),
}


@pytest.mark.parametrize("kind", ENDLESS)
async def test_an_endless_answer_is_cut_off(kind: str) -> None:
    start, more, bound = ENDLESS[kind]

    async def endless(talk: Talk) -> None:
        await talk.request()
        await talk.say(start)
        while True:
            await talk.say(more)

    async with wired(endless, answer_bytes=200_000, header_bytes=8_192, total_s=WAIT_S) as (wire, peer):
        said = await post(wire)
        assert said == NoAnswer("too_large", bound)
        await until(lambda: peer.open == 0)


GARBAGE = {
    "a greeting": b"220 mail.example.com ESMTP\r\n",
    "html": b"<html><body>It works!</body></html>",
    "zeroes": bytes(64),
    "two lengths": b"HTTP/1.1 202 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "length and chunks": b"HTTP/1.1 202 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a negative length": b"HTTP/1.1 202 OK\r\nContent-Length: -1\r\n\r\n",
    "no such chunk": b"HTTP/1.1 202 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "no such status": b"HTTP/1.1 20 OK\r\n\r\n",
    "another protocol": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "a bare line feed": b"HTTP/1.1 202 OK\nX-Message-Id: m1\r\n\r\n",
    "nothing in a header": b"HTTP/1.1 202 OK\r\nX-Message-Id: m\x001\r\n\r\n",
}


@pytest.mark.parametrize("kind", GARBAGE)
async def test_garbage_is_no_answer(kind: str) -> None:
    async def garbled(talk: Talk) -> None:
        await talk.request()
        await talk.say(GARBAGE[kind])
        await talk.gone()

    async with wired(garbled, total_s=1.0) as (wire, peer):
        said = await post(wire)
        assert isinstance(said, NoAnswer)
        assert said.code == "garbled"
        await until(lambda: peer.open == 0)


async def test_interim_answers_are_passed_over() -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nX-Message-Id: early\r\n\r\n"
    async with wired(answering(interim + OK)) as (wire, peer):
        for _ in range(2):
            said = await post(wire)
            assert isinstance(said, Answer)
            assert (said.status, said.header(b"x-message-id"), said.body) == (202, b"m1", b"taken")
        assert len(peer.seen) == 1


async def test_an_early_answer_counts_and_costs_the_connection() -> None:
    async def hasty(talk: Talk) -> None:
        await talk.head()
        await talk.say(answer(413, b"too much"))
        await talk.gone()

    async with wired(hasty) as (wire, peer):
        said = await post(wire, b"x" * 20_000_000)
        assert isinstance(said, Answer)
        assert said.status == 413
        await until(lambda: peer.open == 0)
        assert isinstance(await post(wire, b"x" * 20_000_000), Answer)
        assert len(peer.seen) == 2

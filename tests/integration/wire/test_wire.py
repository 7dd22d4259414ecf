"""The wire against a peer that does what no honest server does, byte by byte."""

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from wire_peer import WAIT_S, Authority, Peer, Script, Talk, answer, answering, free_port, playing, until

from tidings.providers.wire import Answer, Fenced, Limits, NoAnswer, NotSent, Said, Wire

pytestmark = pytest.mark.asyncio(loop_scope="module")

BODY = b'{"to": "ada@example.com"}'
OK = answer(202, b"taken", "X-Message-Id: m1\r\n")


def yes() -> bool:
    return True


async def post(wire: Wire, body: bytes = BODY, may_write: Callable[[], bool] = yes) -> Said:
    return await wire.call(wire.head("POST", "/send", {"Authorization": "Bearer key"}), body, may_write)


@asynccontextmanager
async def wired(script: Script, tls: ssl.SSLContext | None = None, **limits: Any) -> AsyncIterator[tuple[Wire, Peer]]:
    async with playing(script) as peer:
        wire = Wire(peer.origin, limits=Limits(**limits), tls=tls)
        try:
            yield wire, peer
        finally:
            wire.close()


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


async def test_a_call_that_was_long_in_connecting_still_ends_at_its_own_deadline(authority: Authority) -> None:
    """The one timer is set for a later call when this one begins to wait."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    loop, total_s = asyncio.get_running_loop(), 0.8
    wire = Wire(
        f"https://127.0.0.1:{listener.getsockname()[1]}", tls=authority.trusting(), limits=Limits(total_s=total_s)
    )

    async def accepted() -> socket.socket:
        talk, _ = await loop.sock_accept(listener)
        return talk

    async def served(talk: socket.socket) -> None:
        await loop.connect_accepted_socket(asyncio.Protocol, talk, ssl=authority.serving())

    early = asyncio.create_task(post(wire))
    first = await accepted()
    await asyncio.sleep(total_s / 4)
    began_s = loop.time()
    slow = asyncio.create_task(post(wire))
    second = await accepted()
    await asyncio.sleep(total_s / 4)
    late = asyncio.create_task(post(wire))
    third = await accepted()
    await served(third)
    await until(lambda: wire._busy)
    await served(second)
    assert isinstance(await slow, NoAnswer)
    assert loop.time() - began_s == pytest.approx(total_s, abs=total_s / 8)
    assert isinstance(await late, NoAnswer)
    assert isinstance(await early, NotSent)
    wire.close()
    first.close()
    listener.close()


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


LAST_WORDS = {
    "connection: close": b"HTTP/1.1 202 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.0": b"HTTP/1.0 202 OK\r\nContent-Length: 2\r\n\r\nok",
    "no length": b"HTTP/1.1 202 OK\r\n\r\nok",
    "HTTP/1.0 without a length": b"HTTP/1.0 202 OK\r\n\r\nok",
}


@pytest.mark.parametrize("kind", LAST_WORDS)
async def test_a_connection_that_its_peer_ends_is_not_used_again(kind: str) -> None:
    async def once(talk: Talk) -> None:
        await talk.request()
        await talk.say(LAST_WORDS[kind])
        if b"Content-Length" in LAST_WORDS[kind]:
            await talk.gone()

    async with wired(once) as (wire, peer):
        for n in (1, 2, 3):
            said = await post(wire)
            assert isinstance(said, Answer)
            assert said.body == b"ok"
            assert len(peer.seen) == n


async def test_an_answer_without_a_length_that_ends_in_a_reset_is_no_answer() -> None:
    received = asyncio.Event()

    async def cut(talk: Talk) -> None:
        await talk.request()
        await talk.say(LAST_WORDS["no length"])
        await received.wait()
        talk.reset()

    async with wired(cut) as (wire, _):
        call = asyncio.create_task(post(wire))
        await until(lambda: any(connection._received for connection in wire._busy))
        received.set()
        said = await call
        assert isinstance(said, NoAnswer)
        assert said.code == "truncated"


async def test_what_a_peer_says_unasked_is_never_the_answer_to_the_next_call() -> None:
    stale = answer(202, b"stale", "X-Message-Id: stale\r\n")
    for extra in (stale, stale[:5], b"\r\n" + stale):

        async def talkative(talk: Talk, extra: bytes = extra) -> None:
            await talk.request()
            await talk.say(OK + extra)
            await talk.request()
            await talk.say(OK)

        async with wired(talkative) as (wire, _):
            for _ in range(2):
                said = await post(wire)
                assert isinstance(said, Answer)
                assert said.body == b"taken"


async def test_a_late_unasked_answer_costs_the_idle_connection() -> None:
    speak = asyncio.Event()

    async def talkative(talk: Talk) -> None:
        await talk.request()
        await talk.say(OK)
        await speak.wait()
        await talk.say(answer(408))
        await talk.gone()

    async with wired(talkative) as (wire, peer):
        assert isinstance(await post(wire), Answer)
        speak.set()
        await until(lambda: peer.open == 0)
        said = await post(wire)
        assert isinstance(said, Answer)
        assert said.status == 202
        assert len(peer.seen) == 2


async def test_a_connection_closed_while_idle_is_replaced() -> None:
    async def once(talk: Talk) -> None:
        await talk.request()
        await talk.say(OK)

    async with wired(once) as (wire, peer):
        for n in range(1, 20):
            assert isinstance(await post(wire), Answer)
            await until(lambda: peer.open == 0)
            assert len(peer.seen) == n


def _blocking_peer() -> socket.socket:
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(WAIT_S)
    return listener


def _serve_one(listener: socket.socket) -> socket.socket:
    talk, _ = listener.accept()
    talk.settimeout(WAIT_S)
    talk.recv(65536)
    talk.sendall(OK)
    return talk


async def test_a_close_that_the_loop_has_not_seen_yet_is_seen_before_writing() -> None:
    """The loop gets no turn between the peer's close and the call: only the kernel can know."""
    with _blocking_peer() as listener:
        wire = Wire(f"http://127.0.0.1:{listener.getsockname()[1]}")
        serving = asyncio.create_task(asyncio.to_thread(_serve_one, listener))
        assert isinstance(await post(wire), Answer)
        talk = await serving
        rested_until = time.monotonic() + 0.02
        talk.close()
        while time.monotonic() < rested_until:
            pass
        again = asyncio.to_thread(_serve_one, listener)
        said, second = await asyncio.gather(post(wire), again)
        second.close()
        wire.close()
        assert isinstance(said, Answer)


async def test_the_bytes_have_left_when_the_call_first_waits() -> None:
    """Between the question to the fence and the kernel stands no turn of the event loop."""
    with _blocking_peer() as listener:
        wire = Wire(f"http://127.0.0.1:{listener.getsockname()[1]}")
        serving = asyncio.create_task(asyncio.to_thread(_serve_one, listener))
        assert isinstance(await post(wire), Answer)
        talk = await serving
        call = post(wire)
        call.send(None)
        assert talk.recv(65536, socket.MSG_DONTWAIT).endswith(BODY)
        call.close()
        talk.close()
        wire.close()


async def test_an_idle_connection_that_is_too_old_is_not_used() -> None:
    async with wired(answering(OK), idle_s=0.0) as (wire, peer):
        for n in (1, 2):
            assert isinstance(await post(wire), Answer)
            assert len(peer.seen) == n


async def test_the_fence_keeps_every_byte_and_the_connection_stays_good() -> None:
    async with wired(answering(OK)) as (wire, peer):
        assert await post(wire, may_write=lambda: False) == Fenced()
        assert isinstance(await post(wire), Answer)
        before = peer.bytes_seen
        assert await post(wire, may_write=lambda: False) == Fenced()
        assert isinstance(await post(wire), Answer)
        assert len(peer.seen) == 1
        assert peer.bytes_seen == before * 2


async def test_the_fence_is_asked_on_an_open_connection() -> None:
    asked: list[int] = []
    async with wired(answering(OK)) as (wire, peer):

        def may_write() -> bool:
            asked.append(len(peer.seen))
            return True

        async def connected() -> None:
            await until(lambda: peer.seen)

        await asyncio.gather(post(wire, may_write=may_write), connected())
        await post(wire, may_write=may_write)
        assert len(asked) == 2


async def test_a_fence_that_breaks_costs_no_turn() -> None:
    def broken() -> bool:
        raise ZeroDivisionError

    async with wired(answering(OK), connections=1, wait_s=0.1) as (wire, _):
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                await post(wire, may_write=broken)
        assert isinstance(await post(wire), Answer)


async def test_the_pool_is_bounded_and_everybody_gets_a_turn() -> None:
    async def one_at_a_time(talk: Talk) -> None:
        while True:
            request = await talk.request()
            await asyncio.sleep(0.001)
            await talk.say(answer(202, request.split(b"\r\n\r\n")[1]))

    async with wired(one_at_a_time, connections=3) as (wire, peer):
        said = await asyncio.gather(*[post(wire, b"%d" % n) for n in range(60)])
        assert [one.body for one in said if isinstance(one, Answer)] == [b"%d" % n for n in range(60)]
        assert peer.most_open == 3


async def test_who_waits_too_long_for_a_turn_has_sent_nothing() -> None:
    async def silent(talk: Talk) -> None:
        await talk.gone()

    async with wired(silent, connections=1, wait_s=0.05, total_s=0.3) as (wire, peer):
        first, second = await asyncio.gather(post(wire), post(wire))
        assert isinstance(first, NoAnswer)
        assert isinstance(second, NotSent)
        assert second.code == "pool_timeout"
        assert len(peer.seen) == 1
        assert isinstance(await post(wire), NoAnswer), "the turn was lost to the one that had given up"


async def test_a_cancelled_call_costs_its_connection_and_nothing_else() -> None:
    async def confused(talk: Talk) -> None:
        while True:
            request = await talk.request()
            body = request.split(b"\r\n\r\n")[1]
            if body == b"first":
                await talk.gone()
            await talk.say(answer(202, body))

    async with wired(confused, connections=1) as (wire, peer):
        for n in range(3):
            call = asyncio.create_task(post(wire, b"first"))
            await until(lambda n=n: len(peer.seen) == 2 * n + 1 and peer.seen[-1].endswith(b"first"))
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            said = await post(wire, b"next")
            assert isinstance(said, Answer)
            assert said.body == b"next"
            wire._idle.pop().abort()


async def test_a_call_cancelled_at_any_moment_never_loses_a_turn_or_crosses_answers() -> None:
    async def echo(talk: Talk) -> None:
        while True:
            await talk.say(answer(202, (await talk.request()).split(b"\r\n\r\n")[1]))

    async with wired(echo, connections=2, wait_s=WAIT_S) as (wire, peer):
        for turns in range(40):
            calls = [asyncio.create_task(post(wire, b"%d" % n)) for n in range(5)]
            for _ in range(turns):
                await asyncio.sleep(0)
            calls[turns % 5].cancel()
            said = await asyncio.gather(*calls, return_exceptions=True)
            for n, one in enumerate(said):
                if isinstance(one, Answer):
                    assert one.body == b"%d" % n
                else:
                    assert n == turns % 5 and isinstance(one, asyncio.CancelledError)
        await until(lambda: peer.open <= 2)
        assert len(await asyncio.gather(post(wire), post(wire))) == 2


async def test_closing_ends_every_call_at_once() -> None:
    async def silent(talk: Talk) -> None:
        await talk.gone()

    async with wired(silent, connections=2) as (wire, peer):
        calls = [asyncio.create_task(post(wire)) for _ in range(3)]
        await until(lambda: len(peer.seen) == 2 and all(one.endswith(BODY) for one in peer.seen))
        wire.close()
        said = await asyncio.gather(*calls)
        assert said == [NoAnswer("shutdown"), NoAnswer("shutdown"), NotSent("shutdown")]
        assert await post(wire) == NotSent("shutdown")
        await until(lambda: peer.open == 0)


async def test_nothing_leaves_when_nobody_listens() -> None:
    wire = Wire(f"http://127.0.0.1:{free_port()}")
    said = await post(wire)
    assert isinstance(said, NotSent)
    assert said.code == "connect_refused"


async def test_nothing_leaves_when_the_name_is_unknown() -> None:
    said = await post(Wire("http://no-such-host.invalid"))
    assert isinstance(said, NotSent)
    assert said.code == "dns"


async def test_nothing_leaves_when_connecting_takes_too_long() -> None:
    """A full backlog drops the first packet of every further connection, like a black hole."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        address = listener.getsockname()
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(address)
        said = await post(Wire(f"http://127.0.0.1:{address[1]}", limits=Limits(connect_s=0.1)))
        for filler in fillers:
            filler.close()
        assert isinstance(said, NotSent)
        assert said.code == "connect_timeout"


async def test_tls_carries_calls_to_the_host_it_names(authority: Authority) -> None:
    async with playing(answering(OK), authority.serving()) as peer:
        wire = Wire(peer.origin, tls=authority.trusting())
        for _ in range(3):
            assert isinstance(await post(wire), Answer)
        assert isinstance(await post(wire, b"x" * 5_000_000), Answer)
        assert len(peer.seen) == 1
        wire.close()


async def _nothing_sent_over_tls(peer: Peer, trusted: ssl.SSLContext | None) -> None:
    wire = Wire(peer.origin.replace("http:", "https:"), tls=trusted, limits=Limits(connect_s=1.0))
    said = await post(wire)
    wire.close()
    assert isinstance(said, NotSent), said
    assert peer.bytes_seen == 0


async def test_nothing_leaves_when_the_certificate_is_not_for_that_host(authority: Authority) -> None:
    async with playing(answering(OK), authority.serving("127.0.0.2")) as peer:
        await _nothing_sent_over_tls(peer, authority.trusting())


async def test_nothing_leaves_when_the_certificate_has_run_out(authority: Authority) -> None:
    async with playing(answering(OK), authority.serving(days=-1)) as peer:
        await _nothing_sent_over_tls(peer, authority.trusting())


async def test_nothing_leaves_when_the_authority_is_unknown(authority: Authority, tmp_path: Path) -> None:
    async with playing(answering(OK), authority.serving()) as peer:
        await _nothing_sent_over_tls(peer, Authority(tmp_path).trusting())
        await _nothing_sent_over_tls(peer, None)


@pytest.mark.parametrize("greeting", [b"", b"220 hello\r\n", OK])
async def test_nothing_leaves_when_the_peer_speaks_no_tls(authority: Authority, greeting: bytes) -> None:
    async def plain(talk: Talk) -> None:
        await talk._reader.read(1)
        await talk.say(greeting)

    async with playing(plain) as peer:
        await _nothing_sent_over_tls(peer, authority.trusting())


async def test_nothing_leaves_when_the_handshake_hangs(authority: Authority) -> None:
    async def hanging(talk: Talk) -> None:
        await asyncio.Event().wait()

    async with playing(hanging) as peer:
        await _nothing_sent_over_tls(peer, authority.trusting())


@pytest.mark.parametrize("end", ["reset", "close"])
async def test_over_tls_too_a_cut_answer_is_no_answer(authority: Authority, end: str) -> None:
    for n in range(0, len(OK), 7):

        async def cut(talk: Talk, n: int = n) -> None:
            await talk.request()
            await talk.say(OK[:n])
            if end == "reset":
                talk.reset()

        async with playing(cut, authority.serving()) as peer:
            wire = Wire(peer.origin, tls=authority.trusting())
            said = await post(wire)
            wire.close()
            assert isinstance(said, NoAnswer), (n, said)


async def test_misbehaving_peers_leave_no_socket_and_no_task_behind(authority: Authority) -> None:
    async def hang(talk: Talk) -> None:
        await talk.request()
        await talk.gone()

    async def cut(talk: Talk) -> None:
        await talk.request()
        await talk.say(OK[:20])
        talk.reset()

    sockets, tasks = len(list(Path("/proc/self/fd").iterdir())), len(asyncio.all_tasks())
    for script, tls in ((hang, None), (cut, None), (hang, authority.serving()), (cut, authority.serving())):
        async with playing(script, tls) as peer:
            wire = Wire(peer.origin, tls=authority.trusting() if tls else None, limits=Limits(total_s=1.0))
            said = await asyncio.gather(*[post(wire) for _ in range(20)])
            assert all(isinstance(one, NoAnswer) for one in said)
            await until(lambda peer=peer: peer.open == 0)
            assert wire._busy == set() and wire._idle == []
    await until(lambda: len(list(Path("/proc/self/fd").iterdir())) <= sockets and len(asyncio.all_tasks()) <= tasks)


@pytest.mark.parametrize("bad", ["a\r\nX-B: c", "a\nb", "a\rb", "a\0b", "ü", "a\x85b", "a\u2028b", "a\x7fb"])
async def test_nothing_that_breaks_a_line_gets_into_a_head(bad: str) -> None:
    wire = Wire("http://127.0.0.1:1")
    for arguments in (("POST", "/", {"X-A": bad}), ("POST", "/", {bad: "a"}), ("POST", f"/{bad}", {}), (bad, "/", {})):
        with pytest.raises(ValueError) as refused:
            wire.head(*arguments)
        if arguments[2] == {"X-A": bad}:
            assert bad not in str(refused.value), "a value may be a secret"
    with pytest.raises(ValueError):
        wire.head("GET", "/a b", {})


@pytest.mark.parametrize(
    "origin",
    ["", "ftp://a", "http://", "http://a/", "http://a/b", "http://a?b", "http://a#b", "http://u:p@a", "http://a:99999",
     "http://a b", "http://a\r\nb", "http://ü", "a:80", "http://" + "a" * 64, "http://a..b"],
)  # fmt: skip
async def test_only_an_origin_is_an_origin(origin: str) -> None:
    with pytest.raises(ValueError):
        Wire(origin)

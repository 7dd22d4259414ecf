"""Kept connections, turns and cancelled calls: who gets which connection, and when none may be used again."""

import asyncio
import socket
import time
from pathlib import Path

import pytest
from wire_calls import BODY, OK, post, wired
from wire_peer import WAIT_S, Authority, Talk, answer, answering, playing, until

from tidings.providers.wire import Answer, Fenced, Limits, NoAnswer, NotSent, Wire

pytestmark = pytest.mark.asyncio(loop_scope="module")

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

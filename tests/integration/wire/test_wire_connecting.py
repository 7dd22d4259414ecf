"""What must be true before the first byte leaves: an address, a connection, a certificate, a head without tricks."""

import asyncio
import socket
import ssl
from pathlib import Path

import pytest
from wire_calls import OK, post
from wire_peer import Authority, Peer, Talk, answering, playing, until

from tidings.providers.wire import Answer, Limits, NoAnswer, NotSent, Wire
from tidings.runtime.ports import free_port

pytestmark = pytest.mark.asyncio(loop_scope="module")


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

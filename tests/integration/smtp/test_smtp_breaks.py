"""What breaks, at every step, against a peer that does what no honest server does."""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
import pytest
from smtp_rig import REFERENCE, account, message, said, using
from wire_peer import Authority, Peer, Script, Talk, playing, until

from tidings.domain.notification import Content
from tidings.domain.outcome import Fenced, Outcome, Refused, Sent, TryLater, TryNext, Unsure
from tidings.providers.smtp_wire import Envelope, Server, SmtpWire
from tidings.providers.wire import Limits, NoAnswer, NotSent
from tidings.providers.wire_reach import Reach

pytestmark = pytest.mark.asyncio(loop_scope="module")
END = b"\r\n.\r\n"
HUGE = message(content=Content(subject="s", text=("x" * 70 + "\n") * 200_000))
"""More than any socket's buffers hold."""

STEPS = ("greeting", "EHLO", "MAIL", "RCPT", "DATA", "content", "end")
REPLIES = {"EHLO": b"250-mail.example.com\r\n250 8BITMIME\r\n", "DATA": b"354 go on\r\n"}
Break = Callable[[Talk], Awaitable[None]]


def plain(outcome: Outcome) -> Outcome:
    return msgspec.structs.replace(outcome, detail="")


def breaking(at: str, how: Break) -> Script:
    """A patient server up to this step, which is answered by ``how``, and then by nothing more."""

    async def script(talk: Talk) -> None:
        if at == "greeting":
            return await how(talk)
        await talk.say(b"220 mail.example.com\r\n")
        while True:
            verb = (await talk.line()).split()[0].decode()
            if verb == at:
                return await how(talk)
            await talk.say(REPLIES.get(verb, b"250 ok\r\n"))
            if verb == "DATA":
                await talk.until(b"Subject: " if at == "content" else END)
                if at in ("content", "end"):
                    return await how(talk)
                await talk.say(b"250 queued\r\n")

    return script


async def _close(talk: Talk) -> None:
    return


async def _reset(talk: Talk) -> None:
    talk.reset()


async def _silence(talk: Talk) -> None:
    await talk.gone()


async def _half(talk: Talk) -> None:
    await talk.say(b"250-and then")


async def _nonsense(talk: Talk) -> None:
    await talk.say(b"what?\r\n")
    await talk.gone()


async def _endless(talk: Talk) -> None:
    await talk.say(b"250-more\r\n" * 20_000)
    await talk.gone()


async def _long(talk: Talk) -> None:
    await talk.say(b"250 " + b"x" * 100_000)
    await talk.gone()


BREAKS = {
    "closes": (_close, {"closed", "reset"}),
    "resets": (_reset, {"closed", "reset"}),
    "says nothing": (_silence, {"timeout"}),
    "says half": (_half, {"truncated", "reset"}),
    "talks nonsense": (_nonsense, {"garbled"}),
    "never ends": (_endless, {"too_large"}),
    "has long lines": (_long, {"too_large"}),
}


@pytest.mark.parametrize("at", [step for step in STEPS if step != "content"])
@pytest.mark.parametrize("how", BREAKS)
async def test_only_what_breaks_after_the_dot_is_a_doubt(at: str, how: str) -> None:
    do, codes = BREAKS[how]
    async with playing(breaking(at, do)) as peer:
        outcome = await said(account(peer.port, timeout_s="1" if how == "says nothing" else "10"))
    assert isinstance(outcome, Unsure if at == "end" else TryNext)
    assert outcome.code in codes


@pytest.mark.parametrize("encrypted", [False, True], ids=["open", "encrypted"])
@pytest.mark.parametrize("how", ["closes", "resets", "says nothing", "talks nonsense"])
async def test_what_breaks_in_the_middle_of_a_message_is_surely_not_sent(
    how: str, encrypted: bool, authority: Authority
) -> None:
    do, codes = BREAKS[how]
    if how == "says nothing":
        do = _never_read
    settings = {"timeout_s": "2" if how == "says nothing" else "30", "ca": authority.pem}
    async with playing(breaking("content", do), authority.serving() if encrypted else None) as peer:
        outcome = await said(account(peer.port, "smtps" if encrypted else "smtp", **settings), HUGE)
        assert isinstance(outcome, TryNext)
        assert outcome.code in codes
        assert not any(END in seen for seen in peer.seen)


async def _never_read(talk: Talk) -> None:
    await talk.lost()


@pytest.mark.parametrize(
    ("reply", "becomes"),
    [
        (b"552 5.3.4 too big\r\n", Refused("smtp_552")),
        (b"421 4.3.2 going down\r\n", TryNext("smtp_421")),
        (b"451 4.3.0 later\r\n", TryLater("smtp_451")),
        (b"250 taken already\r\n", TryNext("smtp_250")),
    ],
)
async def test_a_server_that_answers_before_the_end_is_believed(reply: bytes, becomes: Outcome) -> None:
    async def early(talk: Talk) -> None:
        await talk.say(reply)
        await talk.gone()

    async with playing(breaking("content", early)) as peer:
        assert plain(await said(account(peer.port, timeout_s="30"), HUGE)) == becomes
        assert not any(END in seen for seen in peer.seen)


async def test_the_fence_is_asked_when_all_but_the_dot_has_left() -> None:
    seen_then = []

    async def script(talk: Talk) -> None:
        await breaking("end", _close)(talk)

    async with playing(script) as peer, using(account(peer.port)) as provider:

        def may_write() -> bool:
            seen_then.append(bytes(peer.seen[0]))
            return False

        assert await provider.send(message(), may_write) == Fenced()
        await until(lambda: not peer.open)
        (then,) = seen_then
        assert b"DATA\r\n" in then
        assert END not in peer.seen[0]


async def test_after_the_fence_the_next_message_goes_by_a_new_connection() -> None:
    async with playing(breaking("", _close)) as peer, using(account(peer.port)) as provider:
        assert await provider.send(message(), lambda: False) == Fenced()
        assert isinstance(await provider.send(message(), lambda: True), Sent)
        assert [END in seen for seen in peer.seen] == [False, True]


@pytest.mark.parametrize("farewell", [b"421 4.4.2 timeout\r\n", b"502 unknown\r\n", b""])
async def test_a_kept_connection_that_no_longer_serves_is_replaced_before_the_message_is_begun(farewell: bytes) -> None:
    async def script(talk: Talk) -> None:
        await breaking("RSET", lambda talk: talk.say(farewell))(talk)

    async with playing(script) as peer, using(account(peer.port)) as provider:
        for n in range(1, 4):
            assert isinstance(await provider.send(message(), lambda: True), Sent)
            assert sum(seen.count(END) for seen in peer.seen) == n
        assert len(peer.seen) == 3


async def test_a_kept_connection_that_hangs_is_replaced_in_time() -> None:
    async with (
        playing(breaking("RSET", _silence)) as peer,
        using(account(peer.port, connect_timeout_s="0.3", timeout_s="20")) as provider,
    ):
        for _ in range(2):
            assert isinstance(await provider.send(message(), lambda: True), Sent)
        assert len(peer.seen) == 2


@pytest.mark.parametrize("unasked", [b"250 psst\r\n", b"220 hello again\r\n", b"psst"])
async def test_a_reply_that_nobody_asked_for_answers_nothing(unasked: bytes) -> None:
    async def twice(talk: Talk) -> None:
        await talk.say(b"250 ok\r\n" + unasked)
        await talk.gone()

    async with playing(breaking("RCPT", twice)) as peer:
        assert isinstance(await said(account(peer.port, timeout_s="2")), TryNext)
        assert not any(END in seen for seen in peer.seen)


async def test_what_a_stranger_says_before_the_handshake_is_not_believed() -> None:
    async def script(talk: Talk) -> None:
        await talk.say(b"220 mail\r\n")
        await talk.line()
        await talk.say(b"250-mail\r\n250 STARTTLS\r\n")
        await talk.line()
        await talk.say(b"220 go ahead\r\n250-mail\r\n250 AUTH PLAIN\r\n")
        await talk.gone()

    async with playing(script) as peer:
        outcome = await said(account(peer.port, tls="starttls", username="shop", password="secret"))
        assert isinstance(outcome, TryNext)
        assert b"AUTH" not in bytes(peer.seen[0])


async def test_a_password_that_a_server_repeats_is_not_shown() -> None:
    async def tell(talk: Talk) -> None:
        await talk.say(b"535 5.7.8 secret-word is wrong, c2hvcA== too\r\n")

    async with playing(breaking("AUTH", tell)) as peer:
        outcome = await said(account(peer.port, username="shop", password="secret-word"))
    assert isinstance(outcome, TryLater)
    assert outcome.detail == "AUTH: 5.7.8 *** is wrong, c2hvcA== too"


def wire(peer: Peer, **limits: float) -> SmtpWire:
    server = Server(host="127.0.0.1", port=peer.port, tls=None, at_once=False, hello="shop.example.com")
    return SmtpWire(server, Limits(**limits), Reach())


ENVELOPE = Envelope("shop@example.com", "ada@example.com", b"Subject: Hello\r\n\r\nHello\r\n")


async def test_whoever_waits_too_long_for_a_turn_is_surely_not_sent() -> None:
    async with playing(breaking("end", _silence)) as peer:
        one = wire(peer, connections=1, wait_s=0.1)
        first = asyncio.create_task(one.call(ENVELOPE, lambda: True))
        await until(lambda: peer.seen and END in peer.seen[0])
        second = await one.call(ENVELOPE, lambda: True)
        assert isinstance(second, NotSent)
        assert second.code == "pool_timeout"
        one.close()
        assert await first == NoAnswer("shutdown")


async def test_a_call_that_is_cancelled_costs_its_connection_and_nothing_else() -> None:
    async with playing(breaking("end", _silence)) as peer:
        one = wire(peer, connections=1, wait_s=5.0)
        for n in range(1, 4):
            call = asyncio.create_task(one.call(ENVELOPE, lambda: True))
            await until(lambda n=n: len(peer.seen) == n and END in peer.seen[-1])
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            await until(lambda: not peer.open)
        one.close()


async def test_closing_ends_calls_before_the_dot_as_surely_not_sent() -> None:
    async with playing(breaking("MAIL", _silence)) as peer:
        one = wire(peer)
        call = asyncio.create_task(one.call(ENVELOPE, lambda: True))
        await until(lambda: peer.seen and b"MAIL" in peer.seen[0])
        one.close()
        assert await call == NotSent("shutdown")
        assert await one.call(ENVELOPE, lambda: True) == NotSent("shutdown")


async def test_a_connection_that_is_no_longer_needed_is_left_with_a_word() -> None:
    async with playing(breaking("", _close)) as peer:
        async with using(account(peer.port)) as provider:
            assert await provider.send(message(), lambda: True) == Sent(f"{REFERENCE}@example.com", detail="queued")
        await until(lambda: not peer.open)
        assert bytes(peer.seen[0]).endswith(b"QUIT\r\n")


async def test_an_idle_connection_is_not_used_for_ever() -> None:
    async with playing(breaking("", _close)) as peer:
        one = wire(peer, idle_s=0.0)
        for _ in range(2):
            await one.call(ENVELOPE, lambda: True)
        assert len(peer.seen) == 2
        one.close()


async def test_a_server_that_reports_by_envelope_is_given_the_reference() -> None:
    async def script(talk: Talk) -> None:
        await talk.say(b"220 mail.example.com\r\n")
        while True:
            verb = (await talk.line()).split()[0].decode()
            await talk.say({"EHLO": b"250-mail.example.com\r\n250 DSN\r\n"}.get(verb, REPLIES.get(verb, b"250 ok\r\n")))
            if verb == "DATA":
                await talk.until(END)
                await talk.say(b"250 queued\r\n")

    async with playing(script) as peer:
        assert isinstance(await said(account(peer.port)), Sent)
        assert f"\r\nMAIL FROM:<shop@example.com> RET=HDRS ENVID={REFERENCE}\r\n".encode() in peer.seen[0]

"""Against a real mail server: what arrives, encryption, logging in, and connections that are kept."""

import asyncio
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec
import pytest
from smtp_rig import (
    PASSWORD,
    REFERENCE,
    USERNAME,
    account,
    asking_for_login,
    mail_server,
    message,
    said,
    trusted,
    using,
)
from wire_peer import Authority, until

from tidings.domain.notification import Content
from tidings.domain.outcome import Gone, Refused, Sent, TryLater, TryNext

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS"),
]
MESSAGE_ID = f"{REFERENCE}@example.com"


def plain(outcome: Any) -> Any:
    return msgspec.structs.replace(outcome, detail="")


def read(envelope: Any) -> EmailMessage:
    mail = message_from_bytes(envelope.original_content, policy=default)
    assert isinstance(mail, EmailMessage)
    assert not mail.defects
    return mail


def body(mail: EmailMessage, kind: str) -> str:
    part = mail.get_body((kind,))
    assert part is not None
    return str(part.get_content()).replace("\r\n", "\n")


async def test_a_message_arrives_as_it_was_meant() -> None:
    content = Content(
        subject="Grüße, Ada: order 12345",
        text="Hello Ada,\n.\n..\n.x\r\nFrom here on.\rThe end",
        html=f"<p>Grüße</p><!--{'x' * 3000}-->",
    )
    links = f"<https://example.com/u/{'u' * 400}>, <mailto:u@example.com>"
    sent = message(
        content=content,
        sender={"email": "shop@example.com", "name": 'Die "Kümmerer", GmbH'},
        reply_to="help@example.com",
        headers={"List-Unsubscribe": links, "List-Unsubscribe-Post": "List-Unsubscribe=One-Click"},
    )
    async with mail_server() as server:
        outcome = await said(account(server.port), sent)
        assert outcome == Sent(MESSAGE_ID, detail="2.0.0 Ok: queued as Q1")
        (envelope,) = server.taken
        assert server.names == ["shop.example.com"]
    assert (envelope.mail_from, envelope.rcpt_tos) == ("shop@example.com", ["ada@example.com"])
    mail = read(envelope)
    (sender,) = mail["From"].addresses
    assert (sender.display_name, sender.addr_spec) == ('Die "Kümmerer", GmbH', "shop@example.com")
    assert (mail["To"], mail["Subject"]) == ("ada@example.com", content.subject)
    assert (mail["Message-ID"], mail["Reply-To"]) == (f"<{MESSAGE_ID}>", "help@example.com")
    assert (mail["List-Unsubscribe"], mail["List-Unsubscribe-Post"]) == (links, "List-Unsubscribe=One-Click")
    assert abs(parsedate_to_datetime(mail["Date"]) - datetime.now(UTC)) < timedelta(minutes=5)
    assert body(mail, "plain") == "Hello Ada,\n.\n..\n.x\nFrom here on.\nThe end\n"
    assert body(mail, "html").rstrip("\n") == content.html
    raw = envelope.original_content
    assert raw.isascii()
    assert max(map(len, raw.split(b"\r\n"))) <= 998
    assert b"\n" not in raw.replace(b"\r\n", b"") and b"\r" not in raw.replace(b"\r\n", b"")


@pytest.mark.parametrize("part", ["text", "html"])
async def test_a_message_may_have_one_part_alone(part: str) -> None:
    async with mail_server() as server:
        await said(account(server.port), message(content=Content(subject="s", **{part: "Hello"})))
        mail = read(server.taken[0])
    assert mail.get_content_type() == ("text/plain" if part == "text" else "text/html")
    assert mail.get_content().strip() == "Hello"


async def test_headers_that_are_ours_cannot_be_brought_along() -> None:
    brought = dict.fromkeys(("Bcc", "SUBJECT", "Content-Type", "message-id", "X-Campaign"), "eve@example.com")
    async with mail_server() as server:
        await said(account(server.port), message(headers=brought))
        mail = read(server.taken[0])
    assert (mail["Bcc"], mail["X-Campaign"]) == (None, "eve@example.com")
    assert mail.get_all("Subject") == ["Order 12345"]
    assert mail.get_content_type() == "multipart/alternative"


async def test_bounces_go_where_the_account_wants_them_and_replies_to_the_sender() -> None:
    async with mail_server() as server:
        await said(account(server.port, return_path="bounces@example.com"))
        (envelope,) = server.taken
    assert envelope.mail_from == "bounces@example.com"
    assert read(envelope)["From"] == "shop@example.com"


SECURE = {"starttls": ("smtp", {"tls": "starttls"}), "from the first byte": ("smtps", {})}


@pytest.mark.parametrize("how", SECURE)
async def test_encrypted_and_logged_in(how: str, authority: Authority) -> None:
    scheme, settings = SECURE[how]
    tls = authority.serving()
    options = {"at_once": tls} if scheme == "smtps" else {"tls_context": tls, "require_starttls": True}
    async with mail_server(**asking_for_login(**options)) as server:
        outcome = await said(account(server.port, scheme, **trusted(authority, **settings)))
        assert plain(outcome) == Sent(MESSAGE_ID)
        assert server.encrypted == [True]


@pytest.mark.parametrize("how", SECURE)
async def test_a_server_that_is_not_to_be_trusted_gets_neither_password_nor_message(
    how: str, authority: Authority
) -> None:
    scheme, settings = SECURE[how]
    for tls, ca in ((authority.serving(days=-1), {"ca": authority.pem}), (authority.serving(), {})):
        options = {"at_once": tls} if scheme == "smtps" else {"tls_context": tls}
        async with mail_server(**asking_for_login(**options)) as server:
            login = {"username": USERNAME, "password": PASSWORD, **settings, **ca}
            assert plain(await said(account(server.port, scheme, **login))) == TryNext("tls")
            assert server.taken == []


async def test_starttls_is_insisted_on() -> None:
    async with mail_server() as server:
        outcome = await said(account(server.port, tls="starttls", username="shop", password="x"))
        assert plain(outcome) == TryNext("tls")
        assert server.taken == []


async def test_without_encryption_nobody_speaks_tls_to_a_plain_server() -> None:
    async with mail_server() as server:
        assert plain(await said(account(server.port, "smtps"))) == TryNext("tls")


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
async def test_logging_in_works_by_either_mechanism(mechanism: str) -> None:
    other = {"PLAIN", "LOGIN"} - {mechanism}
    async with mail_server(**asking_for_login(auth_exclude_mechanism=other)) as server:
        outcome = await said(account(server.port, username=USERNAME, password=PASSWORD))
        assert plain(outcome) == Sent(MESSAGE_ID)


@pytest.mark.parametrize("login", [{}, {"username": USERNAME, "password": "wrong"}])
async def test_a_login_that_is_missing_or_wrong_rests_the_account(login: dict[str, str]) -> None:
    async with mail_server(**asking_for_login()) as server:
        outcome = await said(account(server.port, pause_s="7", **login))
        assert isinstance(outcome, TryLater)
        assert (outcome.account, outcome.after_s, outcome.code) == (True, 7.0, "smtp_535" if login else "smtp_530")
        assert server.taken == []


async def test_one_connection_carries_many_messages_and_survives_a_refusal() -> None:
    async with mail_server() as server, using(account(server.port)) as provider:
        server.replies["nobody@example.com"] = "550 5.1.1 no such user"
        sent = Sent(MESSAGE_ID)
        for to, becomes in (
            ("ada@example.com", sent),
            ("nobody@example.com", Refused("smtp_550", gone=Gone.hard_bounce)),
            ("bob@example.com", sent),
        ):
            assert plain(await provider.send(message(to), lambda: True)) == becomes
        assert server.opened == 1
        assert [envelope.rcpt_tos for envelope in server.taken] == [["ada@example.com"], ["bob@example.com"]]


async def test_connections_are_bounded_and_the_others_wait_their_turn() -> None:
    async with mail_server() as server, using(account(server.port, connections="2")) as provider:
        server.hold.clear()
        calls = [asyncio.create_task(provider.send(message(), lambda: True)) for _ in range(6)]
        await until(lambda: server.open == 2)
        server.hold.set()
        outcomes = await asyncio.gather(*calls)
        assert [plain(one) for one in outcomes] == [Sent(MESSAGE_ID)] * 6
        assert (server.most_open, len(server.taken)) == (2, 6)


async def test_a_connection_that_the_server_closed_meanwhile_is_replaced() -> None:
    async with mail_server(timeout=0.2) as server, using(account(server.port)) as provider:
        for n in range(1, 3):
            assert plain(await provider.send(message(), lambda: True)) == Sent(MESSAGE_ID)
            assert (server.opened, len(server.taken)) == (n, n)
            await until(lambda: server.open == 0)


async def test_a_server_that_is_too_busy_is_surely_not_sent_to() -> None:
    async with mail_server() as server:
        server.replies["ada@example.com"] = "421 4.3.2 shutting down"
        assert plain(await said(account(server.port))) == TryNext("smtp_421")

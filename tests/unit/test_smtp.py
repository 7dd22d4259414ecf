"""What is SMTP's alone, without a server: settings, and letters that say what they should and no more."""

from email import message_from_bytes
from email.header import decode_header, make_header
from email.message import EmailMessage
from email.policy import default
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidings.domain.catalog import Account
from tidings.domain.egress import Egress
from tidings.domain.ids import TenantId
from tidings.domain.lanes import Channel
from tidings.domain.notification import Content
from tidings.ports import Message, WebhookCall
from tidings.providers.mail_bounces import bounced
from tidings.providers.mail_headers import unsafe_field
from tidings.providers.smtp import Smtp
from tidings.providers.smtp_letter import letter

MESSAGE_ID = "0192f0c0000070008000000000000000-1@example.com"


def account(**settings: str) -> Account:
    return Account(1, TenantId(1), "main", "smtp", Channel.email, settings, "token")


@pytest.mark.parametrize(
    ("settings", "port", "encrypted", "at_once"),
    [
        ({"url": "smtp://mail.example.com"}, 587, True, False),
        ({"url": "smtps://mail.example.com"}, 465, True, True),
        ({"url": "smtp://mail.example.com:2525"}, 2525, True, False),
        ({"url": "smtp://mail.example.com", "tls": "tls"}, 465, True, True),
        ({"url": "smtp://mail.example.com", "tls": "none"}, 25, False, False),
        ({"url": "smtp://127.0.0.1"}, 25, False, False),
        ({"url": "smtp://[::1]:1025"}, 1025, False, False),
        ({"url": "smtp://localhost:1025"}, 1025, False, False),
        ({"url": "smtp://localhost", "tls": "starttls"}, 587, True, False),
    ],
)
def test_encryption_is_insisted_on_except_on_this_machine(
    settings: dict[str, str], port: int, encrypted: bool, at_once: bool
) -> None:
    server = Smtp(account(**settings))._server
    assert (server.port, server.tls is not None, server.at_once) == (port, encrypted, at_once)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"url": ""},
        {"url": "mail.example.com"},
        {"url": "smtp://"},
        {"url": "http://mail.example.com"},
        {"url": "smtp://mail.example.com/path"},
        {"url": "smtp://mail.example.com?x=1"},
        {"url": "smtp://shop:secret@mail.example.com"},
        {"url": "smtp://mail.example.com:70000"},
        {"url": "smtp://mail example.com"},
        {"url": "smtp://mail.example.com", "tls": "ssl"},
        {"url": "smtp://mail.example.com", "ca": "no certificate"},
        {"url": "smtp://mail.example.com", "hello": "two words"},
        {"url": "smtp://mail.example.com", "password": "a\r\nb"},
        {"url": "smtp://mail.example.com", "username": "a\0b"},
        {"url": "smtp://mail.example.com", "timeout_s": "0"},
        {"url": "smtp://mail.example.com", "connections": "many"},
    ],
)
def test_settings_that_cannot_be_used_are_refused(settings: dict[str, str]) -> None:
    with pytest.raises(ValueError):
        Smtp(account(**settings))


@pytest.mark.parametrize(
    ("url", "fine"),
    [
        ("smtp://mail.example.com", True),
        ("smtps://mail.example.com", True),
        ("smtp://mail.example.com:25", True),
        ("smtp://mail.example.com:22", False),
        ("smtp://127.0.0.1:25", False),
        ("smtp://10.0.0.1", False),
        ("smtp://[fd00::1]", False),
        ("smtp://localhost:1025", False),
        ("smtp://mail.internal", False),
    ],
)
def test_a_tenants_server_is_public_encrypted_and_on_a_port_of_mail(url: str, fine: bool) -> None:
    settings = {"url": url, "egress": msgspec.json.encode(Egress()).decode()}
    if fine:
        Smtp(account(**settings))
        settings["tls"] = "none"
    with pytest.raises(ValueError, match="url: "):
        Smtp(account(**settings))


def test_an_operator_may_allow_a_server_of_the_house() -> None:
    egress = msgspec.json.encode(Egress(allow=("10.0.0.0/8",))).decode()
    Smtp(account(url="smtp://10.0.0.1:25", tls="none", egress=egress))


def test_a_mail_server_calls_nobody_and_asks_nothing() -> None:
    provider = Smtp(account(url="smtp://mail.example.com"))
    assert provider.receipts(WebhookCall("https://example.com/hook", {}, b"{}")) is None
    assert provider.challenge({"x": "y"}) is None


async def test_a_mail_server_cannot_be_asked_what_it_took() -> None:
    assert await Smtp(account(url="smtp://mail.example.com")).look_up("ref", "a@b.c", None) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("reply", "about_the_address"),
    [
        ("5.1.1 no such user", True),
        ("5.1.10 no mail here", True),
        ("550 5.1.1 no such user", True),
        ("550-5.1.1 no such user", True),
        ("5.1.7 bad sender", False),
        ("5.1.8 bad sender", False),
        ("5.1.71 odd", True),
        ("5.2.2 mailbox full", False),
        ("5.7.1 blocked, 5.1.1", False),
        ("15.1.1", False),
        ("no such user", False),
        ("", False),
    ],
)
def test_only_a_status_that_says_so_puts_a_refusal_down_to_the_address(reply: str, about_the_address: bool) -> None:
    assert bounced(reply) == about_the_address


def read(raw: bytes) -> EmailMessage:
    mail = message_from_bytes(raw, policy=default)
    assert isinstance(mail, EmailMessage)
    return mail


WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=120)
BODIES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=400)


def made(subject: str, name: str, header: str, body: str) -> Message:
    return Message(
        reference="r-1",
        to="ada@example.com",
        content=Content(subject=subject, text=body, html=f"<p>{body}"),
        sender={"email": "shop@example.com", "name": name},
        headers={"X-Campaign": header},
    )


@given(WORDS, WORDS, WORDS, BODIES)
def test_a_letter_has_the_headers_that_were_given_and_no_others(
    subject: str, name: str, header: str, body: str
) -> None:
    message = made(subject, name, header, body)
    if unsafe_field(message) is not None:
        return
    raw = letter(message, MESSAGE_ID)
    assert raw.isascii()
    assert max(map(len, raw.split(b"\r\n"))) <= 998
    mail = read(raw)
    ours = ("from", "to", "subject", "date", "message-id", "x-campaign")
    shape = {"content-type", "mime-version", "content-transfer-encoding"}
    assert [key.lower() for key in mail if key.lower() not in shape] == list(ours)
    assert mail["Message-ID"] == f"<{MESSAGE_ID}>"


@given(st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=300), BODIES)
def test_a_letter_says_what_it_should(word: str, body: str) -> None:
    raw = letter(made(word, word, word, body + "."), MESSAGE_ID)
    mail = read(raw)
    assert (mail["Subject"], mail["X-Campaign"]) == (word, word)
    # The newer parser puts a space between the words that a long name was encoded as.
    sender = str(make_header(decode_header(message_from_bytes(raw)["From"])))
    assert sender.replace('"', "") == f"{word} <shop@example.com>"
    parts: list[Any] = list(mail.iter_parts())
    assert [part.get_content_type() for part in parts] == ["text/plain", "text/html"]
    lines = body.replace("\r\n", "\n").replace("\r", "\n") + "."
    assert parts[0].get_content().replace("\r\n", "\n").rstrip("\n") == lines

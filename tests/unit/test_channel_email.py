"""E-mail: what an address is, what may stand in a header, and what content has to look like."""

import time
from base64 import b64encode
from email import message_from_bytes, policy
from email.message import EmailMessage

import pytest
from email_validator import validate_email
from hypothesis import given, settings
from hypothesis import strategies as st

from tidings.channels.email import _PLAIN, MOST_ADDRESS_CHARS, Email
from tidings.channels.markup import MOST_CHARS, _lowered, link_flaw, text_of
from tidings.channels.registry import build_channels, registered
from tidings.domain import header
from tidings.domain.errors import Invalid, TemplateFault
from tidings.domain.lanes import Channel
from tidings.domain.notification import Content
from tidings.domain.template import content_for

EMAIL = Email()


def word(octets: bytes, charset: str = "utf-8", encoding: str = "b") -> str:
    text = b64encode(octets).decode() if encoding in "bB" else "".join(f"={octet:02X}" for octet in octets)
    return f"=?{charset}?{encoding}?{text}?="


BREAKS = ("\r\n", "\n", "\r", "\0", "\x0b", "\x0c", "\x1b", "\x1c", "\x7f", "\x85", "\x9f", "\u2028", "\u2029")
INJECTIONS = (
    "=?,\ufeff\xfc\u200b<\xfc?q?=0A",
    "=?utf-8?q?=0ABcc: thief@example.com",
    *(f"Hello{line}Bcc: thief@example.com" for line in BREAKS),
    "\nHello",
    "Hello\n",
    "Hello\tthere",
    "Hello \ud800",
    "=?UTF-8?Q?=0A?=Bcc: thief@example.com",
    "=?UTF-8?Q?=0D=0A?=Bcc: thief@example.com",
    "=?utf-8?q?=0ABcc:_thief@example.com?=",
    "Hello =?utf-8?q?=0A?= there",
    "Hello=?utf-8?q?=0A?=there",
    "=?utf-8*en?q?=0A?=Bcc: thief@example.com",
    "=?iso-8859-1?q?=85?=Bcc: thief@example.com",
    "=?utf-7?q?+AAo-?=Bcc: thief@example.com",
    "=?utf-16?b?CgA=?=Bcc: thief@example.com",
    "=?unicode_escape?q?=5Cn?=Bcc: thief@example.com",
    "=?utf-8?q?a?b=0A?=Bcc: thief@example.com",
    "=?utf-8?q?ok?= =?utf-8?q?=0A?=Bcc: thief@example.com",
    "=?utf-8?q?=E2=80?= =?utf-8?q?=A8?=",
    "=?nonsense?q?=0A?=Bcc: thief@example.com",
    "=?utf-8?b?C?=",
    "=?utf-8?q?=FF?=",
    "=?utf-8?q?\u00fc?=",
    word(b"\nBcc: thief@example.com"),
    word(b"\rBcc: thief@example.com", encoding="B"),
    word(b"\r\nBcc: thief@example.com", encoding="Q"),
    word("\u2028Bcc: thief@example.com".encode()),
    word("\x85Bcc: thief@example.com".encode(), encoding="q"),
    word(word(b"\nBcc: thief@example.com").encode()),
    word(word(word(b"\n").encode()).encode()),
    word(word(word(word(b"fine").encode()).encode()).encode()),
    "x" * (header.MOST_CHARS + 1),
)
HARMLESS = (
    "Your order 12345",
    "Grüße aus Köln, €5 günstiger 🎉",
    "注文の確認",
    "שלום",
    "Subject: Bcc: thief@example.com",
    "=?utf-8?q?caf=C3=A9?=",
    "1 =? 2 ?= 3",
    'quoted "name" <x@example.com>, other',
    "x" * header.MOST_CHARS,
)


def written_and_read(subject: str, name: str) -> EmailMessage:
    """What an ordinary mailer makes of these values, as its reader sees it."""
    made = EmailMessage()
    made["Subject"] = subject
    made["From"] = "shop@example.com"
    made["To"] = "ada@example.com"
    made["X-Name"] = name
    made.set_content("Hello")
    read = message_from_bytes(made.as_bytes(), policy=policy.default)
    assert isinstance(read, EmailMessage)
    return read


EXACTLY = ["Content-Transfer-Encoding", "Content-Type", "From", "MIME-Version", "Subject", "To", "X-Name"]


@pytest.mark.parametrize("value", INJECTIONS)
def test_a_value_that_could_leave_its_header_is_refused_everywhere(value: str) -> None:
    assert header.flaw(value) is not None
    with pytest.raises(TemplateFault, match="subject: "):
        EMAIL.shape(Content(subject=value, text="Hello"))
    with pytest.raises(Invalid) as refused:
        EMAIL.check(Content(subject=value, text="Hello"))
    assert refused.value.pointer == "/subject"
    with pytest.raises(Invalid) as refused:
        EMAIL.sender({"email": "shop@example.com", "name": value}, pointer="/identity")
    assert refused.value.pointer == "/identity/name"
    with pytest.raises(Invalid):
        EMAIL.normal(f"{value}@example.com", pointer="/to/email")
    with pytest.raises(Invalid):
        EMAIL.normal(f"ada@example.com{value}", pointer="/reply_to")


@pytest.mark.parametrize("value", HARMLESS)
def test_a_harmless_value_is_kept_and_adds_no_header(value: str) -> None:
    assert EMAIL.shape(Content(subject=value, text="Hello")).subject == value
    assert sorted(written_and_read(value, value).keys()) == EXACTLY


def test_a_mailer_that_decodes_would_have_been_led_astray() -> None:
    """The corpus is alive: at least the values below change the set of headers of some real mailers."""
    carriers = [value for value in INJECTIONS if "=?" in value and header._ENCODED.search(value)]
    assert len(carriers) >= 15
    plain = header._ENCODED.sub(header._decoded, "=?UTF-8?Q?=0A?=Bcc: x")
    assert plain == "\nBcc: x"


_PIECES = st.sampled_from(
    [
        "=?",
        "?=",
        "?q?",
        "?b?",
        "utf-8",
        "utf-7",
        "=0A",
        "=0D",
        "Cg==",
        "+AAo-",
        "\n",
        "\r",
        "\u2028",
        "Bcc: x",
        " ",
        "a",
        "ü",
    ]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(_PIECES | st.text(max_size=5), max_size=12).map("".join))
def test_whatever_is_let_through_adds_no_header(value: str) -> None:
    if header.flaw(value) is None:
        assert sorted(written_and_read(value, value).keys()) == EXACTLY


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        ("ada@example.com", "ada@example.com"),
        ("Ada.Lovelace+tag@Example.COM", "Ada.Lovelace+tag@example.com"),
        ("ada@bücher.example", "ada@xn--bcher-kva.example"),
        ("ada@xn--bcher-kva.example", "ada@xn--bcher-kva.example"),
        ("o'hara@example.co.uk", "o'hara@example.co.uk"),
        ("ada@shop.test", "ada@shop.test"),
        ("a" * 64 + "@example.com", "a" * 64 + "@example.com"),
    ],
)
def test_an_address_has_one_form(written: str, stored: str) -> None:
    assert EMAIL.normal(written) == stored
    assert EMAIL.normal(stored) == stored


@pytest.mark.parametrize(
    "written",
    [
        *("", "ada", "@example.com", "ada@", "ada@@example.com", "ada@example", "ada@localhost", "ada@.com"),
        *("Ada <ada@example.com>", "ada@example.com, eve@example.com", " ada@example.com", "ada@example.com "),
        *(".ada@example.com", "ada.@example.com", "a..da@example.com", "ada@-example.com", "ada@example-.com"),
        *("ada@[127.0.0.1]", '"ada lovelace"@example.com', "ädä@example.com", "ada@example.invalid", "ada@host.local"),
        *(
            "ada@exa_mple.com",
            "ada@ex--ample.com",
            "ada@example.com\u2028",
            "ada@exam\u200bple.com",
            "ada\0@example.com",
        ),
        "a" * 65 + "@example.com",
        "a@" + "b" * 64 + ".com",
        "a@" + ".".join(["b" * 60] * 5) + ".com",
        "x" * 1_000_000,
    ],
)
def test_what_is_not_an_address_is_refused_where_the_caller_says(written: str) -> None:
    with pytest.raises(Invalid) as refused:
        EMAIL.normal(written, pointer="/to/email")
    assert refused.value.pointer == "/to/email"


def test_an_address_is_never_longer_than_254_characters() -> None:
    longest = "a" * 64 + "@" + ".".join(["b" * 60] * 3) + ".cc"
    padded = longest.replace("b" * 60, "b" * 63, 1)
    assert len(EMAIL.normal(padded)) <= MOST_ADDRESS_CHARS
    with pytest.raises(Invalid):
        EMAIL.normal("a" * 64 + "@" + ".".join(["b" * 63] * 3) + ".com")


_LOCALS = st.lists(st.text("az09_+-", min_size=1, max_size=30), min_size=1, max_size=3).map(".".join)
_LABELS = st.lists(st.text("axn09-", min_size=1, max_size=64), min_size=1, max_size=5).map(".".join)


@settings(max_examples=500, deadline=None)
@given(_LOCALS, _LABELS, st.sampled_from(["com", "de", "io", "test", "zip"]))
def test_the_short_way_accepts_only_what_the_validator_returns_unchanged(local: str, labels: str, top: str) -> None:
    address = f"{local}@{labels}.{top}"
    if _PLAIN.fullmatch(address):
        valid = validate_email(address, check_deliverability=False, allow_smtputf8=False, strict=True)
        assert valid.normalized == valid.ascii_email == address == EMAIL.normal(address)


def test_case_never_hides_a_recipient_from_the_suppression_list() -> None:
    assert EMAIL.same(EMAIL.normal("Ada@Example.com")) == EMAIL.same(EMAIL.normal("ADA@example.COM"))


def test_a_sender_is_an_address_and_perhaps_a_name() -> None:
    assert EMAIL.sender({"email": "Shop@Example.com"}, pointer="") == {"email": "Shop@example.com"}
    assert EMAIL.sender({"email": "a@example.com", "name": "Käse & Co"}, pointer="") == {
        "email": "a@example.com",
        "name": "Käse & Co",
    }
    for identity, pointer in (
        ({}, "/s/email"),
        ({"email": "a@example.com", "reply": "x"}, "/s/reply"),
        ({"email": "a@example.com", "name": "x" * 201}, "/s/name"),
    ):
        with pytest.raises(Invalid) as refused:
            EMAIL.sender(identity, pointer="/s")
        assert refused.value.pointer == pointer


@pytest.mark.parametrize(
    ("content", "pointer"),
    [
        (Content(text="x"), "/subject"),
        (Content(subject=" ", text="x"), "/subject"),
        (Content(subject="s"), "/text"),
        (Content(subject="s", text="", html=""), "/text"),
        (Content(subject="s", body="only for push"), "/text"),
        (Content(subject="s", text="a\0b"), "/text"),
        (Content(subject="s", html="a\0b"), "/html"),
        (Content(subject="s", html="<a href='javascript:x'>"), "/html"),
        (Content(subject="s", text="x", channels={"email": {"subject": "a\nb"}}), "/channels/email/subject"),
    ],
)
def test_content_that_is_no_email_is_refused_with_its_place(content: Content, pointer: str) -> None:
    with pytest.raises(Invalid) as refused:
        EMAIL.check(content)
    assert refused.value.pointer == pointer
    with pytest.raises(TemplateFault):
        EMAIL.shape(content_for(content, Channel.email))


def test_text_is_kept_and_only_made_from_markup_when_there_is_none() -> None:
    both = Content(subject="s", text="mine", html="<p>other</p>")
    assert EMAIL.shape(both) == both
    assert EMAIL.shape(Content(subject="s", html="<p>other</p>")).text == "other"
    assert EMAIL.shape(Content(subject="s", html="<img src='cid:1'>")).text is None
    assert EMAIL.units(both) == 1


def test_the_text_of_markup_is_what_a_reader_would_see() -> None:
    html = """<html><head><title>no</title><style>p{}</style></head><!-- <p>no</p> --><body><h1>Hello
    Ada &amp; Eve</h1><p>Your  order<br>is <b>here</b>.</p><script>no()</script><ul><li>one</li><li>two</li></ul>"""
    assert text_of(html) == "Hello Ada & Eve\nYour order\nis here.\none\ntwo"
    assert text_of("<p>open <style>never closed") == "open"
    assert text_of("x" * (MOST_CHARS + 1)) is None
    assert text_of("<p> </p>") is None
    assert text_of("\u0130" * 9 + "<STYLE>no</STYLE>yes") == "\u0130" * 9 + "yes"


def test_every_character_keeps_its_place_when_markup_is_searched() -> None:
    every = "".join(map(chr, range(0x110000)))
    assert len(_lowered(every)) == len(every)
    assert link_flaw("\u0130" * 300 + "<a href='javascript:x'>") is not None


@pytest.mark.parametrize(
    "link",
    [
        *("javascript:x", "JaVaScRiPt:x", " javascript:x", "java\tscript:x", "java\nscript:x", "\x01javascript:x"),
        *("&#106;avascript:x", "&#x6A;avascript:x", "javascript&colon;x", "javascript&#58;x", "java&Tab;script:x"),
        *("&#" + "0" * 300 + "106;avascript:x", "vbscript:x", "data:text/html,x", "data:image/svg+xml,x", "file:///x"),
        *("blob:x", "view-source:x", "feed:javascript:x"),
    ],
)
@pytest.mark.parametrize(
    "markup",
    [
        *('<a href="{}">', "<a href='{}'>", '<a HREF = "{}">', '<img src="{}">', '<form action="{}">'),
        *('<button formaction="{}">', '<a title=">" href="{}">', '<a title="<" href="{}">', '<a/href="{}">'),
        *('<a title=href= href="{}">', "<p>href=\"<a href='{}'>", '<svg><a xlink:href="{}">', '<body background="{}">'),
    ],
)
def test_a_link_that_leads_elsewhere_is_found(markup: str, link: str) -> None:
    assert link_flaw(f"<p>{markup.format(link)}</p>") is not None


@pytest.mark.parametrize(
    "link",
    [
        *("https://example.com/a?b=c&d=e:f", "http://example.com", "mailto:a@example.com", "tel:+123", "cid:logo"),
        *("https:&#x2f;&#x2f;example.com", "/path:with/colon", "#part", "?a=b&c=d", "", "data:image/png;base64,AAAA"),
        *("//example.com/x", "page.html?x=a:b", "&#x2f;path", "%3Cx%3E", "HTTPS://EXAMPLE.COM"),
    ],
)
def test_an_ordinary_link_is_fine(link: str) -> None:
    assert link_flaw(f"<p>href <a class=x href=\"{link}\">src:</a><img src='{link}'></p>") is None


@pytest.mark.parametrize(
    "piece",
    ["<", "<a", "<a ", " href=", ' href="', " href = ", " src=&#", "<style", "<!--", "<br", "&#", "\n", " ", "href=:"],
)
def test_markup_made_to_take_long_is_read_at_once(piece: str) -> None:
    hostile = piece * (1_000_000 // len(piece))
    began_s = time.thread_time()
    link_flaw(hostile)
    text_of(hostile[:MOST_CHARS])
    assert time.thread_time() - began_s < 0.5


def test_every_channel_that_works_stands_under_its_own_number() -> None:
    assert Channel.email in registered()
    assert all(number == plugin.number for number, plugin in build_channels().items())

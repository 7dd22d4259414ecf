"""Push: what a token is, who it comes from, what fits into one message."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tidings.channels.push import MOST_BYTES, OURS_BYTES, Push
from tidings.domain.errors import Invalid, TemplateFault
from tidings.domain.lanes import Channel
from tidings.domain.notification import Content
from tidings.domain.template import content_for

push = Push()
MOST = MOST_BYTES - OURS_BYTES
FRAME = len(msgspec.json.encode(("", "")))
TAKEN = tuple(
    f"data.{name}"
    for name in ("ref", "from", "message_type", "collapse_key", "notification", "google.c.a.e", "googler", "gcm.n.e")
)


@pytest.mark.parametrize("token", ["d-Zy:APA91bE", "a", "x" * 4096, "!~{}\"'\\"])
def test_a_token_is_kept_as_it_came(token):
    assert push.normal(token) == token
    assert push.same(token) == token


@pytest.mark.parametrize("token", ["", "a b", "a\n", "\u00e9", "a\0", "x" * 4097, " a", "\x7f"])
def test_what_no_app_would_give_is_refused_where_it_stands(token):
    with pytest.raises(Invalid) as refused:
        push.normal(token, pointer="/to/push_tokens/3")
    assert refused.value.pointer == "/to/push_tokens/3"


def test_tokens_that_differ_in_case_alone_are_two_devices():
    assert push.same("Abc") != push.same("abc")


@pytest.mark.parametrize("identity", [{}, {"project": "shop-1"}, {"project": "example.com:shop"}, {"project": "123"}])
def test_a_sender_is_a_project_or_only_its_name(identity):
    assert push.sender(identity, pointer="/channels/push") == identity


@pytest.mark.parametrize(
    ("identity", "pointer"),
    [
        ({"email": "a@example.com"}, "/channels/push/email"),
        ({"project": ""}, "/channels/push/project"),
        ({"project": "../x"}, "/channels/push/project"),
        ({"project": "a/b"}, "/channels/push/project"),
        ({"project": "Shop"}, "/channels/push/project"),
        ({"project": "x" * 64}, "/channels/push/project"),
        ({"project": "a\r\nb"}, "/channels/push/project"),
    ],
)
def test_nothing_else_is_a_sender(identity, pointer):
    with pytest.raises(Invalid) as refused:
        push.sender(identity, pointer="/channels/push")
    assert refused.value.pointer == pointer


@pytest.mark.parametrize(
    ("written", "title", "body"),
    [
        (Content(title="T", body="B", subject="S", text="X"), "T", "B"),
        (Content(subject="S", text="X"), "S", "X"),
        (Content(body="B"), None, "B"),
        (Content(title="T"), "T", None),
        (Content(title="T", body=""), "T", None),
        (Content(title="T", body="B", channels={"push": {"body": "own"}}), "T", "own"),
        (Content(title="T", channels={"push": {"body": "own", "dato": "x"}, "sms": {"data.a": "1"}}), "T", "own"),
    ],
)
def test_title_and_body_come_from_the_first_place_that_has_them(written, title, body):
    push.check(written)
    assert push.shape(content_for(written, Channel.push)) == Content(title=title, body=body)


@pytest.mark.parametrize(
    ("written", "pointer"),
    [
        (Content(html="<p>x</p>"), "/body"),
        (Content(title=" ", text="\n"), "/text"),
        (Content(title="a\0"), "/title"),
        (Content(subject="a\0"), "/subject"),
        (Content(title="T", text="x" * MOST), "/text"),
        (Content(title="T", body="B", channels={"push": {"text": "\0"}}), "/channels/push/text"),
        (Content(title="T", channels={"push": {"data.a": "\0"}}), "/channels/push/data.a"),
        (Content(title="T", channels={"push": {"data.a": "x" * MOST}}), "/body"),
        (Content(channels={"push": {"data.a": "for nobody to read"}}), "/body"),
        *((Content(title="T", channels={"push": {part: "x"}}), f"/channels/push/{part}") for part in TAKEN),
    ],
)
def test_what_cannot_be_sent_is_refused_where_it_was_written(written, pointer):
    with pytest.raises(Invalid) as refused:
        push.check(written)
    assert refused.value.pointer == pointer
    with pytest.raises(TemplateFault):
        push.shape(content_for(written, Channel.push))


def test_the_limit_is_counted_in_bytes_as_they_are_sent():
    fits = Content(title="\u00e9" * 100, body="x" * (MOST - FRAME - 200))
    assert push.shape(fits) == fits
    with pytest.raises(TemplateFault, match=f"data take {MOST + 1} bytes; {MOST} is the most"):
        push.shape(Content(title=fits.title, body=f"{fits.body}x"))


@given(st.text(), st.text())
def test_whatever_is_taken_fits_and_says_something(title, body):
    try:
        shaped = push.shape(Content(title=title, body=body))
    except TemplateFault:
        return
    assert (shaped.title or shaped.body or "").strip() or (shaped.body or "").strip()
    assert len(msgspec.json.encode(shaped)) < MOST_BYTES
    assert push.units(shaped) == 1


def test_data_for_the_app_is_what_the_channel_s_own_parts_say():
    written = Content(
        title="T",
        text="X",
        channels={"push": {"data.order": "7", "data.a_B-c.d": "", "data.": "x", "data.\u00e9": "x", "other": "x"}},
    )
    push.check(written)
    shaped = push.shape(content_for(written, Channel.push))
    assert shaped == Content(title="T", body="X", channels={"push": {"data.order": "7", "data.a_B-c.d": ""}})
    assert push.shape(shaped) == shaped


def test_data_counts_like_the_rest():
    fits = Content(title="T", body="x" * 100)
    own = {"data.order": "\u00e9" * 9}
    room = MOST - len(msgspec.json.encode(("T", "x" * 100))) - len(msgspec.json.encode({**own, "data.b": ""}))
    push.check(replace(fits, channels={"push": {**own, "data.b": "y" * room}}))
    with pytest.raises(Invalid, match=f"take {MOST + 1} bytes"):
        push.check(replace(fits, channels={"push": {**own, "data.b": "y" * (room + 1)}}))

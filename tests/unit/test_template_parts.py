"""Which parts a channel takes, and which it has for itself."""

from tidings.domain.lanes import Channel
from tidings.domain.notification import Content
from tidings.domain.template import TemplateSource, assembled, content_for, flaws, parts_for, written_at

OWN = {"template": "order_update", "language": "en", "body.1": "{{ name }}", "header.order": "{{ order }}"}


def test_a_channels_own_parts_reach_that_channel_alone():
    source = TemplateSource(text="Hello", channels={"whatsapp": OWN, "sms": {"text": "Hi"}})
    assert parts_for(source, Channel.whatsapp) == {"text": "Hello", **OWN}
    assert parts_for(source, Channel.sms) == {"text": "Hi"}
    assert parts_for(source, Channel.email) == {"text": "Hello"}


def test_they_stay_under_the_channels_name_once_they_are_rendered():
    assert assembled({"text": "Hello", "template": "t", "body.1": "Ada"}, Channel.whatsapp) == Content(
        text="Hello", channels={"whatsapp": {"template": "t", "body.1": "Ada"}}
    )
    assert assembled({"subject": "a", "text": "b"}, Channel.email) == Content(subject="a", text="b")
    content = Content(text="Hello", channels={"whatsapp": OWN})
    assert content_for(content, Channel.whatsapp) == content
    assert content_for(content, Channel.sms) == Content(text="Hello")


def test_a_part_that_no_channel_knows_is_a_flaw():
    strange = {"templates": "x", "body.": "x", "body.A": "x", "header": "x", "body.1.2": "x"}
    source = TemplateSource(
        channels={"whatsapp": {**OWN, **strange}, "sms": {"template": "x"}, "pigeon": {"text": "x"}}
    )
    assert {one.part for one in flaws(source)} == {
        *(f"/channels/whatsapp/{part}" for part in strange),
        "/channels/sms/template",
        "/channels/pigeon",
    }
    assert flaws(TemplateSource(channels={"whatsapp": OWN})) == []


def test_a_part_is_pointed_at_where_it_was_written():
    content = Content(body="Hi", channels={"push": {"text": "Ho"}, "whatsapp": {"template": "t"}})
    assert written_at(content, Channel.sms, "text") == "/body"
    assert written_at(content, Channel.push, "body") == "/channels/push/text"
    assert written_at(content, Channel.push, "title") == "/title"
    assert written_at(content, Channel.whatsapp, "language") == "/channels/whatsapp/language"

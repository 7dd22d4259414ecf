"""WhatsApp: who sends, what is said, and templates with their parameters."""

import pytest

from tidings.channels.whatsapp import MOST_CHARS, WhatsApp
from tidings.domain.errors import Invalid, TemplateFault
from tidings.domain.notification import Content
from tidings.domain.template import content_for

WHATSAPP = WhatsApp()
TEMPLATE = {"template": "order_update", "language": "en_US"}


def inline(**own: str) -> Content:
    return Content(channels={"whatsapp": own})


@pytest.mark.parametrize("text", ["+1 (202) 555-0143", "+1-202-555-0143", "+12025550143"])
def test_addresses_are_telephone_numbers_in_one_form(text):
    assert WHATSAPP.normal(text) == WHATSAPP.same("+12025550143") == "+12025550143"


@pytest.mark.parametrize("text", ["", "2025550143", "+1202", "whatsapp:+12025550143", "ada@example.com"])
def test_what_is_no_number_is_refused_where_it_stands(text):
    with pytest.raises(Invalid) as refused:
        WHATSAPP.normal(text, pointer="/to/whatsapp")
    assert refused.value.pointer == "/to/whatsapp"


def test_a_sender_is_the_id_of_a_number_and_perhaps_a_name():
    for identity in ({"phone_number_id": "106540352242922"}, {"phone_number_id": "12345", "display": "Der Läden"}):
        assert WHATSAPP.sender(identity, pointer="") == identity


@pytest.mark.parametrize(
    ("identity", "pointer"),
    [
        ({}, "/phone_number_id"),
        ({"phone_number_id": "+12025550143"}, "/phone_number_id"),
        ({"phone_number_id": "1/2"}, "/phone_number_id"),
        ({"phone_number_id": "12345", "display": ""}, "/display"),
        ({"phone_number_id": "12345", "display": "a\nb"}, "/display"),
        ({"phone_number_id": "12345", "display": "x" * 101}, "/display"),
        ({"phone_number_id": "12345", "number": "+1"}, "/number"),
    ],
)
def test_any_other_sender_is_refused(identity, pointer):
    with pytest.raises(Invalid) as refused:
        WHATSAPP.sender(identity, pointer="/channels/whatsapp")
    assert refused.value.pointer == f"/channels/whatsapp{pointer}"


@pytest.mark.parametrize("text", ["Hello", "Grüße 🎉\nzweite Zeile", "x" * MOST_CHARS])
def test_a_text_goes_as_it_is_written(text):
    WHATSAPP.check(Content(body=text))
    assert WHATSAPP.shape(content_for(Content(body=text), WHATSAPP.number)) == Content(text=text)


PARAMETERS = [
    {},
    {"body.1": "Ada"},
    {f"body.{n}": "x" for n in range(1, 12)},
    {"body.name": "Ada", "body.order_id": "59E0C2"},
    {"header.1": "Order", "body.name": "Ada", "button.0": "orders/59E0C2", "button.1": "help"},
]


@pytest.mark.parametrize("parameters", PARAMETERS)
def test_a_template_goes_with_its_parameters_and_without_the_text(parameters):
    content = Content(text="Hello", channels={"whatsapp": TEMPLATE | parameters})
    WHATSAPP.check(content)
    assert WHATSAPP.shape(content_for(content, WHATSAPP.number)) == inline(**TEMPLATE, **parameters)


FLAWS = [
    (Content(subject="Hello"), "/text"),
    (Content(text=" \n"), "/text"),
    (Content(body="\0"), "/body"),
    (Content(body="x" * (MOST_CHARS + 1)), "/body"),
    (Content(text="Hello", channels={"whatsapp": {"body": " "}}), "/channels/whatsapp/body"),
    (inline(template="order_update"), "/channels/whatsapp/language"),
    (inline(language="en"), "/channels/whatsapp/template"),
    (inline(template="Order Update", language="en"), "/channels/whatsapp/template"),
    (inline(template="order_update", language="english"), "/channels/whatsapp/language"),
    (inline(**TEMPLATE, **{"body.1": ""}), "/channels/whatsapp/body.1"),
    (inline(**TEMPLATE, **{"body.1": "a\0"}), "/channels/whatsapp/body.1"),
    (inline(**TEMPLATE, **{"body.2": "x"}), "/channels/whatsapp/body.2"),
    (inline(**TEMPLATE, **{"body.0": "x", "body.1": "x"}), "/channels/whatsapp/body.1"),
    (inline(**TEMPLATE, **{"header.1": "x", "header.name": "x"}), "/channels/whatsapp/header.name"),
    (inline(**TEMPLATE, **{"button.help": "x"}), "/channels/whatsapp/button.help"),
]


@pytest.mark.parametrize(("content", "pointer"), FLAWS)
def test_what_cannot_be_sent_is_pointed_at(content, pointer):
    with pytest.raises(Invalid) as refused:
        WHATSAPP.check(content)
    assert refused.value.pointer == pointer
    with pytest.raises(TemplateFault):
        WHATSAPP.shape(content_for(content, WHATSAPP.number))


def test_every_message_counts_as_one():
    assert WHATSAPP.units(Content(text="x" * MOST_CHARS)) == 1

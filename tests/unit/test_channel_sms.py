"""SMS: what a number is, who may be its sender, and what content has to look like."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidings.channels.registry import build_channels
from tidings.channels.sms import MOST_SEGMENTS, Sms
from tidings.domain.errors import Invalid, TemplateFault
from tidings.domain.lanes import Channel
from tidings.domain.notification import Content

SMS = Sms()
SERVICE = "MG" + "0a1B" * 8

NUMBERS = {
    "+15005550006": "+15005550006",
    "+1 (500) 555-0006": "+15005550006",
    "+1.202.555.0100": "+12025550100",
    " +49 171 1234567\n": "+491711234567",
    "+49/171/1234567": "+491711234567",
    "+33 1 23 45 67 89": "+33123456789",
    "+33\u00a06\u00a012\u00a034\u00a056\u00a078": "+33612345678",
    "+44 (0)20 7946 0958": "+442079460958",
    "+39 06 1234 5678": "+390612345678",  # in Italy the zero belongs to the number
    "+972 52-123-4567": "+972521234567",
}
NO_NUMBERS = {
    "": "begins with +",
    "+": "begins with +",
    "0171 1234567": "begins with +",
    "15005550006": "begins with +",
    "0015005550006": "begins with +",
    "++15005550006": "begins with +",
    "+1500555OOO6": "begins with +",
    "+1 800 FLOWERS": "begins with +",
    "+15005550006 ext. 5": "begins with +",
    "+15005550006x5": "begins with +",
    "+15005550006,,5": "begins with +",
    "tel:+15005550006": "begins with +",
    "+１５００５５５０００６": "begins with +",
    "+٤٩١٧١١٢٣٤٥٦٧": "begins with +",
    "+1500555\n0006": "begins with +",
    "+15005550006\0": "begins with +",
    "ada@example.com": "begins with +",
    "+1" + "5" * 60: "begins with +",
    "+999 1234567": "country code that does not exist",
    "+49": "begins with +",
    "+33 12": "too short",
    "+1 500 555 000": "too short",
    "+1 500 555 00066": "too long",
    "+1 555 0006": "area code",
}


@pytest.mark.parametrize("text", NUMBERS)
def test_a_number_takes_its_one_form(text: str) -> None:
    assert SMS.normal(text) == NUMBERS[text]


@pytest.mark.parametrize("text", NO_NUMBERS)
def test_what_is_no_number_is_refused_where_it_stands_and_told_why(text: str) -> None:
    with pytest.raises(Invalid) as refused:
        SMS.normal(text, pointer="/to/phone")
    assert refused.value.pointer == "/to/phone"
    assert NO_NUMBERS[text] in refused.value.detail


@given(st.text(alphabet=st.sampled_from("+0123456789 ().-/x,\n\0\u00a0\u0661\uff11a"), max_size=30))
def test_whatever_comes_it_is_a_number_in_one_form_or_refused(text: str) -> None:
    try:
        number = SMS.normal(text)
    except Invalid:
        return
    assert number.startswith("+") and number[1:].isascii() and number[1:].isdecimal() and 5 <= len(number) <= 18
    assert SMS.normal(number) == number
    assert SMS.same(number) == number


SENDERS = {
    "+1 500 555 0006": "+15005550006",
    "12345": "12345",
    "123": "123",
    "12345678": "12345678",
    "Tidings": "Tidings",
    "The Shop 24": "The Shop 24",
    "A&B_c-d": "A&B_c-d",
}
NO_SENDERS = [
    "",
    " ",
    "12",
    "123456789",
    "Twelve chars",
    "A+B+",
    "Größe",
    "Shop\n",
    "Shop!",
    "+1500",
    "+Shop",
    "15005550006",
]


@pytest.mark.parametrize("number", SENDERS)
def test_a_sender_is_a_number_a_short_code_or_a_name(number: str) -> None:
    assert SMS.sender({"number": number}, pointer="/identity") == {"number": SENDERS[number]}


@pytest.mark.parametrize("number", NO_SENDERS)
def test_any_other_sender_is_refused(number: str) -> None:
    with pytest.raises(Invalid) as refused:
        SMS.sender({"number": number}, pointer="/identity")
    assert refused.value.pointer == "/identity/number"


def test_a_messaging_service_may_stand_in_a_number_s_place_but_not_beside_it() -> None:
    assert SMS.sender({"messaging_service": SERVICE}, pointer="") == {"messaging_service": SERVICE}
    for service in ("", "MG123", SERVICE + "0", SERVICE.replace("MG", "AC"), SERVICE[:-1] + "g"):
        with pytest.raises(Invalid) as refused:
            SMS.sender({"messaging_service": service}, pointer="/identity")
        assert refused.value.pointer == "/identity/messaging_service"
    for identity, pointer in (
        ({}, "/identity"),
        ({"number": "12345", "messaging_service": SERVICE}, "/identity"),
        ({"number": "12345", "name": "Shop"}, "/identity/name"),
    ):
        with pytest.raises(Invalid) as refused:
            SMS.sender(identity, pointer="/identity")
        assert refused.value.pointer == pointer


LONGEST = "a" * 153 * MOST_SEGMENTS
UNFIT = {
    "": "needs text",
    " \n\t": "needs text",
    "a\0b": "NUL",
    "half of \ud83c": "surrogate",
    LONGEST + "a": "takes 11 segments of GSM-7; 10 at most",
    LONGEST[:669] + "🎉": "takes 11 segments of UCS-2; 10 at most",
}


@pytest.mark.parametrize("text", UNFIT)
def test_text_that_cannot_be_sent_is_refused_when_it_comes_and_when_it_is_rendered(text: str) -> None:
    with pytest.raises(Invalid, match=UNFIT[text]):
        SMS.check(Content(text=text))
    with pytest.raises(TemplateFault, match=f"text: .*{UNFIT[text]}"):
        SMS.shape(Content(text=text))


@pytest.mark.parametrize(
    ("content", "pointer"),
    [
        (Content(), "/text"),
        (Content(subject="only", html="<p>for mail</p>"), "/text"),
        (Content(text="a\0"), "/text"),
        (Content(body="a\0"), "/body"),
        (Content(text="fine", body="a\0", channels={"sms": {"text": "b\0"}}), "/channels/sms/text"),
        (Content(text="fine", channels={"sms": {"body": "b\0"}}), "/channels/sms/body"),
        (Content(text="a\0", channels={"email": {"text": "fine"}}), "/text"),
    ],
)
def test_a_fault_points_at_the_part_that_the_text_comes_from(content: Content, pointer: str) -> None:
    with pytest.raises(Invalid) as refused:
        SMS.check(content)
    assert refused.value.pointer == pointer


def test_text_stays_as_it_was_written_and_is_all_that_a_provider_is_given() -> None:
    for text in ("Hello", " your code:\n12345 ", LONGEST, "שלום 🎉"):
        SMS.check(Content(text=text))
        assert SMS.shape(Content(text=text, subject="not for SMS", html="<p>")) == Content(text=text)


def test_an_sms_counts_as_its_segments() -> None:
    assert [SMS.units(Content(text=text)) for text in ("Hello", "a" * 161, "🎉" * 36, LONGEST)] == [1, 2, 2, 10]


def test_the_channel_is_registered() -> None:
    assert isinstance(build_channels()[Channel.sms], Sms)

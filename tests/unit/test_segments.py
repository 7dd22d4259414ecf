"""How many segments a text takes. Every figure here was counted by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidings.domain.segments import _BASIC, _EXTENSION, GSM_7, UCS_2, Encoding, count

EMOJI = "🎉"
FAMILY = "👨‍👩‍👧"  # three emoji of 2 units, joined by two joiners of 1
HEBREW = "שלום"
ACUTE = "\u0301"  # combines with the letter before it

CORPUS: dict[str, tuple[str, Encoding, int, int]] = {
    # name: text, encoding, units, segments
    "nothing": ("", GSM_7, 0, 1),
    "one letter": ("a", GSM_7, 1, 1),
    "one full segment": ("a" * 160, GSM_7, 160, 1),
    "one more than that": ("a" * 161, GSM_7, 161, 2),  # 153 + 8
    "two full segments": ("a" * 306, GSM_7, 306, 2),  # 2 × 153
    "one more than two": ("a" * 307, GSM_7, 307, 3),
    "ten full segments": ("a" * 1530, GSM_7, 1530, 10),
    "one more than ten": ("a" * 1531, GSM_7, 1531, 11),
    "all of the basic table": ("".join(sorted(_BASIC)), GSM_7, 127, 1),
    "all of the extension table": ("".join(sorted(_EXTENSION)), GSM_7, 20, 1),
    "a euro": ("€", GSM_7, 2, 1),
    "euros that fill a segment": ("€" * 80, GSM_7, 160, 1),
    "one euro more": ("€" * 81, GSM_7, 162, 2),  # 76 euros in 153, 5 in the next
    "a euro on the edge of a single segment": ("a" * 159 + "€", GSM_7, 161, 2),
    "a euro that just fits": ("a" * 158 + "€", GSM_7, 160, 1),
    "a euro over the edge of the first of two": ("a" * 152 + "€" + "a" * 152, GSM_7, 306, 3),  # 152; 2 + 151; 1
    "the same, one shorter": ("a" * 152 + "€" + "a" * 151, GSM_7, 305, 2),  # 152; 2 + 151
    "a euro at the end of the first of two": ("a" * 151 + "€" + "a" * 153, GSM_7, 306, 2),  # 151 + 2; 153
    "lines": ("a\r\nb\nc\r", GSM_7, 7, 1),
    "a form feed": ("a\fb", GSM_7, 4, 1),
    "brackets and the like": ("{[~|^\\]}", GSM_7, 16, 1),
    "letters of Europe that are in it": ("äöüÄÖÜßéèùìòàñÑåÅøØæÆÉÇ", GSM_7, 23, 1),
    "Greek capitals that are in it": ("ΔΦΓΛΩΠΨΣΘΞ", GSM_7, 10, 1),
    "a small c with a cedilla is not in it": ("ç", UCS_2, 1, 1),
    "nor is a capital alpha of Greek": ("Α", UCS_2, 1, 1),
    "nor a tab": ("a\tb", UCS_2, 3, 1),
    "nor a curly quote": ("it’s", UCS_2, 4, 1),
    "nor a backtick": ("`", UCS_2, 1, 1),
    "nor a blank that does not break": ("a\u00a0b", UCS_2, 3, 1),
    "UCS-2, full": ("ж" * 70, UCS_2, 70, 1),
    "UCS-2, one more": ("ж" * 71, UCS_2, 71, 2),  # 67 + 4
    "UCS-2, two full": ("ж" * 134, UCS_2, 134, 2),  # 2 × 67
    "UCS-2, one more than two": ("ж" * 135, UCS_2, 135, 3),
    "one curly quote among 160 letters": ("a" * 159 + "’", UCS_2, 160, 3),  # 67 + 67 + 26
    "brackets count once in UCS-2": ("ж" * 69 + "€", UCS_2, 70, 1),
    "an emoji": (EMOJI, UCS_2, 2, 1),
    "emoji that fill a segment": (EMOJI * 35, UCS_2, 70, 1),
    "one emoji more": (EMOJI * 36, UCS_2, 72, 2),  # 33 of them in 66, the 67th unit stays empty; 3
    "emoji, 33 to a segment": (EMOJI * 66, UCS_2, 132, 2),
    "emoji, one more than that": (EMOJI * 67, UCS_2, 134, 3),  # 134 units would fit twice, but for the empty ones
    "an emoji on the edge of a single segment": ("a" * 69 + EMOJI, UCS_2, 71, 2),
    "an emoji over the edge of the first of two": ("a" * 66 + EMOJI + "a" * 66, UCS_2, 134, 3),  # 66; 2 + 65; 1
    "an emoji over the edge, and one letter less": ("a" * 66 + EMOJI + "a" * 65, UCS_2, 133, 2),  # 66; 2 + 65
    "an emoji at the end of the first of two": ("a" * 65 + EMOJI + "a" * 67, UCS_2, 134, 2),
    "a family": (FAMILY, UCS_2, 8, 1),
    "a flag": ("🇫🇷", UCS_2, 4, 1),
    "Hebrew": (HEBREW, UCS_2, 4, 1),
    "Hebrew, full": (HEBREW * 17 + "של", UCS_2, 70, 1),
    "Hebrew, one more": (HEBREW * 17 + "שלו", UCS_2, 71, 2),
    "marks of direction count": ("\u200f" + HEBREW + "\u200e", UCS_2, 6, 1),
    "Arabic": ("مرحبا", UCS_2, 5, 1),
    "an accent that combines counts for itself": ("e" + ACUTE, UCS_2, 2, 1),
    "the same letter in one piece": ("é", GSM_7, 1, 1),
    "accents, full": (("e" + ACUTE) * 35, UCS_2, 70, 1),
    "an accent over the edge": (("e" + ACUTE) * 35 + "e", UCS_2, 71, 2),
    "Devanagari": ("नमस्ते", UCS_2, 6, 1),
    "Chinese": ("你好" * 35, UCS_2, 70, 1),
}


@pytest.mark.parametrize("name", CORPUS)
def test_a_text_takes_what_was_counted_by_hand(name: str) -> None:
    text, encoding, units, segments = CORPUS[name]
    counted = count(text)
    assert (counted.encoding, counted.units, counted.segments) == (encoding, units, segments)


def test_the_tables_have_the_size_that_the_standard_gives_them() -> None:
    assert len(_BASIC) == 127  # 2⁷, and one of them is the escape
    assert len(_EXTENSION) == 10
    assert not _BASIC & _EXTENSION


@given(st.text(alphabet=st.sampled_from(["a", "€", "ж", EMOJI, ACUTE]), max_size=400))
def test_no_two_units_of_a_character_are_parted(text: str) -> None:
    """Packs the text piece by piece as a phone receives it, and looks at every piece."""
    counted = count(text)
    room = counted.encoding.joined if counted.units > counted.encoding.alone else counted.encoding.alone
    pieces = [""]
    for character in text:
        if (
            count(pieces[-1] + character + ("ж" if counted.encoding == UCS_2 else "")).units
            - (counted.encoding == UCS_2)
            > room
        ):
            pieces.append("")
        pieces[-1] += character
    assert "".join(pieces) == text
    assert counted.segments == len(pieces)
    if counted.encoding == UCS_2:
        assert all(piece.encode("utf-16-le").decode("utf-16-le") == piece for piece in pieces)
        assert counted.units == len(text.encode("utf-16-le")) // 2


@given(st.text(max_size=400))
def test_more_text_never_takes_fewer_segments(text: str) -> None:
    assert count(text + "a").segments >= count(text).segments

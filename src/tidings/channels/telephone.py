"""Telephone numbers in one form, E.164, for every channel whose addresses they are."""

import re
from typing import Final

import phonenumbers
from phonenumbers import NumberParseException, PhoneNumberFormat, ValidationResult

from tidings.domain.errors import Invalid

_WRITTEN: Final = re.compile(r"\+[0-9 ().\-/\u00a0]{3,40}")
_LENGTH_FLAWS: Final = {
    ValidationResult.TOO_SHORT: "is too short for a telephone number of its country",
    ValidationResult.TOO_LONG: "is too long for a telephone number of its country",
    ValidationResult.IS_POSSIBLE_LOCAL_ONLY: "lacks its area code",
    ValidationResult.INVALID_LENGTH: "has no length that telephone numbers of its country have",
    ValidationResult.INVALID_COUNTRY_CODE: "has a country code that does not exist",
}


def e164(text: str, pointer: str) -> str:
    """The country code must be there; blanks, dots, dashes, slashes and parentheses are taken out. Whether a number is
    in use only a provider can say: none is refused here for anything but its length. Raises Invalid."""
    if not _WRITTEN.fullmatch(text.strip()):
        detail = "a telephone number begins with + and its country code, then has digits alone"
        raise Invalid(detail, pointer=pointer)
    try:
        number = phonenumbers.parse(text)
    except NumberParseException as error:
        raise Invalid("has a country code that does not exist, or no number after it", pointer=pointer) from error
    flaw = _LENGTH_FLAWS.get(phonenumbers.is_possible_number_with_reason(number))
    if flaw:
        raise Invalid(flaw, pointer=pointer)
    return phonenumbers.format_number(number, PhoneNumberFormat.E164)

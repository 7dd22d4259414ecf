"""Which country a telephone number belongs to."""

import phonenumbers
from phonenumbers import NumberParseException


def country_of(number: str) -> str | None:
    """The two letters of the country of a number in E.164; None for one that belongs to none."""
    try:
        return phonenumbers.region_code_for_number(phonenumbers.parse(number))
    except NumberParseException:
        return None

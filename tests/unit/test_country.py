"""The country of a telephone number."""

import pytest

from tidings.channels.country import country_of


@pytest.mark.parametrize(
    ("number", "country"),
    [
        ("+33612345678", "FR"),
        ("+12025550143", "US"),
        ("+442079460958", "GB"),
        ("+16135550110", "CA"),
        ("+590690001234", "GP"),
        ("hello", None),
        ("", None),
        ("0612345678", None),
    ],
)
def test_a_number_belongs_to_the_country_of_its_code_and_area(number, country):
    assert country_of(number) == country

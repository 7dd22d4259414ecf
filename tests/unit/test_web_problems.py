"""Codes are stable, listed and explained; pointers lead to the field."""

import re

import msgspec
import pytest

from tidings.domain import errors
from tidings.web.problems import KINDS, FieldError, SeveralInvalid, field_error, problem_of


def test_every_code_is_explained_with_its_status(checkout):
    text = (checkout / "docs" / "problems.md").read_text()
    explained = {code: int(status) for code, status in re.findall(r"^\| `(\w+)` \| (\d+) \|", text, re.MULTILINE)}
    assert explained == {code: kind.status for code, kind in KINDS.items()}


def refusals(base=errors.Refusal):
    for one in base.__subclasses__():
        yield one
        yield from refusals(one)


def test_every_refusal_has_a_status_and_a_message():
    for refusal in refusals():
        if refusal is not errors.Invalid and refusal.__module__.startswith("tidings."):
            assert refusal.code in KINDS, refusal
            assert refusal.__doc__ and refusal.__doc__.strip()


def test_every_code_in_the_sources_is_listed(checkout):
    found = set()
    for path in (checkout / "src" / "tidings").rglob("*.py"):
        found |= set(re.findall(r'Invalid\([^()]*code="(\w+)"', path.read_text(), re.DOTALL))
    assert found and found <= set(KINDS)


class Inner(msgspec.Struct, forbid_unknown_fields=True):
    names: list[int] = []


class Outer(msgspec.Struct, forbid_unknown_fields=True):
    inner: Inner
    free: dict[str, int] = {}


@pytest.mark.parametrize(
    ("raw", "pointer", "code"),
    [
        (b"{}", "/inner", "missing_field"),
        (b'{"inner": {}, "x/y~": 1}', "/x~1y~0", "unknown_field"),
        (b'{"inner": {"n": 1}}', "/inner/n", "unknown_field"),
        (b'{"inner": {"names": [1, "2"]}}', "/inner/names/1", "invalid"),
        (b'{"inner": {}, "free": {"a": "b"}}', "/free", "invalid"),
        (b"[]", "", "invalid"),
    ],
)
def test_a_pointer_leads_to_the_field(raw, pointer, code):
    with pytest.raises(msgspec.ValidationError) as fault:
        msgspec.json.decode(raw, type=Outer)
    found = field_error(fault.value)
    assert (found.pointer, found.code) == (pointer, code)


def test_one_error_gives_its_code_and_several_share_one():
    one = FieldError("/a", "unknown_field", "no")
    assert problem_of(SeveralInvalid([one]), "r").code == "unknown_field"
    several = problem_of(SeveralInvalid([one, one]), "r", "/notifications/3")
    assert several.code == "invalid"
    assert [error.pointer for error in several.errors] == ["/notifications/3/a"] * 2

"""What a user is told of is what the table in the documentation says, whatever the preferences."""

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tidings.domain.lanes import Channel, Class
from tidings.domain.preferences import Preferences, ruling

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "preferences.md"
ROW = re.compile(r"^\| (?P<when>.+?) \| (?P<then>goes|does not go) \| (?:`(?P<reason>\w+)`)? ?\|$", re.M)
IS = re.compile(r"`(?P<path>[^`]+)` is `(?P<value>[^`]+)`")
ABSENT = re.compile(r"there is no `(?P<path>[^`]+)`")
ABOUT = {"CHANNEL", "CLASS", "CATEGORY"}

RULES = [(row["when"], row["then"], row["reason"]) for row in ROW.finditer(PAGE.read_text())]

names = st.sampled_from(["news", "orders", "email"])
frequencies = st.sampled_from(["all", "none"])
switches = st.booleans() | st.dictionaries(st.sampled_from([one.name for one in Class]), st.booleans())
channel_names = st.sampled_from([one.name for one in Channel])
choices = st.dictionaries(channel_names, st.booleans())
some_preferences = st.fixed_dictionaries(
    {},
    optional={
        "channels": st.dictionaries(channel_names | st.just("*"), switches),
        "categories": st.dictionaries(
            names,
            st.builds(dict, choices) | st.builds(lambda one, how: {**one, "frequency": how}, choices, frequencies),
        ),
    },
)


def at(said: Any, path: list[str]) -> Any:
    """The value under a path, None where there is none."""
    for step in path:
        said = said.get(step) if isinstance(said, dict) else None
    return said


def applies(when: str, said: dict[str, Any], required: bool, about: dict[str, str]) -> bool:
    """Reads a line of the table as a person would."""
    if when == "the category is `required`":
        return required
    if when == "anything else":
        return True

    def under(path: str) -> Any:
        return at(said, [about.get(step, step) for step in path.split(".")])

    wanted, absent = IS.search(when), ABSENT.search(when)
    assert wanted, f"cannot be read: {when}"
    there = absent is None or under(absent["path"]) is None
    return there and under(wanted["path"]) == json.loads(wanted["value"])


def told(said: dict[str, Any], required: bool, about: dict[str, str]) -> tuple[str, str | None]:
    """What the documentation says."""
    return next((then, reason) for when, then, reason in RULES if applies(when, said, required, about))


def test_the_table_is_whole():
    assert len(RULES) == 8
    assert {word for when, *_ in RULES for word in re.findall(r"[A-Z]+", when)} >= ABOUT


@given(some_preferences, st.booleans(), names, st.sampled_from(Channel), st.sampled_from(Class))
@example({"channels": {"*": False, "sms": {}}}, False, "news", Channel.sms, Class.promotional)
@example({"channels": {"*": {"promotional": False}}}, False, "news", Channel.whatsapp, Class.promotional)
@example({"channels": {"sms": False}}, True, "news", Channel.sms, Class.promotional)
def test_the_first_line_of_the_table_that_applies_decides(said, required, category, channel, class_):
    found = ruling(msgspec.convert(said, Preferences), category, channel, class_, required=required)
    about = {"CHANNEL": channel.name, "CLASS": class_.name, "CATEGORY": category}
    assert ("does not go" if found.reason else "goes", found.reason) == told(said, required, about)


@given(some_preferences, names, st.sampled_from(Channel), st.sampled_from(Class))
def test_the_rule_that_is_named_is_the_one_that_is_off(said, category, channel, class_):
    found = ruling(msgspec.convert(said, Preferences), category, channel, class_, required=False)
    if found.reason:
        assert at(said, found.rule.split(".")) in (False, "none")
        head, *rest = found.rule.split(".")
        turned_on = json.loads(json.dumps(said))
        del at(turned_on, [head, *rest[:-1]])[rest[-1]]
        after = ruling(msgspec.convert(turned_on, Preferences), category, channel, class_, required=False)
        assert after.rule != found.rule


@given(some_preferences, names, st.sampled_from(Channel), st.sampled_from(Class))
def test_what_is_stored_says_the_same_as_what_was_put(said, category, channel, class_):
    put = msgspec.convert(said, Preferences)
    stored = msgspec.json.decode(msgspec.json.encode(put), type=Preferences)
    assert ruling(stored, category, channel, class_, required=False) == ruling(
        put, category, channel, class_, required=False
    )


@pytest.mark.parametrize("said", ['{"channels": {"fax": false}}', '{"digest": "daily"}', "{}"])
def test_what_a_newer_release_has_stored_is_left_alone(said):
    stored = msgspec.json.decode(said, type=Preferences)
    assert ruling(stored, "news", Channel.email, Class.promotional, required=False).reason is None

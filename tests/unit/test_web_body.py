"""Bodies: bounded while they are read, examined before they are believed."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidings.domain.errors import Refusal
from tidings.web.exchange import ClientGone, Head, problem_headers, read_body, read_head
from tidings.web.json_body import ANYTHING, DEPTH_MAX, examine, read_json
from tidings.web.pages import SearchAll
from tidings.web.people import merged, version_of
from tidings.web.problems import Malformed, Overloaded, TooLarge, TooSlow, problem_of


def arriving(*parts: bytes, then: dict | None = None):
    messages = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    messages.append(then or {"type": "http.request", "body": b"", "more_body": False})
    left = iter(messages)

    async def receive():
        return next(left)

    return receive


async def test_a_body_is_put_together_from_its_parts():
    assert await read_body(arriving(b"a", b"", b"bc"), Head("r"), 3, 1.0) == b"abc"


async def test_a_body_is_refused_as_soon_as_it_is_too_large():
    with pytest.raises(TooLarge):
        await read_body(arriving(b"ab", b"cd"), Head("r"), 3, 1.0)
    with pytest.raises(TooLarge):
        await read_body(None, Head("r", content_length=4), 3, 1.0)


async def test_a_client_that_leaves_and_one_that_dawdles_are_told_apart():
    with pytest.raises(ClientGone):
        await read_body(arriving(b"a", then={"type": "http.disconnect"}), Head("r"), 3, 1.0)

    async def never():
        await asyncio.Event().wait()

    with pytest.raises(TooSlow):
        await read_body(never, Head("r"), 3, 0.01)


def test_a_request_id_is_kept_when_it_is_sane():
    assert read_head([(b"x-request-id", b"abc-1")]).request_id == "abc-1"
    for strange in (b"", b"a b", b"x" * 129, b"a\r\nb", b"\xff"):
        made = read_head([(b"x-request-id", strange)]).request_id
        assert made.isalnum() and len(made) >= 16


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(-1e300, 1e300) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(ANY_JSON)
def test_what_holds_no_nul_is_read_as_it_is(value):
    raw = json.dumps(value).encode()
    try:
        assert read_json(raw, ANYTHING) == value
    except Refusal:
        assert "\\u0000" in raw.decode()


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(raw):
    try:
        read_json(raw, ANYTHING)
    except Refusal as refusal:
        assert refusal.code in ("malformed_json", "nul_character", "invalid")


def test_nul_is_found_wherever_it_hides():
    for value, pointer in (({"a": ["x", {"b/c": "\0"}]}, "/a/1/b~1c"), ({"a": {"\0": 1}}, "/a"), ("\0", "")):
        with pytest.raises(Refusal) as found:
            examine(json.dumps(value).encode())
        assert (found.value.code, found.value.pointer) == ("nul_character", pointer)
    read_json(json.dumps({"a": "\\u0000 as text"}).encode(), ANYTHING)


def test_depth_has_a_limit():
    read_json(b"[" * DEPTH_MAX + b"]" * DEPTH_MAX, ANYTHING)
    for levels in (DEPTH_MAX + 2, 900, 5_000, 100_000):
        with pytest.raises(Malformed):
            read_json(b"[" * levels + b"]" * levels, ANYTHING)


def test_those_who_were_refused_together_come_back_apart():
    waits = {problem_headers(problem_of(Overloaded(), "r"))["retry-after"] for _ in range(200)}
    assert waits == {"1", "2", "3", "4"}


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": [1, 2]}, {"a": [3]}, {"a": [3]}),
        ({"a": {"b": "c"}}, {"a": {"b": None, "d": {"e": None}}}, {"a": {"d": {}}}),
        ({"a": 1}, "x", "x"),
        ("x", {"a": 1}, {"a": 1}),
    ],
)
def test_patches_merge_as_rfc_7396_says(target, patch, result):
    assert merged(target, patch) == result


@pytest.mark.parametrize(
    ("etag", "version"),
    [(None, None), ("*", None), ('"3"', 3), ('W/"3"', 3), ("3", 3), ('"x"', 0), ('"-1"', 0), ("²", 0)],
)
def test_an_etag_names_a_version(etag, version):
    assert version_of(etag) == version


def test_a_window_has_seven_days_and_a_minute_for_clocks_that_differ():
    now = datetime(2026, 5, 8, 12, tzinfo=UTC)
    week = SearchAll(since=now - timedelta(days=7)).bounded(now + timedelta(seconds=2))
    assert week.until > now
    assert SearchAll(since=now - timedelta(days=7), until=now).bounded(now).until == now
    with pytest.raises(Refusal, match="seven days"):
        SearchAll(since=now - timedelta(days=7, minutes=2)).bounded(now)


def test_a_window_that_ends_before_all_time_is_empty():
    assert SearchAll(until=datetime(1, 1, 1, tzinfo=UTC)).bounded(datetime.now(UTC)).page(None).before.int == 0


def test_a_page_knows_whether_there_are_more():
    assert SearchAll(limit=50).page(None).limit == 51
    assert SearchAll(limit=50, status="sent").page(None).limit > 51

"""A call to a caller's system over a real socket: what it is told, and for how long it asks to be left alone."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from tests.wire_peer import answer, answering, playing
from tidings.domain.callback import SECRET_BYTES, Posted, Signing, Webhook, secret_of
from tidings.domain.egress import ANYWHERE
from tidings.domain.ids import TenantId
from tidings.providers.callbacks import CallbackPost, PostLimits
from tidings.providers.wire_reach import Reach

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LIMITS = PostLimits(connections=2, timeout_s=10.0, connect_s=5.0, pause_most_s=600.0)


async def posted(*, status: int, retry_after: str | None) -> Posted:
    headers = f"Retry-After: {retry_after}\r\n" if retry_after is not None else ""
    post = CallbackPost(Reach(ANYWHERE), LIMITS)
    async with playing(answering(answer(status, headers=headers))) as peer:
        hook = Webhook(1, TenantId(1), "orders", peer.origin, (), (Signing(secret_of(bytes(SECRET_BYTES))),))
        try:
            return await post(hook, "id", b"{}", NOW)
        finally:
            post.close()


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("retry_after", "s"),
    [
        ("30", 30.0),
        (" 30 ", 30.0),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90.0),
        ("Friday, 02-Jan-26 03:05:05 GMT", 60.0),
        ("86400", 600.0),
        ("9" * 400, 600.0),
        (format_datetime(NOW + timedelta(days=9), usegmt=True), 600.0),
        (format_datetime(NOW - timedelta(seconds=90), usegmt=True), 0.0),
        ("0", 0.0),
    ],
)
async def test_a_receiver_may_ask_for_a_pause_in_seconds_or_until_a_date_and_not_for_ever(status, retry_after, s):
    assert await posted(status=status, retry_after=retry_after) == Posted(False, f"http_{status}", after_s=s)


@pytest.mark.parametrize(
    "riddle",
    [
        "",
        "soon",
        "-5",
        "1.5",
        "1e9",
        "\u00b2",
        "2026-01-02",
        "Fri, 99 Jan 2026 03:04:05 GMT",
        "Fri, 02 Jan 99999999999 0:0:0",
    ],
)
async def test_what_cannot_be_read_asks_for_nothing(riddle):
    assert await posted(status=429, retry_after=riddle) == Posted(False, "http_429")


@pytest.mark.parametrize(("status", "ok", "gone"), [(200, True, False), (500, False, False), (410, False, True)])
async def test_only_one_that_says_not_now_is_given_a_pause(status, ok, gone):
    assert await posted(status=status, retry_after="30") == Posted(ok, f"http_{status}", gone)

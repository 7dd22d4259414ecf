"""FAULTS 36 to 46 at the wire, for every provider: what it can do to one call, and what that call becomes."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from provider_case import Case, Scripted
from provider_cases import CASES
from test_providers import account, every_provider, facing, giving, last, plain, said, taken
from wire_peer import Authority, Talk, answer, answering, black_hole, playing, until

from tidings.domain.outcome import Sent, TryLater, TryNext, Unsure
from tidings.providers import registry
from tidings.runtime.ports import free_port

OVER_HTTP = {kind: case for kind, case in CASES.items() if case.dialect.scheme == "http"}
every_provider_over_http = pytest.mark.parametrize("case", OVER_HTTP.values(), ids=OVER_HTTP)


def steps(case: Case) -> list[str]:
    """The steps of a call before its last one."""
    return list(dict.fromkeys(one.at for one in case.answers.values() if one.at))


def at_each(*steps: tuple[Case, str]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(("case", "step"), steps, ids=[f"{case.kind} {step}".strip() for case, step in steps])


# before the first byte


@every_provider
async def test_nobody_listening_is_surely_not_sent(case: Case) -> None:
    provider = registry.build(account(case, f"http://127.0.0.1:{free_port()}"))
    assert plain(await provider.send(case.message, lambda: True)) == TryNext("connect_refused")


@every_provider
async def test_a_name_that_leads_nowhere_is_surely_not_sent(case: Case) -> None:
    provider = registry.build(account(case, "http://no-such-host.invalid"))
    assert plain(await provider.send(case.message, lambda: True)) == TryNext("dns")


@every_provider
async def test_a_certificate_that_is_not_trusted_is_surely_not_sent(case: Case, tmp_path: Path) -> None:
    async with playing(answering(answer(202)), Authority(tmp_path).serving()) as peer:
        provider = registry.build(account(case, peer.origin))
        assert plain(await provider.send(case.message, lambda: True)) == TryNext("tls")
        assert peer.bytes_seen == 0


@every_provider
async def test_a_connection_that_is_never_answered_is_surely_not_sent(case: Case) -> None:
    async with black_hole() as hole:
        url = f"http://127.0.0.1:{hole.getsockname()[1]}"
        provider = registry.build(account(case, url, {"connect_timeout_s": "0.2"}))
        assert plain(await provider.send(case.message, lambda: True)) == TryNext("connect_timeout")


# instead of a complete answer


async def _silent(case: Case, talk: Talk) -> None:
    await talk.gone()


async def _drip(case: Case, talk: Talk) -> None:
    for byte in taken(case):
        await talk.say(bytes([byte]))
        await asyncio.sleep(0.1)


async def _reset(case: Case, talk: Talk) -> None:
    talk.reset()


async def _cut(case: Case, talk: Talk) -> None:
    await talk.say(taken(case)[:-2])
    talk.reset()


async def _closed(case: Case, talk: Talk) -> None:
    return


async def _truncated(case: Case, talk: Talk) -> None:
    await talk.say(taken(case)[:-2])


async def _foreign(case: Case, talk: Talk) -> None:
    await talk.say(case.dialect.foreign)


async def _flood(case: Case, talk: Talk) -> None:
    await talk.say(case.dialect.flood)


async def _endless(case: Case, talk: Talk) -> None:
    begin, more = case.dialect.endless
    await talk.say(begin)
    while True:
        await talk.say(more)


Break = Callable[[Case, Talk], Awaitable[None]]
BREAKS: dict[str, tuple[Break, set[str]]] = {
    "silence": (_silent, {"timeout"}),
    "a drip": (_drip, {"timeout"}),
    "a reset": (_reset, {"reset", "closed"}),
    "a reset in the middle": (_cut, {"reset", "truncated"}),
    "a close": (_closed, {"closed"}),
    "a truncated answer": (_truncated, {"truncated"}),
    "another protocol": (_foreign, {"garbled"}),
    "a flood": (_flood, {"too_large"}),
    "no end": (_endless, {"too_large"}),
}
IMPATIENT = {"timeout_s": "1", "connect_timeout_s": "1"}
every_break = pytest.mark.parametrize("kind", BREAKS)


@every_provider
@every_break
async def test_after_the_first_byte_only_a_complete_answer_counts_and_nothing_stays_open(case: Case, kind: str) -> None:
    end, codes = BREAKS[kind]

    async def script(talk: Talk) -> None:
        await case.dialect.hear(talk, last)
        await end(case, talk)

    async with facing(case, script, IMPATIENT if "timeout" in codes else None) as (provider, peer):
        before = asyncio.all_tasks()
        outcome = await provider.send(case.message, lambda: True)
        assert isinstance(outcome, Unsure)
        assert outcome.code in codes
        assert len(peer.seen) == 1, "a call was repeated"
        await until(lambda: not peer.open and asyncio.all_tasks() <= before)


@at_each(*((case, step) for case in CASES.values() for step in steps(case)))
@every_break
async def test_what_breaks_before_the_message_is_surely_not_sent(case: Case, step: str, kind: str) -> None:
    end, codes = BREAKS[kind]

    async def script(talk: Talk) -> None:
        await case.dialect.hear(talk, lambda: step)
        await end(case, talk)

    async with facing(case, script, IMPATIENT if "timeout" in codes else None) as (provider, peer):
        assert isinstance(await provider.send(case.message, lambda: True), TryNext)
        await until(lambda: not peer.open)
        assert not any(case.dialect.sent(seen) for seen in peer.seen)


# complete answers


MATTERING = {
    "http": {301, 302, 307, 308, 401, 403, 429, 500, 502, 503, 504},
    "smtp": {421, 450, 451, 454, 530, 535, 550},
}
"""What every provider can answer, whatever else it has words for."""


def coded(case: Case) -> Iterator[tuple[int, Scripted]]:
    """The answers to a message whose code the row is named by."""
    for name, scripted in case.answers.items():
        if name[:3].isdecimal():
            yield int(name[:3]), scripted


@every_provider
def test_no_answer_that_matters_is_left_out_of_a_providers_row(case: Case) -> None:
    assert MATTERING[case.dialect.scheme] <= {code for code, _ in coded(case)}


@every_provider_over_http
def test_whatever_the_provider_an_answer_of_its_kind_means_the_same(case: Case) -> None:
    for code, scripted in coded(case):
        becomes = scripted.becomes
        if code == 401:
            assert isinstance(becomes, TryLater), code
        elif code == 429:
            assert isinstance(becomes, TryNext) or (isinstance(becomes, TryLater) and becomes.account), code
        elif code >= 500 or code // 100 == 3:
            assert isinstance(becomes, TryNext | Unsure), code
    paced = [one.becomes for code, one in coded(case) if code == 429]
    rests_s = {one.after_s for one in paced if isinstance(one, TryLater)}
    assert len(rests_s) > 1, "with a time and without one"


@every_provider_over_http
@pytest.mark.parametrize(
    ("headers", "rest_s"), [("Retry-After: 7\r\n", 7.0), ("", None), ("Retry-After: soon\r\n", None)]
)
async def test_a_429_rests_the_account_for_as_long_as_it_asks_or_as_is_usual(
    case: Case, headers: str, rest_s: float | None
) -> None:
    settings = {"slow_down_s": "23"}
    outcome = await said(case, giving(case, answer(429, headers=headers)), settings)
    assert plain(outcome) == TryLater("http_429", after_s=rest_s or 23.0, account=True)


FIELDS = ("id", "name", "sid", "message", "messages", "error", "errors", "code", "status", "details", "contacts")
VALUES = (None, True, 5, -1.5, 10**30, [], [5], [{}], [None], {}, {"code": "x"}, {"details": 5}, {"message": []})
ODD = [
    *(b"", b"null", b"[]", b"5", b'"x"', b"{", b"}", b"\0", b"\xff\xfe", b"<html>It works!</html>", b"ok\r\n"),
    *(b'{"ok": false}', b'{"success": false, "error": 1}', b"[" * 100_000, b"[" * 3000 + b"]" * 3000),
    *(msgspec.json.encode({name: value}) for name, value in itertools.product(FIELDS, VALUES)),
]


@every_provider_over_http
async def test_whatever_stands_in_a_complete_answer_it_becomes_an_outcome_and_no_success(case: Case) -> None:
    now = [b""]

    async def script(talk: Talk) -> None:
        while True:
            await case.dialect.hear(talk, last)
            await talk.say(now[-1])

    success = int(taken(case).split()[1])
    async with facing(case, script) as (provider, _):
        for status, body in itertools.product((success, 400, 401, 403, 404, 422, 429, 500, 503), ODD):
            now.append(answer(status, body, "Content-Type: image/png\r\n"))
            outcome = await provider.send(case.message, lambda: True)
            assert not isinstance(outcome, Sent), (status, body[:100])
            assert status != success or isinstance(outcome, Unsure), (status, body[:100])
            assert outcome.detail.isprintable() and len(outcome.detail) <= 500


@at_each(*((case, step) for case in OVER_HTTP.values() for step in (*steps(case), "")))
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed_and_credentials_go_nowhere(case: Case, step: str, status: int) -> None:
    async with playing(answering(answer(200))) as elsewhere:
        raw = answer(status, headers=f"Location: {elsewhere.origin}/v3/mail/send\r\n")
        assert not isinstance(await said(case, giving(case, raw, lambda: step)), Sent)
        assert elsewhere.most_open == 0

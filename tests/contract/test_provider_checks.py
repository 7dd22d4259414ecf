"""Credentials are tried by calls that do no harm, and whatever comes of it is said in words that help."""

from pathlib import Path
from urllib.parse import unquote_to_bytes

import msgspec
import pytest
from provider_case import Case
from provider_cases import CASES
from provider_checks import CHECKS, EVERYBODY, GOOD, REVOKED, Tried
from test_providers import account, every_provider, facing, taken
from wire_peer import Authority, Script, Talk, answer, answering, playing, until

from tidings.domain.egress import Egress
from tidings.domain.outcome import Sent, Trouble
from tidings.ports import Provider
from tidings.providers import registry
from tidings.runtime.ports import free_port

ROWS = [pytest.param(CASES[kind], row, id=f"{kind}: {name}") for kind in CHECKS for name, row in CHECKS[kind].items()]
OVER_HTTP = {kind: case for kind, case in CASES.items() if case.dialect.scheme == "http"}
every_provider_over_http = pytest.mark.parametrize("case", OVER_HTTP.values(), ids=OVER_HTTP)
NOT_JSON = (b"", b"null", b"[]", b'"x"', b"5", b"\xff\xfe", b"{" * 2_000, b"[" * 200_000, b'{"id": 5}')
NOT_THEIRS = (b'{"scopes": 5}', b'{"domain": []}', b'{"status": []}', b'{"name": ""}', b'{"error": []}', b'{"id": []}')


def answering_so(case: Case, row: Tried) -> Script:
    left = list(row.answers)

    async def script(talk: Talk) -> None:
        while True:
            await case.dialect.hear(talk, lambda: row.at)
            await talk.say(left.pop(0) if len(left) > 1 else left[0])

    return script


async def checked(case: Case, provider: Provider) -> Trouble | None:
    return await provider.check([case.message.sender, dict(case.message.sender)])


async def tried(case: Case, row: Tried) -> Trouble | None:
    async with facing(case, answering_so(case, row)) as (provider, _):
        return await checked(case, provider)


def test_every_provider_has_its_rows() -> None:
    assert CHECKS.keys() == CASES.keys()
    assert [kind for kind, rows in CHECKS.items() if not rows.keys() >= EVERYBODY] == []


@pytest.mark.parametrize(("case", "row"), ROWS)
async def test_what_is_wrong_is_said_and_what_to_do_about_it(case: Case, row: Tried) -> None:
    trouble = await tried(case, row)
    if row.found is None:
        assert trouble is None
    else:
        assert trouble is not None
        assert row.found in trouble.found
        assert row.advice in trouble.advice


@pytest.mark.parametrize(("case", "row"), ROWS)
async def test_nobody_is_written_to(case: Case, row: Tried) -> None:
    async with facing(case, answering_so(case, row)) as (provider, peer):
        await checked(case, provider)
    for seen in (unquote_to_bytes(bytes(one)) for one in peer.seen):
        assert case.message.to.encode() not in seen
        assert b"\r\nRCPT" not in seen and b"\r\nDATA" not in seen
        assert b"messages:send" not in seen or b'"validate_only":true' in seen


@every_provider
async def test_nobody_listening_is_said(case: Case) -> None:
    provider = registry.build(account(case, f"http://127.0.0.1:{free_port()}"))
    trouble = await checked(case, provider)
    assert trouble is not None and trouble.away
    assert "connect_refused" in trouble.found


@every_provider
async def test_one_who_is_silent_is_not_waited_for(case: Case) -> None:
    async def script(talk: Talk) -> None:
        await talk.gone()

    async with facing(case, script, {"timeout_s": "0.5"}) as (provider, _):
        trouble = await checked(case, provider)
    assert trouble is not None and trouble.away
    assert "timeout" in trouble.found


@every_provider
@pytest.mark.parametrize("what", ["foreign", "flood"])
async def test_another_protocol_is_said(case: Case, what: str) -> None:
    async def script(talk: Talk) -> None:
        if case.kind in OVER_HTTP:
            await talk.request()
        await talk.say(getattr(case.dialect, what))

    async with facing(case, script) as (provider, _):
        trouble = await checked(case, provider)
    assert trouble is not None and trouble.away


@every_provider
async def test_a_certificate_that_is_not_trusted_is_said(case: Case, tmp_path: Path) -> None:
    async with playing(answering(answer(200)), Authority(tmp_path).serving()) as peer:
        provider = registry.build(account(case, peer.origin))
        trouble = await checked(case, provider)
        await provider.close()
    assert trouble is not None and "no answer: tls" in trouble.found
    assert peer.bytes_seen == 0


@every_provider
async def test_what_may_not_be_reached_is_not_tried(case: Case) -> None:
    rules = {"egress": msgspec.json.encode(Egress(allow=("127.0.0.2/32",))).decode()}
    async with playing(answering_so(case, CHECKS[case.kind][GOOD])) as peer:
        provider = registry.build(account(case, f"http://localhost:{peer.port}", rules))
        trouble = await checked(case, provider)
        await provider.close()
        assert peer.seen == []
    assert trouble is not None and not trouble.away
    assert "address_refused" in trouble.found and "egress_allow" in trouble.advice


@every_provider_over_http
@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_credentials_do_not_follow_a_redirect(case: Case, status: int) -> None:
    async with playing(answering(answer(200))) as elsewhere:
        raw = answer(status, headers=f"Location: {elsewhere.origin}/\r\n")
        trouble = await tried(case, Tried([raw]))
        assert elsewhere.seen == []
    assert trouble is not None and "`url`" in trouble.advice


@every_provider_over_http
@pytest.mark.parametrize("status", [200, 400, 403])
async def test_nonsense_is_not_taken_for_good_news(case: Case, status: int) -> None:
    for body in (*NOT_JSON, *NOT_THEIRS):
        assert await tried(case, Tried([answer(status, body)])) is not None, body


@every_provider
async def test_no_secret_is_in_what_is_said(case: Case) -> None:
    steps = {row.at for row in CHECKS[case.kind].values()}
    for secret in case.secrets:
        for status in (400, 401, 500, 503):
            for at in steps:
                trouble = await tried(case, Tried([case.dialect.refusal(status, f"bad key {secret}!")], at=at))
                assert secret not in repr(trouble)


@every_provider
async def test_what_was_good_before_proves_nothing(case: Case) -> None:
    """A token or a connection that still serves says nothing about the credentials that it was got with."""
    revoked, now = CHECKS[case.kind][REVOKED], [""]

    async def script(talk: Talk) -> None:
        while True:
            await case.dialect.hear(talk, lambda: revoked.at if now[0] else "")
            await talk.say(revoked.answers[0] if now[0] else taken(case))

    async with facing(case, script) as (provider, _):
        assert isinstance(await provider.send(case.message, lambda: True), Sent)
        now[0] = "revoked"
        assert await checked(case, provider) is not None


async def test_a_key_of_twilio_asks_for_what_keys_may_see() -> None:
    case = CASES["twilio"]
    key = {"api_key_sid": "SK" + "0" * 32, "api_key_secret": "secret"}
    for listed, good in ((b'{"messages": []}', True), (b"{}", False)):
        async with facing(case, answering(answer(200, listed)), key) as (provider, peer):
            assert (await checked(case, provider) is None) is good
            assert b"/Messages.json?PageSize=1 " in peer.seen[0]


async def test_every_number_of_whatsapp_and_every_project_of_fcm_is_asked_for() -> None:
    for kind, field in (("whatsapp", "phone_number_id"), ("fcm", "project")):
        case = CASES[kind]
        async with facing(case, answering_so(case, CHECKS[kind][GOOD])) as (provider, peer):
            assert await provider.check([{field: "4711"}, {field: "4712"}, {field: "4711"}]) is None
            seen = b"".join(peer.seen)
        assert [seen.count(f"/{one}".encode()) for one in ("4711", "4712")] == [1, 1]


@pytest.mark.parametrize("number", ["", "x/../../me", "\u0665", "1\r\nHost: elsewhere"])
async def test_what_is_no_number_of_whatsapp_is_not_asked_for(number: str) -> None:
    case = CASES["whatsapp"]
    async with facing(case, answering_so(case, CHECKS["whatsapp"][GOOD])) as (provider, peer):
        trouble = await provider.check([{"phone_number_id": number}])
        assert peer.seen == []
    assert trouble is not None and "phone_number_id" in trouble.advice


async def test_a_channel_without_a_sender_of_whatsapp_cannot_send() -> None:
    case = CASES["whatsapp"]
    async with facing(case, answering_so(case, CHECKS["whatsapp"][GOOD])) as (provider, peer):
        trouble = await provider.check([])
        assert peer.seen == []
    assert trouble is not None and "sender" in trouble.advice


async def test_a_mail_server_is_taken_leave_of() -> None:
    case = CASES["smtp"]
    async with facing(case, answering_so(case, Tried())) as (provider, peer):
        assert await checked(case, provider) is None
        assert await checked(case, provider) is None
        await until(lambda: not peer.open)
    assert len(peer.seen) == 2
    for seen in peer.seen:
        assert seen.count(b"MAIL FROM:<shop@example.com>\r\nRSET\r\n") == 1
        assert seen.endswith(b"NOOP\r\nQUIT\r\n")

"""What every provider's adapter promises, whatever its protocol. A new provider is one row in ``provider_cases``."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import unquote_to_bytes

import msgspec
import pytest
from provider_case import ARRIVAL, REFERENCE, WEBHOOK_URL, Case, Due, Scripted, Sign
from provider_cases import CASES
from wire_peer import Peer, Script, Talk, playing, until

from tidings.domain.catalog import Account
from tidings.domain.ids import TenantId
from tidings.domain.lanes import Channel
from tidings.domain.outcome import Fenced, Outcome, Receipt, Refused, Sent
from tidings.ports import Message, Provider, WebhookCall
from tidings.providers import registry

ANSWERS = [pytest.param(case, name, id=f"{case.kind}: {name}") for case in CASES.values() for name in case.answers]
WEBHOOKS = [pytest.param(case, name, id=f"{case.kind}: {name}") for case in CASES.values() for name in case.webhooks]
every_provider = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
MAILING = {kind: case for kind, case in CASES.items() if case.channel == Channel.email}
every_mail_provider = pytest.mark.parametrize("case", MAILING.values(), ids=MAILING)
SPEAKING = {kind: case for kind, case in CASES.items() if case.sign}
every_provider_with_webhooks = pytest.mark.parametrize("case", SPEAKING.values(), ids=SPEAKING)
SILENT = {kind: case for kind, case in CASES.items() if not case.sign}
RECORDED = {kind: case for kind, case in SPEAKING.items() if case.vectors}
every_recorded_provider = pytest.mark.parametrize("case", RECORDED.values(), ids=RECORDED)
INJECTED = "x\r\nBcc: eve@example.com\r\n\r\nGET /stolen HTTP/1.1\r\n"


def account(case: Case, url: str, settings: Mapping[str, str] | None = None) -> Account:
    return Account(
        id=1,
        tenant=TenantId(1),
        name="main",
        kind=case.kind,
        channel=case.channel,
        settings={**case.settings, "url": url.replace("http", case.dialect.scheme, 1), **(settings or {})},
        receipt_token="token",
    )


def last() -> str:
    """The step at the end of a call."""
    return ""


def giving(case: Case, raw: bytes, due: Due = last) -> Script:
    """Answers every call of a connection with this."""

    async def script(talk: Talk) -> None:
        while True:
            await case.dialect.hear(talk, due)
            await talk.say(raw)

    return script


def taken(case: Case) -> bytes:
    """An answer that says that the call was taken."""
    return next(one.raw for one in case.answers.values() if isinstance(one.becomes, Sent))


@asynccontextmanager
async def facing(
    case: Case, script: Script, settings: Mapping[str, str] | None = None
) -> AsyncIterator[tuple[Provider, Peer]]:
    """The adapter, and a peer in the provider's place that plays this script."""
    async with playing(script) as peer:
        provider = registry.build(account(case, peer.origin, settings))
        try:
            yield provider, peer
        finally:
            await provider.close()


async def said(case: Case, script: Script, settings: Mapping[str, str] | None = None) -> Outcome:
    """What one call becomes; the peer must have got it at most once."""
    async with facing(case, script, settings) as (provider, peer):
        outcome = await provider.send(case.message, lambda: True)
        assert len(peer.seen) <= 1, "a call was repeated"
        return outcome


def plain(outcome: Outcome) -> Outcome:
    return msgspec.structs.replace(outcome, detail="")


async def wrong_answers(case: Case, enough: int = 1000) -> list[str]:
    """The names of the answers that do not become what they should; of so many at most."""
    wrong, now = [], list[Scripted]()

    async def script(talk: Talk) -> None:
        while True:
            await case.dialect.hear(talk, lambda: now[-1].at)
            await talk.say(now[-1].raw)

    async with facing(case, script) as (provider, _):
        for name, scripted in case.answers.items():
            now.append(scripted)
            if plain(await provider.send(case.message, lambda: True)) != plain(scripted.becomes):
                wrong.append(name)
            if len(wrong) >= enough:
                break
    return wrong


def signed(case: Case, body: bytes, query: str = "", sign: Sign | None = None) -> WebhookCall:
    by = sign or case.sign
    assert by is not None
    return by(WebhookCall(WEBHOOK_URL + query, {}, body))


def receipts(case: Case, call: WebhookCall) -> list[Receipt] | None:
    found = registry.build(account(case, "http://127.0.0.1:1")).receipts(call)
    return None if found is None else [msgspec.structs.replace(_dated(case, one), raw=b"") for one in found]


def _dated(case: Case, one: Receipt) -> Receipt:
    """What came without a time of its own is dated when it came, which is now."""
    if not case.undated:
        return one
    assert abs(datetime.now(UTC) - one.occurred_at) < timedelta(minutes=1)
    return msgspec.structs.replace(one, occurred_at=ARRIVAL)


def wrong_receipts(case: Case) -> list[str]:
    return [
        name for name, one in case.webhooks.items() if receipts(case, signed(case, one.body, one.query)) != one.receipts
    ]


@pytest.mark.parametrize(("case", "name"), ANSWERS)
async def test_every_complete_answer_becomes_what_the_table_says(case: Case, name: str) -> None:
    scripted = case.answers[name]
    outcome = await said(case, giving(case, scripted.raw, lambda: scripted.at))
    assert plain(outcome) == plain(scripted.becomes)


@every_provider
async def test_a_row_of_a_table_that_is_wrong_is_caught(case: Case) -> None:
    assert await wrong_answers(case) + wrong_receipts(case) == []
    unseen = []
    for module, name, table in case.mutants():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, name, table)
            if not wrong_receipts(case) and not await wrong_answers(case, enough=1):
                unseen.append((name, table))
    assert unseen == []


@every_provider
async def test_the_reference_travels_with_the_call_and_the_message_with_it(case: Case) -> None:
    async with facing(case, giving(case, taken(case))) as (provider, peer):
        assert isinstance(await provider.send(case.message, lambda: True), Sent)
        request = unquote_to_bytes(bytes(peer.seen[0]))
        assert REFERENCE.encode() in request
        assert case.message.to.encode() in request


@every_provider
async def test_when_the_fence_says_no_nothing_is_sent(case: Case) -> None:
    async with facing(case, giving(case, taken(case))) as (provider, peer):
        assert await provider.send(case.message, lambda: False) == Fenced()
        await provider.close()
        await until(lambda: not peer.open)
        assert not any(case.dialect.sent(seen) for seen in peer.seen)


def _with(message: Message, field: str, value: str) -> Message:
    if field in ("subject", "text", "html"):
        return msgspec.structs.replace(message, content=msgspec.structs.replace(message.content, **{field: value}))
    if field.startswith("sender."):
        return msgspec.structs.replace(message, sender={**message.sender, field[7:]: value})
    if field == "a header":
        return msgspec.structs.replace(message, headers={"X-Campaign": value})
    if field == "a header's name":
        return msgspec.structs.replace(message, headers={value: "x"})
    return msgspec.structs.replace(message, **{field: value})


FIELDS = ["to", "subject", "text", "html", "sender.email", "sender.name", "reply_to", "reference"]


@every_provider
@pytest.mark.parametrize("field", [*FIELDS, "a header", "a header's name"])
async def test_no_value_can_add_a_line_to_a_request(case: Case, field: str) -> None:
    async with facing(case, giving(case, taken(case))) as (provider, peer):
        await provider.send(_with(case.message, field, INJECTED), lambda: True)
        for seen in peer.seen:
            assert b"\r\nBcc" not in case.dialect.lines(seen)
            assert b"\r\nGET" not in case.dialect.lines(seen)


@every_mail_provider
@pytest.mark.parametrize("field", ["to", "subject", "sender.name", "reply_to", "a header", "a header's name"])
@pytest.mark.parametrize("value", ["a\r\nBcc: x", "a\nb", "a\0b", "a\x85b", "a\u2028b", "=?UTF-8?Q?=0A?=Bcc: x"])
async def test_what_could_break_a_mail_header_is_refused_unsent(case: Case, field: str, value: str) -> None:
    async with facing(case, giving(case, taken(case))) as (provider, peer):
        outcome = await provider.send(_with(case.message, field, value), lambda: True)
        assert isinstance(outcome, Refused)
        assert outcome.code == "unsafe_header"
        assert peer.bytes_seen == 0


@every_provider
async def test_no_secret_is_shown(case: Case) -> None:
    for secret in case.secrets:
        for status in (400, 401, 500, 503):
            for words in (secret, f"bad key {secret}!"):
                raw = case.dialect.refusal(status, words)
                assert secret not in repr(await said(case, giving(case, raw)))
        for shown in (account(case, "http://127.0.0.1:1"), registry.build(account(case, "http://127.0.0.1:1"))):
            assert secret not in repr(shown)


@every_provider
def test_settings_that_cannot_be_used_are_refused_without_being_shown(case: Case) -> None:
    for name, secret in case.settings.items():
        if name in case.own:
            continue
        bad = account(case, "http://127.0.0.1:1", {name: f"{secret}\r\nX-Evil: 1"})
        with pytest.raises(ValueError) as refused:
            registry.build(bad)
        assert secret not in str(refused.value)
    for url in ("ftp://example.com", "https://", "example.com", "https://u:p@example.com"):
        with pytest.raises(ValueError):
            registry.build(account(case, url))
    with pytest.raises(ValueError):
        registry.build(msgspec.structs.replace(account(case, "http://127.0.0.1:1"), kind="carrier_pigeon"))


@pytest.mark.parametrize(("case", "name"), WEBHOOKS)
def test_a_signed_call_becomes_receipts(case: Case, name: str) -> None:
    one = case.webhooks[name]
    assert receipts(case, signed(case, one.body, one.query)) == one.receipts


@every_provider_with_webhooks
def test_only_the_accounts_own_provider_is_believed(case: Case) -> None:
    one = next(one for one in case.webhooks.values() if one.receipts)
    call = signed(case, one.body, one.query)
    assert receipts(case, call)
    assert receipts(case, signed(case, one.body, one.query, case.sign_as_stranger)) is None
    assert receipts(case, msgspec.structs.replace(call, headers={}, body=one.body)) is None
    for forged in case.forgeries(call):
        assert receipts(case, forged) is None, forged


@every_provider_with_webhooks
def test_hostile_receipts_never_raise_and_can_be_stored(case: Case) -> None:
    for body in case.hostile:
        for one in receipts(case, signed(case, body)) or ():
            found = (one.reference, one.event_key, one.kind, one.reason, one.message_id, one.address)
            texts = [text for text in found if text]
            assert all("\0" not in text and len(text) <= 500 for text in texts)
            assert one.event_key and len(one.raw) <= 4096
            assert one.occurred_at.tzinfo is not None


@every_recorded_provider
def test_the_providers_own_vectors_hold(case: Case, providers_data: Path) -> None:
    """Recorded from the provider's own SDKs."""
    assert case.vectors is not None
    for one in case.vectors(providers_data / "vectors"):
        provider = registry.build(account(case, "http://127.0.0.1:1", one.settings))
        assert (provider.receipts(one.call) is not None) == one.valid, one.name


@pytest.mark.parametrize("case", SILENT.values(), ids=SILENT)
def test_who_has_no_webhooks_believes_nobody(case: Case) -> None:
    for body in (b"", b"{}", b"[]", b"null", b"MessageStatus=delivered", REFERENCE.encode()):
        assert receipts(case, WebhookCall(WEBHOOK_URL, {}, body)) is None

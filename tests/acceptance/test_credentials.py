"""Credentials are tried before anything is sent with them: by the doctor, by command and by API."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from tests.acceptance.test_commands import tidings
from tests.system import System, running
from tests.wire_peer import answer, answering, playing
from tidings.runtime.ports import free_port

NAME = "new-account"
SECRET = "SG.this-must-never-be-shown"
GOOD = answer(200, b'{"scopes": ["mail.send"]}')
REVOKED = answer(401, b'{"errors": [{"message": "authorization required"}]}')


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def untouched(tmp_path_factory):
    """Of other tests, some of which leave accounts behind where nobody answers any more."""
    async with running(tmp_path_factory.mktemp("credentials")) as system:
        yield system


@pytest_asyncio.fixture
async def system(untouched: System, monkeypatch: pytest.MonkeyPatch):
    """The doctor has the same rules for addresses."""
    monkeypatch.setenv("TIDINGS_EGRESS_ALLOW", "127.0.0.0/8")
    await untouched.well()
    return untouched


async def doctor(system: System) -> tuple[int, dict[str, dict[str, Any]], str]:
    """Its exit code, what it found of each account, and all that it said."""
    code, out, err = await tidings("doctor", "--json", "--data-dir", str(system.data_dir))
    found = {one["what"]: one for one in msgspec.json.decode(out)["findings"]}
    return code, {what: one for what, one in found.items() if what.startswith("account ")}, out + err


async def check(system: System, *names: str) -> tuple[int, list[dict[str, Any]], str]:
    code, out, err = await tidings("providers", "check", *names, "--json", "--data-dir", str(system.data_dir))
    return code, msgspec.json.decode(out)["items"], err


@asynccontextmanager
async def account_at(system: System, url: str) -> AsyncIterator[None]:
    """A further account, which sends nothing because it is on no route. It cannot be deleted, so it can send
    afterwards."""
    await put(system, url)
    try:
        yield
    finally:
        await put(system, f"{system.sandbox_url}/sendgrid")


async def put(system: System, url: str) -> None:
    settings = {"api_key": SECRET, "url": url}
    status, said, _ = await system.ask("PUT", f"/providers/{NAME}", {"kind": "sendgrid", "settings": settings})
    assert status == 200, said


async def test_the_doctor_finds_a_running_system_healthy(system: System):
    code, out, err = await tidings("doctor", "--data-dir", str(system.data_dir), "--json")
    assert code == 0, out + err
    said = msgspec.json.decode(out)
    assert {one["what"] for one in said["findings"]} >= {"control", "shard 0, schema", "shard 1, clock", "valkey"}
    assert not [one for one in said["findings"] if one["advice"]]
    assert system.key not in out and next(iter(system.dsns)) in out


async def test_every_account_of_a_sandbox_can_send_and_nothing_is_sent(system: System):
    code, found, said = await doctor(system)
    assert code == 0, said
    kinds = set(await system.sandbox("GET", "/stats"))
    wanted = {f"account {kind} of {tenant}" for kind in kinds for tenant in ("default", "default (test)")}
    assert wanted <= set(found)
    assert {one["found"] for one in found.values()} == {"can send"}
    code, items, _ = await check(system)
    assert code == 0 and kinds <= {one["name"] for one in items if one["ok"]}
    assert sum([(await system.stats(kind))["accepted"] for kind in kinds]) == 0


async def test_a_key_that_was_revoked_is_found_everywhere_and_shown_nowhere(system: System):
    async with playing(answering(REVOKED)) as peer, account_at(system, peer.origin):
        code, found, said = await doctor(system)
        mine = found[f"account {NAME} of default"]
        assert code == 1, said
        assert "HTTP 401: authorization required" in mine["found"] and "make another" in mine["advice"]
        assert [one["what"] for one in found.values() if one["advice"]] == [mine["what"]]
        assert SECRET not in said
        code, (item,), err = await check(system, NAME)
        assert (code, item["ok"]) == (1, False) and NAME in err
        assert "HTTP 401" in item["detail"] and SECRET not in str(item)
        code, items, _ = await check(system)
        assert code == 1 and [one["name"] for one in items if not one["ok"]] == [NAME]
        for key in peer.seen:
            assert SECRET.encode() in bytes(key)  # it was the account's own that was tried


async def test_a_provider_that_does_not_answer_ends_the_doctor_with_3(system: System):
    async with account_at(system, f"http://127.0.0.1:{free_port()}"):
        code, found, said = await doctor(system)
        assert code == 3, said
        mine = found[f"account {NAME} of default"]
        assert mine["away"] and "connect_refused" in mine["found"]
        assert [one["what"] for one in found.values() if one["away"]] == [mine["what"]]


async def test_a_provider_that_is_mended_is_found_mended(system: System):
    answers = [REVOKED]

    async def script(talk):
        while True:
            await talk.request()
            await talk.say(answers[0])

    async with playing(script) as peer, account_at(system, peer.origin):
        assert (await check(system, NAME))[0] == 1
        answers[0] = GOOD
        assert (await check(system, NAME))[0] == 0


@pytest.mark.parametrize(("fault", "code", "word"), [("unauthorized", 1, "HTTP 401"), ("down", 3, "connect_refused")])
async def test_live_accounts_are_a_fault_and_test_accounts_a_warning(system: System, fault: str, code: int, word: str):
    await system.fault(fault)
    ended, found, said = await doctor(system)
    assert ended == code, said
    live, test = (found[f"account sendgrid of {tenant}"] for tenant in ("default", "default (test)"))
    assert word in live["found"] and live["advice"]
    assert word in test["found"] and test["warning"] and not test["advice"]


async def test_the_doctor_reaches_no_further_than_senders_do(system: System, monkeypatch: pytest.MonkeyPatch):
    async with playing(answering(GOOD)) as peer, account_at(system, f"http://localhost:{peer.port}"):
        before = len(peer.seen)
        monkeypatch.setenv("TIDINGS_EGRESS_ALLOW", "127.0.0.2/32")
        code, found, said = await doctor(system)
        mine = found[f"account {NAME} of default"]
        assert code == 1, said
        assert "address_refused" in mine["found"] and "egress_allow" in mine["advice"]
        assert len(peer.seen) == before


async def test_an_account_that_does_not_exist_cannot_be_tried(system: System):
    code, _, err = await tidings("providers", "check", "no-such-account", "--data-dir", str(system.data_dir))
    assert code == 1 and "not_found" in err


async def test_with_another_master_key_the_doctor_says_so(system: System, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TIDINGS_MASTER_KEY", "00" * 32)
    code, out, _ = await tidings("doctor", "--json", "--data-dir", str(system.data_dir))
    (found,) = [one for one in msgspec.json.decode(out)["findings"] if one["what"] == "accounts"]
    assert code == 1 and "another master key" in found["advice"]


async def test_people_are_told_in_words(system: System, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "250")
    where = ("--data-dir", str(system.data_dir))
    async with playing(answering(REVOKED)) as peer, account_at(system, peer.origin):
        code, out, _ = await tidings("providers", "check", *where)
        assert code == 1 and "sendgrid can send\n" in out and f"{NAME} cannot send: HTTP 401" in out
        code, out, _ = await tidings("doctor", *where)
        assert code == 1 and "HTTP 401" in out

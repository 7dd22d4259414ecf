"""Commands as an operator runs them."""

import asyncio
import os
import signal
import sys

import msgspec
import pytest

from tests.system import until
from tidings.runtime import rundir
from tidings.settings import pairs


async def tidings(*words: str) -> tuple[int, str, str]:
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tidings", *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await program.communicate()
    return program.returncode or 0, out.decode(), err.decode()


async def test_the_doctor_says_what_to_do_where_nothing_is_set(tmp_path):
    code, out, err = await tidings("doctor", "--data-dir", str(tmp_path), "--json")
    assert code == 1, err
    advice = {one["what"]: one["advice"] for one in msgspec.json.decode(out)["findings"]}
    assert "TIDINGS_MASTER_KEY" in advice["master key"] and "tidings up" in advice["control"]


async def test_the_doctor_names_a_database_that_does_not_answer(tmp_path, monkeypatch):
    monkeypatch.setenv("TIDINGS_CONTROL_DSN", "postgresql://tidings@127.0.0.1:1/control")
    code, out, _ = await tidings("doctor", "--data-dir", str(tmp_path), "--json")
    assert code == 3
    found = {one["what"]: one["found"] for one in msgspec.json.decode(out)["findings"]}
    assert found["control"].startswith("no answer")


async def test_a_key_that_is_made_works_and_one_that_is_revoked_does_not(system):
    place = ("--data-dir", str(system.data_dir))
    code, out, err = await tidings("keys", "create", "for-a-test", "--scopes", "read", *place)
    assert code == 0, err
    key, public_id = out.strip(), out.strip().split("_")[2]
    headers = {"Authorization": f"Bearer {key}"}

    async def status() -> int:
        return (await system.ask("GET", "/notifications?limit=1", **headers))[0]

    await until(lambda: is_(status, 200), 10, "the new key to work")
    assert (await system.ask("POST", "/notifications", {}, **headers))[0] == 403
    assert (await tidings("keys", "revoke", public_id, *place))[0] == 0
    await until(lambda: is_(status, 401), 10, "the revoked key to be refused")
    assert (await tidings("keys", "revoke", public_id, *place))[0] == 1


async def is_(ask, wanted: int) -> bool:
    return await ask() == wanted


async def test_a_notification_that_is_sent_from_the_terminal_is_shown_as_json_once_it_arrived(system):
    words = ("ada@example.com", "--subject", "Hello", "--text", "Anybody there?", "--json")
    code, out, err = await tidings("send", *words, "--data-dir", str(system.data_dir))
    assert code == 0, err
    said = msgspec.json.decode(out)
    assert said["status"] == "delivered" and said["id"] in err


async def test_what_does_not_end_is_not_followed_for_ever(system):
    for pid in system.pids("worker"):
        os.kill(pid, signal.SIGSTOP)
    try:
        words = ("ada@example.com", "--subject", "Hi", "--text", "Later.", "--json", "--data-dir", str(system.data_dir))
        code, out, err = await asyncio.wait_for(tidings("send", *words), 25)
    finally:
        system.wake()
    assert code == 0, err
    id_ = msgspec.json.decode(out)["id"]
    assert f"tidings show {id_}" in err
    await system.becomes(id_, "delivered")


async def test_a_new_key_as_json_comes_with_its_scopes(system):
    words = ("for-a-test", "--scopes", "read,send", "--json", "--data-dir", str(system.data_dir))
    code, out, err = await tidings("keys", "create", *words)
    assert code == 0, err
    said = msgspec.json.decode(out)
    assert said["key"].startswith("td_live_") and said["scopes"] == ["read", "send"]


@pytest.mark.parametrize("form", [(), ("--json",)])
@pytest.mark.parametrize("verb", [("discard",), ("replay",), ("replay", "--dry-run")])
async def test_a_choice_of_dead_letters_that_matches_nothing_ends_with_1(system, verb, form):
    words = (*verb, "--reason", "no_such_reason", *form, "--data-dir", str(system.data_dir))
    code, _, err = await tidings("dead-letters", *words)
    assert (code, "nothing matched" in err) == (1, True)


async def test_the_ledger_of_a_running_system_is_compared_with_that_of_its_sandbox(system):
    await system.becomes(await system.send(), "delivered")
    _, out, err = await tidings("ledger", "--json", "--data-dir", str(system.data_dir))
    assert system.sandbox_url in "".join(err.split())
    assert not [one for one in msgspec.json.decode(out)["unchecked"] if "no provider ledger" in one]


async def test_a_real_account_is_left_alone_where_there_is_a_sandbox(system):
    place = ("--data-dir", str(system.data_dir))
    stand_in = pairs(rundir.find(system.data_dir).settings["sandbox_providers"])["sendgrid"]

    async def move_to(url: str) -> None:
        status, said, _ = await system.ask("PUT", "/providers/sendgrid", {"kind": "sendgrid", "settings": {"url": url}})
        assert status == 200, said

    await move_to("https://mail.invalid")
    try:
        code, _, err = await tidings("bootstrap", *place)
        assert (code, "sendgrid is a real account" in err) == (0, True)
    finally:
        await move_to(stand_in)
    code, _, err = await tidings("bootstrap", *place)
    assert (code, err) == (0, "")
    await system.becomes(await system.send(), "delivered")


@pytest.mark.parametrize("words", [("keys", "list"), ("migrate",), ("bootstrap",), ("ledger",)])
@pytest.mark.parametrize("dsn", ["", "postgresql://tidings@127.0.0.1:1/control"])
async def test_databases_that_do_not_answer_end_a_command_with_3_and_one_line(tmp_path, monkeypatch, words, dsn):
    if dsn:
        monkeypatch.setenv("TIDINGS_CONTROL_DSN", dsn)
        monkeypatch.setenv("TIDINGS_SHARD_DSNS", dsn)
    monkeypatch.setenv("TIDINGS_MASTER_KEY", "00" * 32)
    code, _, err = await tidings(*words, "--data-dir", str(tmp_path))
    assert (code, len(err.splitlines())) == (3, 1), err


@pytest.mark.parametrize(
    "words",
    [
        ("work", "--lanes", "nonsense"),
        ("sandbox", "--provider-port", "sendgrid=x"),
        ("sandbox", "--provider-port", "sendgrid=70000"),
        ("sandbox", "--provider-port", "nobody=9001"),
        ("sandbox", "--receipts-url", "sendgrid"),
        ("keys", "create", "a", "--scopes", "everything"),
    ],
)
async def test_wrong_values_are_wrong_usage(words):
    code, _, err = await tidings(*words)
    assert code == 2, err
    assert "Traceback" not in err


async def test_webhooks_are_put_listed_tried_and_deleted(system):
    where = ("--data-dir", str(system.data_dir))
    url = "https://127.0.0.1:1/hook"
    code, out, _ = await tidings("webhooks", "put", "cli", url, "--event", "delivery.dead", *where)
    assert code == 0 and out.startswith("whsec_")
    code, out, _ = await tidings("webhooks", "put", "cli", url, *where)
    assert (code, out.strip()) == (0, "cli is enabled"), "no second look at the secret"
    code, out, _ = await tidings("webhooks", "list", "--json", *where)
    assert [one["url"] for one in msgspec.json.decode(out)["items"] if one["name"] == "cli"] == [url]
    code, out, err = await tidings("webhooks", "test", "cli", *where)
    assert (code, out.strip()) == (1, "connect_refused") and "cli was not told" in err
    code, out, _ = await tidings("webhooks", "put", "cli", url, "--disable", *where)
    assert (code, out.strip()) == (0, "cli is disabled: by_request")
    assert (await tidings("webhooks", "delete", "cli", *where))[0] == 0
    assert (await tidings("webhooks", "delete", "cli", *where))[0] == 1
    code, _, err = await tidings("webhooks", "put", "cli", "https://10.0.0.1/hook", *where)
    assert code == 1 and "/url" in err

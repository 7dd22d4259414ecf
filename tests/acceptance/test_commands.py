"""Commands as an operator runs them."""

import asyncio
import sys

import msgspec

from tests.system import until


async def tidings(*words: str) -> tuple[int, str, str]:
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tidings", *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await program.communicate()
    return program.returncode or 0, out.decode(), err.decode()


async def test_the_doctor_finds_a_running_system_healthy(system):
    code, out, err = await tidings("doctor", "--data-dir", str(system.data_dir), "--json")
    assert code == 0, out + err
    said = msgspec.json.decode(out)
    assert {one["what"] for one in said["findings"]} >= {"control", "shard 0, schema", "shard 1, clock", "valkey"}
    assert not [one for one in said["findings"] if one["advice"]]
    assert system.key not in out and next(iter(system.dsns)) in out


async def test_the_doctor_says_what_to_do_where_nothing_is_set(tmp_path):
    code, out, err = await tidings("doctor", "--data-dir", str(tmp_path), "--json")
    assert code == 1, err
    advice = {one["what"]: one["advice"] for one in msgspec.json.decode(out)["findings"]}
    assert "TIDINGS_MASTER_KEY" in advice["master key"] and "tidings up" in advice["control"]


async def test_the_doctor_names_a_database_that_does_not_answer(tmp_path, monkeypatch):
    monkeypatch.setenv("TIDINGS_CONTROL_DSN", "postgresql://tidings@127.0.0.1:1/control")
    code, out, _ = await tidings("doctor", "--data-dir", str(tmp_path), "--json")
    assert code == 1
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

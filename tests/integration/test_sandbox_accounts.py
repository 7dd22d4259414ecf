"""Credentials are tried at the stand-ins: they tell a customer about its account as the real ones do."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sandbox_rig import Rig, sandbox

from tidings.domain.catalog import Account
from tidings.domain.ids import TenantId
from tidings.domain.outcome import Trouble
from tidings.providers.registry import KINDS, build
from tidings.sandbox.registry import STAND_INS
from tidings.sandbox.signing import SigningKey
from tidings.sandbox.standin import LIVE, TEST

SENDER = {"email": "shop@example.com", "number": "+15005550006", "phone_number_id": "106540352242922"}
every = pytest.mark.parametrize("kind", STAND_INS)
OF_ALL_CALLS = {
    "down": "connect_refused",
    "unauthorized": "",
    "rate_limit": "HTTP 429",
    "error": "HTTP 503",
    "garbage": "not the provider's",
}
OVER_HTTP = [kind for kind in STAND_INS if kind != "smtp"]


@asynccontextmanager
async def standing_in(kind: str, directory: Path, **config: object) -> AsyncIterator[tuple[Rig, SigningKey]]:
    async with sandbox(kind, signing_key_file=directory / "key", **config) as rig:
        yield rig, SigningKey.kept_in(directory / "key")


async def tried(rig: Rig, key: SigningKey, who: str = LIVE, **settings: str) -> Trouble | None:
    kind = rig.provider
    customer: Mapping[str, str] = STAND_INS[kind].customer(rig.host, key, who)
    account = Account(1, TenantId(1), kind, kind, KINDS[kind].channel, {**customer, **settings}, "token")
    provider = build(account)
    try:
        return await provider.check([SENDER])
    finally:
        await provider.close()


@every
@pytest.mark.parametrize("who", [LIVE, TEST])
async def test_the_stand_ins_own_customers_can_send_and_nothing_was_sent(kind: str, who: str, tmp_path: Path) -> None:
    async with standing_in(kind, tmp_path) as (rig, key):
        assert await tried(rig, key, who) is None
        assert (await rig.stats())["accepted"] == 0


@pytest.mark.parametrize("kind", OVER_HTTP)
@pytest.mark.parametrize("fault", OF_ALL_CALLS)
async def test_faults_of_the_whole_provider_are_found(kind: str, fault: str, tmp_path: Path) -> None:
    async with standing_in(kind, tmp_path) as (rig, key):
        await rig.fault(fault)
        trouble = await tried(rig, key)
        assert trouble is not None and OF_ALL_CALLS[fault] in trouble.found
        await rig.call("DELETE", f"/_sandbox/faults/{kind}")
        assert await tried(rig, key) is None


@pytest.mark.parametrize("kind", OVER_HTTP)
async def test_a_provider_that_is_slow_is_not_waited_for(kind: str, tmp_path: Path) -> None:
    async with standing_in(kind, tmp_path) as (rig, key):
        await rig.fault("slow", delay_ms=20_000)
        trouble = await tried(rig, key, timeout_s="0.5")
    assert trouble is not None and "timeout" in trouble.found and trouble.away


@pytest.mark.parametrize("kind", ["sendgrid", "mailgun", "twilio", "whatsapp"])
async def test_a_key_that_the_stand_in_does_not_know_is_refused(kind: str, tmp_path: Path) -> None:
    async with standing_in(kind, tmp_path, api_keys={kind: "another"}) as (rig, key):
        trouble = await tried(rig, key)
    assert trouble is not None and "HTTP 401" in trouble.found


@pytest.mark.parametrize("kind", ["sendgrid", "mailgun", "twilio", "whatsapp"])
async def test_faults_of_a_message_are_none_of_the_account(kind: str, tmp_path: Path) -> None:
    async with standing_in(kind, tmp_path) as (rig, key):
        for fault in ("refuse", "bad_address", "accept_then_error"):
            await rig.fault(fault)
            assert await tried(rig, key) is None
        assert (await rig.stats())["requests"] == 0

"""A new channel that is opened step by step reaches more and more users, and never loses one."""

import asyncio
import sys
from itertools import count

from tests.system import System, until
from tidings.domain.ids import TenantId, UserId
from tidings.domain.lanes import Channel
from tidings.domain.rollout import reaches

USERS = [f"user-{n}" for n in range(40)]
OURS = TenantId(1)


async def opened(system: System, percent: int, before: int) -> None:
    """Returns once the worker obeys, which somebody feels for whom the share makes a difference."""
    words = ("rollouts", "set", "whatsapp", str(percent), "--data-dir", str(system.data_dir))
    command = await asyncio.create_subprocess_exec(sys.executable, "-m", "tidings", *words)
    assert await command.wait() == 0
    names = (UserId(f"probe-{n}") for n in count())
    feels = (name for name in names if is_in(percent, name) != is_in(before, name))

    async def obeys() -> bool:
        probe = next(feels)
        return await reached(system, probe) == is_in(percent, probe)

    await until(obeys, 30, f"the worker to obey {percent} %")


def is_in(percent: float, user: str) -> bool:
    return reaches(percent, OURS, Channel.whatsapp, UserId(user))


async def reached(system: System, user: str) -> bool:
    """Whether a notification to this user goes out on the channel."""
    key, body = system.wanted(user, channels=["whatsapp"])
    body["to"]["phone"] = "+12025550143"
    id_, _ = await system.insist(key, body)
    found = await system.becomes(id_, "sent", "delivered", "suppressed")
    reason = {"suppressed": "not_rolled_out"}.get(found["status"])
    assert [one["reason"] for one in found["deliveries"]] == [reason]
    return reason is None


async def test_a_channel_is_opened_from_10_to_50_to_100_percent_of_the_users(lone_system):
    before, shares = 100, list[set[str]]()
    try:
        for percent in (10, 50, 100):
            await opened(lone_system, percent, before)
            told = await asyncio.gather(*(reached(lone_system, user) for user in USERS))
            shares.append({user for user, came in zip(USERS, told, strict=True) if came})
            assert shares[-1] == {user for user in USERS if is_in(percent, user)}
            before = percent
    finally:
        await lone_system.ask("PUT", "/rollouts/whatsapp", {"percent": 100})
    tenth, half, all_ = shares
    assert tenth < half < all_ == set(USERS)

"""How much is in doubt, as an operator sees it."""

from datetime import UTC, datetime, timedelta
from signal import SIGSTOP

import aiohttp
import msgspec

from tests.acceptance.test_commands import tidings
from tests.acceptance.test_providers_doubt import careful
from tests.system import System, until
from tidings.runtime import rundir

GAUGE = 'tidings_in_doubt{channel="email",kind="sendgrid",shard="'


async def figures(system: System) -> float:
    """What the relay's metrics say is in doubt, over both shards."""
    running = rundir.find(system.data_dir)
    assert running is not None
    async with aiohttp.ClientSession() as session, session.get(f"{running.ops_urls['relay'][0]}/metrics") as said:
        lines = (await said.text()).splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(GAUGE))


async def test_what_is_in_doubt_is_counted_and_shown_until_it_is_decided(system: System):
    place = ("--data-dir", str(system.data_dir))
    await system.fault("error", status=500)
    category = await careful(system)
    ids = [await system.send(category=category) for _ in range(3)]

    async def counted() -> bool:
        return await figures(system) == 3

    await until(counted, 30, "the relay to count what is in doubt")
    system.signal("relay", SIGSTOP)  # nobody decides meanwhile
    for id_ in ids:
        await system.becomes(id_, "in_doubt")
    code, out, err = await tidings("doubt", "--json", *place)
    [one] = msgspec.json.decode(out)["items"]
    assert (code, one["channel"], one["provider"], one["count"]) == (0, "email", "sendgrid", 3), err
    assert timedelta() < datetime.now(UTC) - datetime.fromisoformat(one["oldest_at"]) < timedelta(minutes=2)
    assert "sendgrid" in (await tidings("doubt", *place))[1]
    system.wake()
    await system.heal()
    for id_ in ids:
        await system.becomes(id_, "unknown")
    assert "Nothing" in (await tidings("doubt", *place))[1]

    async def gone() -> bool:
        return await figures(system) == 0

    await until(gone, 30, "the relay to count none")
    await system.check()

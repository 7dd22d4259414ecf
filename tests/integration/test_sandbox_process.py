"""The sandbox as a process of its own, on the loop that it really runs on."""

import asyncio
import json
import signal
import sys

import aiohttp
import pytest
from sandbox_rig import Rig

SERVE = """
import json
from tidings.sandbox.app import SandboxConfig, serve
serve(SandboxConfig(provider_ports={"sendgrid": 0}), lambda addresses: print(json.dumps(addresses), flush=True))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_serves_until_it_is_told_to_stop_and_leaves_quietly(number: signal.Signals) -> None:
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", SERVE, stdout=pipe, stderr=pipe)
    assert child.stdout and child.stderr
    addresses = json.loads(await asyncio.wait_for(child.stdout.readline(), 30))
    async with aiohttp.ClientSession() as http:
        rig = Rig(addresses, http)
        assert (await rig.send())[0] == 202
        await rig.fault("accept_then_reset")
        with pytest.raises(aiohttp.ClientOSError, match="reset by peer"):
            await rig.send()
        await rig.fault("down")
        with pytest.raises(aiohttp.ClientConnectorError):
            await rig.send()
        await rig.fault("accept_then_hang")
        hanging = asyncio.create_task(rig.send())
        await rig.taken(3)
        child.send_signal(number)
        with pytest.raises(aiohttp.ClientError):
            await hanging
    assert await asyncio.wait_for(child.wait(), 10) == 0
    assert await child.stderr.read() == b""

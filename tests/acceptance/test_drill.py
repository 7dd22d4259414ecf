"""The outage drill, as an operator runs it: providers go away under load and come back, and every promise is kept."""

import asyncio
import os
import sys

import msgspec

from tidings.bench.drill import story

PATIENCE_S = 600


async def test_the_drill_keeps_every_promise_with_two_providers_and_with_one():
    words = ("drill", "--outage-s", "6", "--queued", "300", "--json")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TIDINGS_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tidings", *words), env=environment, stdout=-1, stderr=-1
    )
    out, err = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    assert out, err.decode()
    told = msgspec.json.decode(out)
    broken = [one for one in told["promises"] if not one["kept"]]
    assert (broken, process.returncode) == ([], 0), told
    assert [told["ledger"][name] for name in ("clean", "lost", "repeated")] == [True, 0, 0]
    phases = {one["phase"]: one for one in told["phases"]}
    assert phases[story.ALONE_DOWN]["waiting"] == phases[story.ALONE_BACK][story.FIRST] == 300
    assert len(told["promises"]) >= 15, "each was put to the test"

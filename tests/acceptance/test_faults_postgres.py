"""FAULTS 15: the database server dies with all its backends, under load."""

import asyncio
import time
from itertools import pairwise

from tests.system import System, until

OUTAGE_S = 10.0


class Prober:
    """A client that asks again and again, and notes when it was answered what."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._asked: list[tuple[str, dict]] = []
        self.answers: list[tuple[float, int, bool]] = []

    async def run(self, for_s: float) -> None:
        """Every 50 ms, whatever became of the requests before; at the end all are insisted on."""
        end, requests = time.monotonic() + for_s, []
        while time.monotonic() < end:
            self._asked.append(self._system.wanted())
            requests.append(asyncio.create_task(self._ask(*self._asked[-1])))
            await asyncio.sleep(0.05)
        await asyncio.gather(*requests)
        await asyncio.gather(*(self._system.insist(*one) for one in self._asked))

    async def _ask(self, key: str, body: dict) -> None:
        status, _, headers = await self._system.post(key, body)
        self.answers.append((time.monotonic(), status, "Retry-After" in headers))

    def longest_outage_s(self) -> float:
        at = sorted(at for at, status, _ in self.answers if status == 202)
        return max(later - earlier for earlier, later in pairwise(at))


async def test_a_database_that_is_killed_with_all_its_backends_loses_nothing_that_was_accepted(system):
    prober = Prober(system)
    load = asyncio.create_task(prober.run(5))
    await until(lambda: system.took(10), 20, "the load to arrive")
    pid = system.signal_family("postgres")
    await system.replaced("postgres", pid)
    await load
    assert {202, 503} <= {status for _, status, _ in prober.answers} <= {202, 409, 503}
    assert all(says_when for _, status, says_when in prober.answers if status == 503)
    assert prober.longest_outage_s() < OUTAGE_S
    await system.check()

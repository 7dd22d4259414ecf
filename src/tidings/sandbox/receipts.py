"""The webhooks of one provider: what becomes of each message, told after a while, again and again until it is heard."""

import asyncio
import heapq
import random
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

import aiohttp
import msgspec
from msgspec import Meta

from tidings.sandbox.standin import Fate, Forecast, Message, News, Parcel, StandIn

GATHER_S: Final = 0.02
LARGEST_BATCH: Final = 1000
POSTS_AT_ONCE: Final = 8
UNHEARD_AT_MOST: Final = 1000
TIMEOUT_S: Final = 10.0
RETRY_AFTER_S: Final = (0.5, 1, 2, 4, 8, 15, 30, *[60] * 12)

Share = Annotated[float, Meta(ge=0, le=1)]


class Receipts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How webhooks come: ``share_delivered`` and ``share_bounced`` of the messages end so, nothing is ever heard of
    the rest. The other shares are of the delivered ones, each by itself. They are told after ``delay_ms``, each
    ``repeat`` times, in any order if ``shuffle``."""

    share_delivered: Share = 1.0
    share_bounced: Share = 0.0
    share_opened: Share = 0.0
    share_clicked: Share = 0.0
    share_complained: Share = 0.0
    share_unsubscribed: Share = 0.0
    delay_ms: Annotated[int, Meta(ge=0)] = 500
    repeat: Annotated[int, Meta(ge=1, le=100)] = 1
    shuffle: bool = False

    def __post_init__(self) -> None:
        if self.share_delivered + self.share_bounced > 1:
            raise ValueError("share_delivered and share_bounced together are more than 1")

    def fates(self, luck: Callable[[], float]) -> Sequence[Fate]:
        """In the order in which they come about. ``luck`` is in [0, 1), and another each time."""
        end = luck()
        if end >= self.share_delivered:
            return [Fate.bounced] if end < self.share_delivered + self.share_bounced else []
        shares = {
            Fate.opened: self.share_opened,
            Fate.clicked: self.share_clicked,
            Fate.complained: self.share_complained,
            Fate.unsubscribed: self.share_unsubscribed,
        }
        return [Fate.delivered, *(fate for fate, share in shares.items() if share and luck() < share)]


class Posted(msgspec.Struct, frozen=True):
    """``calls`` that were heard, calls to be tried again, and calls given up."""

    calls: int
    retried: int
    given_up: int


class Postman:
    """Gathers what is due, so that one call tells of many messages, and repeats what was not heard."""

    def __init__(self, standin: StandIn) -> None:
        self.receipts = Receipts()
        self._standin = standin
        self._due: list[tuple[float, int, Message, Fate]] = []
        self._pushed = 0
        self._wake = asyncio.Event()
        self._at_once = asyncio.Semaphore(POSTS_AT_ONCE)
        self._posts: set[asyncio.Task[None]] = set()
        self._calls = self._retried = self._given_up = 0

    def posted(self) -> Posted:
        return Posted(self._calls, self._retried, self._given_up)

    def expect(self, messages: Sequence[Message]) -> Sequence[Forecast]:
        """What becomes of each of these, and when it is told: settled by the settings of this moment."""
        delay_s = self.receipts.delay_ms / 1000
        at_s, at = asyncio.get_running_loop().time() + delay_s, datetime.now(UTC) + timedelta(seconds=delay_s)
        expected = [Forecast(self.receipts.fates(random.random) if one.callback else (), at) for one in messages]
        for message, forecast in zip(messages, expected, strict=True):
            for fate in forecast.fates:
                self._push(at_s, message, fate)
        return expected

    def _push(self, at_s: float, message: Message, fate: Fate) -> None:
        self._pushed += 1
        heapq.heappush(self._due, (at_s, self._pushed, message, fate))
        if self._due[0][1] == self._pushed:
            self._wake.set()

    async def run(self) -> None:
        """Until it is cancelled."""
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            try:
                while True:
                    await self._until_due()
                    for parcel in self._pack(self._pop()):
                        self._start(session, parcel)
            finally:
                await self._stop()

    async def _until_due(self) -> None:
        """Returns when the first is due, and a moment later, so that others may join it."""
        loop = asyncio.get_running_loop()
        while not self._due or self._due[0][0] > loop.time():
            wait_s = self._due[0][0] - loop.time() if self._due else None
            self._wake.clear()
            try:
                await asyncio.wait_for(self._wake.wait(), wait_s)
            except TimeoutError:
                break
        await asyncio.sleep(GATHER_S)

    def _pop(self) -> list[News]:
        now_s, now = asyncio.get_running_loop().time(), datetime.now(UTC)
        news = list[News]()
        while self._due and self._due[0][0] <= now_s and len(news) < LARGEST_BATCH:
            _, _, message, fate = heapq.heappop(self._due)
            news.append(News(message, fate, now))
        return news

    def _pack(self, news: Sequence[News]) -> Iterable[Parcel]:
        if news:
            for _ in range(self.receipts.repeat):
                yield from self._standin.webhooks(news, shuffle=self.receipts.shuffle)

    def _start(self, session: aiohttp.ClientSession, parcel: Parcel) -> None:
        if len(self._posts) >= UNHEARD_AT_MOST:
            self._given_up += 1
            return
        task = asyncio.create_task(self._post_until_heard(session, parcel))
        self._posts.add(task)
        task.add_done_callback(self._posts.discard)

    async def _post_until_heard(self, session: aiohttp.ClientSession, parcel: Parcel) -> None:
        for wait_s in RETRY_AFTER_S:
            async with self._at_once:
                heard = await _post(session, parcel)
            if heard:
                self._calls += 1
                return
            self._retried += 1
            await asyncio.sleep(wait_s)
        self._given_up += 1

    async def _stop(self) -> None:
        for task in self._posts:
            task.cancel()
        await asyncio.gather(*self._posts, return_exceptions=True)


async def _post(session: aiohttp.ClientSession, parcel: Parcel) -> bool:
    try:
        async with session.post(parcel.url, data=parcel.body, headers=parcel.headers, allow_redirects=False) as answer:
            return 200 <= answer.status < 300
    except (aiohttp.ClientError, TimeoutError, OSError):
        return False

"""FAULTS 68 and its kin: what callers' systems are told, through kills, silence and days of absence."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest_asyncio
import standardwebhooks

from tests.acceptance.elsewhere import put
from tests.system import SHORT, System, running, until
from tests.wire_peer import Talk, answer, playing
from tidings.runtime.ports import free_port

HURRIED = {
    **SHORT,
    "TIDINGS_WEBHOOKS_TIMEOUT_S": "1",
    "TIDINGS_WEBHOOKS_POLL_S": "0.1",
    "TIDINGS_WEBHOOKS_RETRY_SCHEDULE_S": "[0.3, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]",
    "TIDINGS_WEBHOOKS_DISABLE_AFTER_S": "6",
    "TIDINGS_WEBHOOKS_CONCURRENCY": "4",
}


class Receiver:
    """A caller's system. It believes only what is signed, and answers with ``status`` and ``headers``, or not at all
    while the status is 0."""

    def __init__(self) -> None:
        self.secret = ""
        self.status = 204
        self.headers = ""
        self.called_at_s: list[float] = []
        self.refused_at_s: list[float] = []
        self.events: dict[str, dict[str, Any]] = {}
        self.times: dict[str, int] = {}

    @property
    def calls(self) -> int:
        return len(self.called_at_s)

    async def __call__(self, talk: Talk) -> None:
        while True:
            head, _, body = (await talk.request()).decode().partition("\r\n\r\n")
            headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:])
            event = standardwebhooks.Webhook(self.secret).verify(body, headers)
            self.called_at_s.append(asyncio.get_running_loop().time())
            if self.status == 0:
                await asyncio.Event().wait()
            if self.status < 300:
                id_ = headers["webhook-id"]
                assert self.events.setdefault(id_, event) == event, "one id, one event"
                self.times[id_] = self.times.get(id_, 0) + 1
            await talk.say(answer(self.status, headers=self.headers))
            if self.status >= 300:
                self.refused_at_s.append(asyncio.get_running_loop().time())

    def told(self, notification: str) -> list[str]:
        """The statuses of a notification's delivery, in the order in which they happened."""
        mine = [one for one in self.events.values() if one["data"].get("notification_id") == notification]
        return [one["data"]["status"] for one in sorted(mine, key=lambda one: str(one["timestamp"]))]

    async def hears(self, notification: str, timeout_s: float = 30.0) -> None:
        """Until the last word: it is told, and nothing that never was. A receipt may come before the answer to the call
        is stored: then nobody has ever seen it as sent."""
        await until(
            lambda: self.told(notification)[-1:] == ["delivered"], timeout_s, f"the last word on {notification}"
        )
        assert self.told(notification) in (["sent", "delivered"], ["delivered"])


@asynccontextmanager
async def receiving(
    system: System, name: str, receiver: Receiver | None = None, **body: Any
) -> AsyncIterator[Receiver]:
    """A webhook, and who hears it, until the end of the block."""
    one = receiver or Receiver()
    async with playing(one) as peer:
        one.secret = (await put(system, f"/webhooks/{name}", {"url": peer.origin, "rotate_secret": True, **body}))[
            "secret"
        ]
        try:
            yield one
        finally:
            await system.ask("DELETE", f"/webhooks/{name}")


async def state(system: System, name: str) -> dict[str, Any]:
    status, said, _ = await system.ask("GET", f"/webhooks/{name}")
    assert status == 200, said
    return said


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def hurried(tmp_path_factory) -> AsyncIterator[System]:
    async with running(tmp_path_factory.mktemp("callbacks"), HURRIED) as system:
        yield system


@pytest_asyncio.fixture
async def calling(hurried: System) -> System:
    await hurried.heal()
    await hurried.receipts()
    await hurried.begin()
    return hurried


async def test_every_status_is_told_and_none_that_never_was(calling: System):
    await calling.receipts(delay_ms=2_000)
    async with receiving(calling, "all") as receiver:
        ids = [await calling.send(metadata={"order": "7"}) for _ in range(20)]
        unheard, body = calling.wanted()
        del body["to"]["email"]
        unheard = await calling.send(unheard, to=body["to"])
        for id_ in ids:
            await until(lambda id_=id_: receiver.told(id_) == ["sent", "delivered"], 30, f"both events of {id_}")
        await until(lambda: receiver.told(unheard) == ["suppressed"], 30, "the event of what was not sent")
        events = [one["data"] for one in receiver.events.values() if one["data"]["notification_id"] == ids[0]]
        story = await calling.get(ids[0])
        assert {one["delivery_id"] for one in events} == {story["deliveries"][0]["id"]}
        assert events[0]["metadata"] == {"order": "7"}
        assert events[0]["reference"] == story["reference"]
        assert "example.com" not in str(receiver.events), "no address is told"
        assert len(receiver.events) == 41
    await calling.check()


async def test_one_that_was_away_hears_everything_once_it_is_back(calling: System):
    receiver = Receiver()
    async with receiving(calling, "away", receiver):
        receiver.status = 503
        ids = [await calling.send() for _ in range(5)]
        await until(lambda: receiver.calls >= 10, 30, "the first tries")
        assert (await state(calling, "away"))["failing"]["code"] == "http_503"
        receiver.status = 204
        for id_ in ids:
            await receiver.hears(id_)

        async def well() -> bool:
            return (await state(calling, "away"))["failing"] is None

        await until(well, 20, "it to be well again")


async def test_one_that_never_answers_holds_up_nobody_else(calling: System):
    silent = Receiver()
    silent.status = 0
    async with receiving(calling, "silent", silent), receiving(calling, "quick") as quick:
        ids = [await calling.send() for _ in range(40)]
        for id_ in ids:
            await quick.hears(id_)
        assert silent.calls < 80, "it has places of its own, and they are few"


async def test_one_that_is_away_for_days_is_disabled_and_the_others_are_told_as_ever(calling: System):
    url = f"http://127.0.0.1:{free_port()}"
    await put(calling, "/webhooks/lost", {"url": url})
    async with receiving(calling, "healthy") as healthy:

        async def disabled() -> bool:
            id_ = await calling.send()
            await healthy.hears(id_)
            return not (await state(calling, "lost"))["enabled"]

        await until(disabled, 60, "it to be disabled")
        assert (await state(calling, "lost"))["disabled_because"] == "failing"
        assert [one["why"] for one in calling.events("relay", "WebhookDisabled")][-1:] == ["failing"]

        async def nothing_owed() -> bool:
            return await calling.rows("SELECT 1 FROM callback") == []

        await until(nothing_owed, 20, "what it was not told to be dropped")
    async with receiving(calling, "lost") as found:
        id_ = await calling.send()
        await found.hears(id_)


async def test_one_that_is_gone_is_disabled_at_once(calling: System):
    gone = Receiver()
    gone.status = 410
    async with receiving(calling, "gone", gone):
        await calling.send()

        async def disabled() -> bool:
            return (await state(calling, "gone"))["disabled_because"] == "gone"

        await until(disabled, 20, "it to be disabled")


async def test_the_tenants_others_are_told_that_one_was_disabled(calling: System):
    gone = Receiver()
    gone.status = 410
    async with (
        receiving(calling, "watch", events=["webhook.disabled"]) as watch,
        receiving(calling, "statuses", events=["delivery.sent"]) as statuses,
        receiving(calling, "gone", gone),
    ):
        await calling.send()
        await until(lambda: watch.events, 30, "the news that one was disabled")
        (event,) = watch.events.values()
        assert event["type"] == "webhook.disabled"
        assert event["data"] == {"webhook": "gone", "disabled_because": "gone"}
        assert event["timestamp"] == (await state(calling, "gone"))["disabled_at"]
        assert {one["type"] for one in statuses.events.values()} <= {"delivery.sent"}


async def test_one_that_asks_for_a_pause_is_not_called_meanwhile_and_then_hears_everything(calling: System):
    busy = Receiver()
    busy.status, busy.headers = 429, "Retry-After: 6\r\n"
    async with receiving(calling, "busy", busy):
        ids = [await calling.send() for _ in range(10)]
        await until(lambda: busy.refused_at_s, 30, "the first call")
        for id_ in ids:
            assert (await calling.becomes(id_, "delivered"))["status"] == "delivered"
        busy.status = 204
        for id_ in ids:
            await busy.hears(id_, 60)
    after_s = [called - refused for refused in busy.refused_at_s for called in busy.called_at_s]
    assert not [one for one in after_s if 2.5 < one < 5.5], "but for calls that were under way when it asked"
    assert max(after_s) >= 5.5


async def test_what_a_relay_that_died_had_in_hand_is_told_by_the_next(calling: System):
    for point in ("after_callback_claim", "after_callback_post"):
        async with receiving(calling, "killed") as receiver:
            relay = calling.pids("relay")[0]
            calling.arm(point)
            ids = [await calling.send() for _ in range(3)]
            await calling.fired()
            await calling.replaced("relay", relay)
            for id_ in ids:
                await receiver.hears(id_, 40)


async def test_redirects_are_not_followed(calling: System):
    reached = Receiver()
    async with playing(reached) as inner:

        async def elsewhere(talk: Talk) -> None:
            while True:
                await talk.request()
                await talk.say(answer(302, headers=f"Location: {inner.origin}/\r\n"))

        async with playing(elsewhere) as outer:
            await put(calling, "/webhooks/redirecting", {"url": outer.origin})
            _, said, _ = await calling.ask("POST", "/webhooks/redirecting/test", {})
        await calling.ask("DELETE", "/webhooks/redirecting")
        assert said == {"told": False, "code": "http_302"}
        assert inner.seen == []


async def test_without_permission_no_inner_address_is_reached(tmp_path: Path):
    """Neither by a webhook nor by an account, whatever their names lead to."""
    inner = Receiver()
    strict = {**HURRIED, "TIDINGS_EGRESS_ALLOW": "[]"}
    async with playing(inner) as peer, running(tmp_path, strict) as system:
        for url in (peer.origin, peer.origin.replace("http:", "https:"), f"https://localhost:{peer.port}"):
            status, said, _ = await system.ask("PUT", "/webhooks/inner", {"url": url})
            assert (status, said["errors"][0]["pointer"]) == (422, "/url")
            body = {"kind": "sendgrid", "settings": {"api_key": "x", "url": url}}
            status, said, _ = await system.ask("PUT", "/providers/inner", body)
            assert (status, said["errors"][0]["pointer"]) == (422, "/settings")
        id_ = await system.send()
        assert (await system.becomes(id_, "delivered"))["status"] == "delivered", "the sandbox may be reached"
        assert peer.seen == []

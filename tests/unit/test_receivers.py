"""Who fails, for how long, and what follows: over several processes, and while nobody can be asked."""

from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from tidings.domain.callback import Disabled, Posted, Webhook
from tidings.domain.errors import Unavailable
from tidings.domain.events import StorageAway, WebhookDisabled
from tidings.domain.ids import TenantId
from tidings.pipeline.receivers import Receivers
from tidings.ports import Failing

WEBHOOK = Webhook(7, TenantId(1), "orders", "https://example.com", (), ())
OK, WRONG, GONE = Posted(ok=True, code="http_204"), Posted(ok=False, code="http_500"), Posted(False, "http_410", True)


class Time:
    """Implements ``ports.Clock``; moves when told."""

    def __init__(self) -> None:
        self.at = datetime(2026, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        return self.at

    def boottime_s(self) -> float:
        return self.at.timestamp()

    def pass_s(self, s: float) -> None:
        self.at += timedelta(seconds=s)


class Health:
    """Implements ``ports.WebhookHealth`` in memory, as the control database does it for all processes."""

    def __init__(self, clock: Time) -> None:
        self.clock = clock
        self.rows: dict[int, Failing] = {}
        self.disabled: list[str] = []
        self.away = False
        self.calls = 0

    def _asked(self) -> None:
        self.calls += 1
        if self.away:
            raise Unavailable

    async def failing(self) -> dict[int, Failing]:
        self._asked()
        return dict(self.rows)

    async def failed(self, webhook: int, code: str) -> None:
        self._asked()
        since = self.rows[webhook].since if webhook in self.rows else self.clock.now()
        self.rows[webhook] = Failing(since, code)

    async def recovered(self, webhook: int) -> None:
        self._asked()
        self.rows.pop(webhook, None)

    async def disable_failing(self, webhook: int, for_s: float) -> bool:
        self._asked()
        known = self.rows.get(webhook)
        done = known is not None and (self.clock.now() - known.since).total_seconds() >= for_s and not self.disabled
        self.disabled += ["failing"] * done
        return done

    async def disable_gone(self, webhook: int, url: str) -> bool:
        self._asked()
        done = url == WEBHOOK.url and not self.disabled
        self.disabled += ["gone"] * done
        return done

    async def untold(self) -> list[Disabled]:
        self._asked()
        return []

    async def told(self, disabled: Disabled) -> None:
        self._asked()


class World:
    """One control database, and two processes."""

    def __init__(self) -> None:
        self.clock, self.events = Time(), list[object]()
        self.health = Health(self.clock)
        self.one, self.other = (Receivers(self.health, self.clock, self.events.append, 100.0) for _ in range(2))


@pytest.fixture
def world() -> World:
    return World()


async def test_the_first_failure_is_noted_and_the_next_ones_cost_nothing(world: World):
    for _ in range(5):
        await world.one.heard(WEBHOOK, WRONG)
    assert world.health.rows[7].code == "http_500" and world.health.calls == 1
    assert 7 in world.one.failing


async def test_successes_cost_nothing_where_nothing_failed(world: World):
    for _ in range(5):
        await world.one.heard(WEBHOOK, OK)
    assert world.health.calls == 0


async def test_one_success_makes_it_well_again(world: World):
    await world.one.heard(WEBHOOK, WRONG)
    await world.one.heard(WEBHOOK, OK)
    assert world.health.rows == {} and world.one.failing == {}


async def test_it_is_disabled_once_it_has_failed_for_too_long_and_fails_again(world: World):
    await world.one.heard(WEBHOOK, WRONG)
    world.clock.pass_s(99)
    await world.one.heard(WEBHOOK, WRONG)
    assert world.health.disabled == []
    world.clock.pass_s(1)
    await world.one.heard(WEBHOOK, WRONG)
    await world.one.heard(WEBHOOK, WRONG)
    assert world.events == [WebhookDisabled(7, "failing")], "told once"


async def test_what_another_process_found_counts_here(world: World):
    await world.one.heard(WEBHOOK, WRONG)
    world.clock.pass_s(100)
    await world.other.look()
    await world.other.heard(WEBHOOK, WRONG)
    assert world.health.disabled == ["failing"]


async def test_a_success_that_another_process_does_not_know_of_still_counts(world: World):
    """It came after the failure that the other one has noted, before this one had heard of that."""
    await world.one.heard(WEBHOOK, WRONG)
    world.clock.pass_s(1)
    await world.other.heard(WEBHOOK, OK)
    assert 7 in world.health.rows
    await world.other.look()
    assert world.health.rows == {} and world.other.failing == {}


async def test_an_old_success_does_not_hide_a_later_failure(world: World):
    await world.other.heard(WEBHOOK, OK)
    world.clock.pass_s(1)
    await world.one.heard(WEBHOOK, WRONG)
    await world.other.look()
    assert 7 in world.health.rows and 7 in world.other.failing


async def test_one_that_is_gone_is_disabled_at_once(world: World):
    await world.one.heard(WEBHOOK, GONE)
    assert world.events == [WebhookDisabled(7, "gone")]


async def test_while_the_control_database_is_away_nobody_is_disabled_and_nothing_breaks(world: World):
    await world.one.heard(WEBHOOK, WRONG)
    world.health.away = True
    world.clock.pass_s(1000)
    for posted in (WRONG, GONE, OK):
        await world.one.heard(WEBHOOK, posted)
    assert world.health.disabled == []
    assert set(world.events) == {StorageAway("webhooks")}
    with pytest.raises(Unavailable):
        await world.one.look()


async def test_one_that_asks_for_a_pause_has_it_and_is_called_again_afterwards(world: World):
    await world.one.heard(WEBHOOK, Posted(ok=False, code="http_429", after_s=30.0))
    world.clock.pass_s(29)
    assert world.one.rests(WEBHOOK)
    world.clock.pass_s(1)
    assert not world.one.rests(WEBHOOK)


async def test_a_pause_is_one_webhook_s_at_one_address(world: World):
    await world.one.heard(WEBHOOK, Posted(ok=False, code="http_503", after_s=30.0))
    assert not world.one.rests(replace(WEBHOOK, id=8))
    assert not world.one.rests(replace(WEBHOOK, url="https://new.example.com")), "the new one has not asked for it"
    await world.one.heard(WEBHOOK, OK)
    assert world.one.rests(WEBHOOK), "a call that was under way when it was asked for"

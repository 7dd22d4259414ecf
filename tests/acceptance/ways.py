"""A way through every provider of the sandbox, so that one test can put all of them to the same trouble at once."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from tests.acceptance.elsewhere import attempts, put
from tests.system import System, until

PATIENCE_S = 90.0
Story = Mapping[str, Any]
Stories = Mapping[str, Sequence[Story]]


class Way(msgspec.Struct, frozen=True):
    """``says`` are the codes that each of the sandbox's faults becomes. ``reports``: it tells that something was
    delivered; ``lists``: it can be asked what it took; ``http``: it has HTTP's statuses, and rests an account that it
    asks to slow down. A mail server puts off the one message, and a complete reply of its leaves no doubt."""

    channel: str
    says: Mapping[str, str]
    reports: bool = True
    lists: bool = False
    http: bool = True

    def codes(self, fault: str) -> set[str]:
        return set(self.says[fault].split())


_HTTP = {"down": "connect_refused", "error": "http_503", "rate_limit": "http_429", "unauthorized": "http_401"}
_MAIL = _HTTP | {"refuse": "http_400", "bad_address": "http_400"}
_TWILIO = {"error": "20503", "rate_limit": "20429", "unauthorized": "20003", "refuse": "21612", "bad_address": "21211"}
_WHATSAPP = {"error": "2", "rate_limit": "130429", "unauthorized": "190", "refuse": "132001", "bad_address": "131026"}
_SMTP = {
    "down": "connect_refused",
    "error": "smtp_421",
    "rate_limit": "smtp_450",
    "unauthorized": "smtp_530 smtp_535",
    "refuse": "smtp_550",
    "bad_address": "smtp_550",
}

WAYS = {
    "sendgrid": Way("email", _MAIL),
    "mailgun": Way("email", _MAIL, lists=True),
    "smtp": Way("email", _SMTP, reports=False, http=False),
    "twilio": Way("sms", _HTTP | _TWILIO, lists=True),
    "fcm": Way("push", _HTTP | {"refuse": "http_400", "bad_address": "http_404"}, reports=False),
    "whatsapp": Way("whatsapp", _HTTP | _WHATSAPP),
}
REPORTING = tuple(name for name, way in WAYS.items() if way.reports)
OVER_HTTP = tuple(name for name, way in WAYS.items() if way.http)


async def open_ways(system: System, spares: Mapping[str, str] | None = None) -> None:
    """Two categories for each provider: ``via-…`` and ``once-via-…``, whose doubts are rather lost than sent twice.
    They go by that provider alone, or after it by its spare one. Returns when all processes know: they look
    twice a second."""
    for name, way in WAYS.items():
        for category, policy in ((f"via-{name}", "at_least_once"), (f"once-via-{name}", "at_most_once")):
            body = {"class": "transactional", "channels": [way.channel], "in_doubt": policy}
            await put(system, f"/categories/{category}", body)
    for channel in {way.channel for way in WAYS.values()}:
        names = [name for name, way in WAYS.items() if way.channel == channel]
        rules = [
            {"category": f"{once}via-{name}", "providers": [name, *filter(None, [(spares or {}).get(name)])]}
            for name in names
            for once in ("", "once-")
        ]
        await put(system, f"/routes/{channel}", {"providers": names[:1], "rules": rules})
    await asyncio.sleep(1)


def wanted_by(system: System, name: str, *, once: bool = False, **more: Any) -> tuple[str, dict[str, Any]]:
    """A key and a body, to a telephone and a device of its own: what went there can be looked up."""
    key, body = system.wanted(category=f"{'once-' if once else ''}via-{name}", channels=[WAYS[name].channel], **more)
    number = body["data"]["order"]
    body["to"] |= {"phone": f"+1303555{int(number) % 10_000:04}", "push_tokens": [f"token-{number}"]}
    return key, body


async def send_by(system: System, name: str, **more: Any) -> str:
    return (await system.insist(*wanted_by(system, name, **more)))[0]


async def at_each(do: Callable[[str], Awaitable[Any]], names: Iterable[str] = WAYS) -> dict[str, Any]:
    """The same at all of them, side by side."""
    names = list(names)
    return dict(zip(names, await asyncio.gather(*map(do, names)), strict=True))


async def send_some(system: System, each: int, names: Iterable[str] = WAYS, **more: Any) -> Mapping[str, Sequence[str]]:
    """The ids of so many by each provider."""
    return await at_each(lambda name: asyncio.gather(*(send_by(system, name, **more) for _ in range(each))), names)


async def tried(
    system: System, ids: Mapping[str, Sequence[str]], enough: Callable[[Iterable[object]], bool] = any
) -> None:
    """Returns once each provider was called for any of them, or for ``all``."""

    async def called(name: str) -> bool:
        return enough([attempts(await system.get(id_)) for id_ in ids[name]])

    await at_each(lambda name: until(lambda: called(name), 60, f"calls at {name}"), ids)


async def ended(system: System, ids: Mapping[str, Sequence[str]], *statuses: str) -> Stories:
    """What became of them, once all have such a status and nothing is left to do."""

    async def those(name: str) -> None:
        for id_ in ids[name]:
            await system.becomes(id_, *statuses, timeout_s=PATIENCE_S)

    await at_each(those, ids)
    await system.settled()
    return {name: [await system.get(id_) for id_ in some] for name, some in ids.items()}


def tries(stories: Sequence[Story]) -> set[tuple[str, str]]:
    """All that was said, of all of them."""
    return {one for story in stories for one in attempts(story)}


def repeatable(stories: Sequence[Story]) -> set[bool]:
    """What they say of a possible duplicate."""
    return {story["deliveries"][0]["duplicate_possible"] for story in stories}

"""Templates rendered where they can do no harm: in a child of the worker, which is fed whole batches.

A template may loop, eat memory or crash the engine. Then the child dies, the item that was in progress is answered with
a fault, and the others are rendered in the next child. Only a child whose own CPU clock ran out convicts its item at
once; after any other end (the kernel short of memory, an operator's kill) the item has a second chance.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import msgspec

from tidings.domain.events import RendererKilled
from tidings.domain.notification import Payload
from tidings.domain.template import MARKUP, Fault, TemplateSource, assembled, content_for, every_part, flaws, parts_for
from tidings.ports import Emit, Rendered, RenderRequest
from tidings.runtime.quarantine import Quarantine
from tidings.runtime.renderer_link import End, Key, Link, RendererBroken, Shelf, Waits, start
from tidings.runtime.renderer_wire import Answer, Batch, Item, Limits, Part, Program

INLINE: Final = 0
_ORDER_ITEMS: Final = 200
_ORDER_CHARS: Final = 4_000_000
_ENDS_WITHOUT_CAUSE: Final = 3

Sources = Callable[[int], Awaitable[TemplateSource | None]]
"""The source of a template version, None when there is none."""


class RendererSettings(msgspec.Struct, frozen=True):
    """``strikes`` convictions of a version within ``quarantine_s`` refuse it for ``quarantine_s`` seconds. The child
    keeps the ``programs`` used last, up to ``programs_chars`` of source."""

    limits: Limits = Limits()
    waits: Waits = Waits()
    strikes: int = 2
    quarantine_s: float = 60.0
    programs: int = 1_000
    programs_chars: int = 8_000_000


DEFAULTS: Final = RendererSettings()


class Envelope(msgspec.Struct):
    """What the worker itself reads of a payload; its data is the child's to read."""

    reply_to: str | None = None


class Work(msgspec.Struct):
    """One batch on its way: what was asked, what is answered, by place, and what is left."""

    asked: Sequence[RenderRequest]
    done: dict[int, Rendered]
    left: list[int]
    suspects: set[int]
    ends_without_cause: int = 0


class ChildRenderer:
    """The port's implementation; one for each worker. ``start`` may be left out: the first batch starts the child.

    Raises RendererBroken when nothing at all can be rendered here, and what ``sources`` raises; then the batch can be
    given again. All else is a value.
    """

    def __init__(
        self,
        sources: Sources,
        emit: Emit,
        settings: RendererSettings = DEFAULTS,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sources = sources
        self._emit = emit
        self._settings = settings
        self._quarantine = Quarantine(settings.strikes, settings.quarantine_s, clock_s)
        self._turn = asyncio.Lock()
        self._link: Link | None = None
        self._shelf = self._empty_shelf()
        self._payloads = msgspec.json.Decoder(Payload)
        self._envelopes = msgspec.json.Decoder(Envelope)

    @property
    def pid(self) -> int | None:
        return self._link.pid if self._link and self._link.sound else None

    async def start(self) -> None:
        async with self._turn:
            await self._sound_link()

    async def close(self) -> None:
        async with self._turn:
            if self._link is not None:
                await self._link.end()
            self._link = None

    async def render(self, batch: Sequence[RenderRequest]) -> Sequence[Rendered]:
        """In the order of ``batch``, and as many."""
        inline = {place: self._inline(one) for place, one in enumerate(batch) if one.template_version == INLINE}
        work = Work(batch, inline, [place for place in range(len(batch)) if place not in inline], set())
        if work.left:
            async with self._turn:
                while work.left:
                    await self._advance(work)
        return [work.done[place] for place in range(len(batch))]

    async def check(self, source: TemplateSource) -> list[Fault]:
        """Compiles every part, overrides included; what is wrong, nothing when it can be saved."""
        parts = [Part(pointer, text, part in MARKUP) for pointer, part, text in every_part(source)]
        async with self._turn:
            for _ in range(_ENDS_WITHOUT_CAUSE):
                faults, end = await (await self._sound_link()).check(parts, self._settings.waits.item_s)
                if end is None:
                    return [*flaws(source), *faults]
                self._gone(end)
                if end.place is not None:
                    return [*flaws(source), Fault(parts[end.place].name, f"cannot be compiled: {end.why}")]
        raise RendererBroken("the template renderer does not stay")

    async def _advance(self, work: Work) -> None:
        """One order, and what came of it."""
        link = await self._sound_link()
        places, order = await self._order(work)
        if places:
            answers, end = await link.render(order, self._settings.waits.item_s)
            for place, answer in zip(places, answers, strict=False):
                work.done[place] = self._rendered(work.asked[place], answer)
            if end is not None:
                self._gone(end)
                self._judge(work, places, len(answers), end)
        work.left = [place for place in work.left if place not in work.done]

    async def _order(self, work: Work) -> tuple[list[int], Batch]:
        """The next items and the programs they need. Those that need no child are answered right here."""
        window = [place for place in work.left[:_ORDER_ITEMS] if not self._refused(work, place)]
        sources = await self._unknown({_key(work.asked[place]) for place in window})
        places: list[int] = []
        order = Batch([], [], [])
        chars = 0
        for place in window:
            number, learnt = self._number(_key(work.asked[place]), sources, order)
            if number is None:
                work.done[place] = Rendered(fault="this version of the template does not exist")
                continue
            places.append(place)
            order.items.append(Item(number, work.asked[place].payload))
            chars += learnt + len(work.asked[place].payload)
            if chars > _ORDER_CHARS:
                break
        order.forget.extend(self._shelf.trim(kept=len({item.program for item in order.items})))
        return places, order

    def _refused(self, work: Work, place: int) -> bool:
        wait_s = self._quarantine.remaining_s(work.asked[place].template_version)
        if wait_s > 0:
            fault = "quarantined: this template has just brought the renderer down"
            work.done[place] = Rendered(fault=fault, retry_after_s=wait_s)
        return wait_s > 0

    async def _unknown(self, keys: set[Key]) -> dict[int, TemplateSource | None]:
        versions = list({version for version, channel in keys if (version, channel) not in self._shelf})
        return dict(zip(versions, await asyncio.gather(*map(self._sources, versions)), strict=True))

    def _number(self, key: Key, sources: dict[int, TemplateSource | None], order: Batch) -> tuple[int | None, int]:
        """What the child calls this program, and how many characters it has to learn for it."""
        number = self._shelf.number(key)
        if number is not None:
            return number, 0
        version, channel = key
        source = sources[version]
        if source is None:
            return None, 0
        parts = [Part(name, text, name in MARKUP) for name, text in parts_for(source, channel).items()]
        chars = sum(len(part.text) for part in parts)
        number = self._shelf.put(key, chars)
        order.learn.append(Program(number, parts))
        return number, chars

    def _judge(self, work: Work, places: Sequence[int], answered: int, end: End) -> None:
        """Who was it? Nobody when the child had finished what it had begun."""
        if end.place is None or end.place < answered:
            work.ends_without_cause += answered == 0
            if work.ends_without_cause >= _ENDS_WITHOUT_CAUSE:
                raise RendererBroken(f"the template renderer does not stay: {end}")
            return
        suspect = places[end.place]
        if end.certain or suspect in work.suspects:
            self._quarantine.strike(work.asked[suspect].template_version)
            work.done[suspect] = Rendered(fault=f"the template brought the renderer down: {end.why}")
        work.suspects.add(suspect)

    async def _sound_link(self) -> Link:
        if self._link is not None and self._link.sound:
            return self._link
        if self._link is not None:
            await self._link.end()
        self._link = None
        self._shelf = self._empty_shelf()
        self._link = await start(self._settings.limits, self._settings.waits)
        return self._link

    def _gone(self, end: End) -> None:
        self._link = None
        self._emit(RendererKilled(reason=end.reason))

    def _empty_shelf(self) -> Shelf:
        return Shelf(self._settings.programs, self._settings.programs_chars)

    def _inline(self, request: RenderRequest) -> Rendered:
        try:
            payload = self._payloads.decode(request.payload)
        except msgspec.MsgspecError as error:
            return Rendered(fault=f"the content cannot be read: {error}")
        if payload.content is None:
            return Rendered(fault="there is neither a template nor content")
        return Rendered(content=content_for(payload.content, request.channel), reply_to=payload.reply_to)

    def _rendered(self, request: RenderRequest, answer: Answer) -> Rendered:
        if isinstance(answer, str):
            return Rendered(fault=answer)
        return Rendered(
            content=assembled(answer, request.channel), reply_to=self._envelopes.decode(request.payload).reply_to
        )


def _key(request: RenderRequest) -> Key:
    return request.template_version, request.channel

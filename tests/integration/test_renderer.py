"""Hostile templates, a child that dies, and what becomes of the others in the batch: with the real child throughout."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
from hostile_templates import HOSTILE, Hostile

from tidings.domain.events import RendererKilled
from tidings.domain.lanes import Channel
from tidings.domain.notification import Content, Payload
from tidings.domain.template import Fault, TemplateSource
from tidings.ports import Rendered, RenderRequest
from tidings.runtime.renderer import DEFAULTS, ChildRenderer, RendererSettings
from tidings.runtime.renderer_link import RendererBroken, Waits
from tidings.runtime.renderer_wire import Limits

MATE = 1
MATE_SOURCE = TemplateSource(subject="Order {{ n }}", html="<b>{{ who }}</b>")
BOMB = TemplateSource(subject="{% for i in range(99999) %}{{ ('x'*50000000)|length }}{% endfor %}")
QUICK = RendererSettings(limits=Limits(cpu_s=0.2))


class Bench:
    """A renderer with its templates in a dictionary; it remembers what was fetched and what was emitted."""

    def __init__(self, settings: RendererSettings, clock_s: Callable[[], float]) -> None:
        self.templates: dict[int, TemplateSource] = {MATE: MATE_SOURCE}
        self.fetched: list[int] = []
        self.emitted: list[object] = []
        self.renderer = ChildRenderer(self._source, self.emitted.append, settings, clock_s)

    async def _source(self, version: int) -> TemplateSource | None:
        self.fetched.append(version)
        return self.templates.get(version)

    def add(self, source: TemplateSource) -> int:
        version = max(self.templates) + 1
        self.templates[version] = source
        return version

    async def render(self, *batch: RenderRequest) -> Sequence[Rendered]:
        return await self.renderer.render(batch)

    async def subject(self, template: str, **data: Any) -> Rendered:
        (rendered,) = await self.render(ask(self.add(TemplateSource(subject=template)), data))
        return rendered

    @property
    def pid(self) -> int:
        assert self.renderer.pid is not None
        return self.renderer.pid

    @property
    def kills(self) -> list[str]:
        return [event.reason for event in self.emitted if isinstance(event, RendererKilled)]


@asynccontextmanager
async def running(
    settings: RendererSettings = QUICK, clock_s: Callable[[], float] = time.monotonic
) -> AsyncIterator[Bench]:
    bench = Bench(settings, clock_s)
    try:
        yield bench
    finally:
        await bench.renderer.close()


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with running() as made:
        yield made


def ask(version: int, data: dict[str, Any], channel: Channel = Channel.email) -> RenderRequest:
    return RenderRequest(channel, version, msgspec.json.encode(Payload(data=data)))


def mate(n: int) -> RenderRequest:
    return ask(MATE, {"n": n, "who": f"<{n}>"})


def mates_content(n: int) -> Rendered:
    return Rendered(Content(subject=f"Order {n}", html=f"<b>&lt;{n}&gt;</b>"))


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.005)


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda one: one.name)
async def test_a_hostile_template_harms_nobody_but_itself(bench: Bench, hostile: Hostile) -> None:
    version = bench.add(TemplateSource(subject=hostile.template))
    before_bytes = psutil.Process().memory_info().rss

    *before, it, after = await bench.render(mate(1), mate(2), ask(version, hostile.data), mate(3))

    assert [*before, after] == [mates_content(1), mates_content(2), mates_content(3)]
    if hostile.ends is not None:
        assert hostile.ends in (it.fault or "")
    if hostile.shows is not None:
        assert it == Rendered(Content(subject=hostile.shows))
    assert (it.content is None) != (it.fault is None)
    assert len(it.fault or "") < 400 and (it.fault or "").isprintable()
    assert psutil.Process().memory_info().rss - before_bytes < 64 * 1024 * 1024
    assert psutil.Process(bench.pid).memory_info().vms <= QUICK.limits.memory_bytes


async def test_a_batch_of_nothing_but_trouble_leaves_every_mate_whole(bench: Bench) -> None:
    batch: list[RenderRequest] = []
    for n, hostile in enumerate(HOSTILE):
        batch += [ask(bench.add(TemplateSource(subject=hostile.template)), hostile.data), mate(n)]

    rendered = await bench.render(*batch)

    assert list(rendered[1::2]) == [mates_content(n) for n in range(len(HOSTILE))]
    assert len(bench.kills) >= 5


async def test_a_template_that_never_ends_costs_its_batch_less_than_two_seconds() -> None:
    async with running(DEFAULTS) as bench:
        await bench.renderer.start()
        version = bench.add(BOMB)
        began_s, began_cpu_s = time.monotonic(), psutil.cpu_times()

        rendered = await bench.render(mate(1), ask(version, {}), *map(mate, range(2, 100)))

        took_s = time.monotonic() - began_s
        assert "too much CPU" in (rendered[1].fault or "")
        assert [rendered[0], *rendered[2:]] == [mates_content(n) for n in range(1, 100)]
        assert bench.kills == ["cpu"]
        assert took_s < 2.0 or psutil.cpu_times().user - began_cpu_s.user > 1.5 * took_s, "and nobody else was busy"


async def test_a_child_killed_in_the_middle_of_a_batch_loses_nothing() -> None:
    async with running(RendererSettings(limits=Limits(cpu_s=30, steps=100_000_000))) as bench:
        slow = bench.add(
            TemplateSource(subject="{% for i in range(99999) %}{% for j in x %}{% endfor %}{% endfor %}done")
        )
        await bench.renderer.start()
        first = bench.pid
        used_s = cpu_s(first)

        rendering = asyncio.create_task(bench.render(mate(1), ask(slow, {"x": list(range(30))}), mate(2)))
        await until(lambda: cpu_s(first) > used_s + 0.02)
        os.kill(first, signal.SIGKILL)
        rendered = await rendering

        assert rendered == [mates_content(1), Rendered(Content(subject="done")), mates_content(2)]
        assert bench.kills == ["killed"]
        assert bench.pid != first


async def test_a_child_killed_between_batches_is_replaced_without_blame(bench: Bench) -> None:
    await bench.renderer.start()
    for n in range(3):
        os.kill(bench.pid, signal.SIGKILL)
        assert await bench.render(mate(n)) == [mates_content(n)]
    assert bench.kills == ["killed"] * 3


async def test_a_child_that_is_stopped_is_given_up_and_its_item_rendered_elsewhere() -> None:
    async with running(RendererSettings(waits=Waits(item_s=0.2))) as bench:
        await bench.renderer.start()
        os.kill(bench.pid, signal.SIGSTOP)

        assert await bench.render(mate(1), mate(2)) == [mates_content(1), mates_content(2)]
        assert bench.kills == ["wall"]


async def test_a_pause_of_worker_and_child_together_convicts_nobody() -> None:
    program = [sys.executable, "-c", PAUSED]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        child = int(worker.stdout.readline())
        await until(lambda: cpu_s(child) > 0.15)
        for pid in (worker.pid, child):
            os.kill(pid, signal.SIGSTOP)
        await until(lambda: psutil.Process(child).status() == psutil.STATUS_STOPPED)
        await asyncio.sleep(1.2)  # the pause itself is what is tested: longer than the wall limit of one second
        for pid in (child, worker.pid):  # the worker may give it up, and then it is gone
            os.kill(pid, signal.SIGCONT)
        assert worker.stdout.readline() == "done\n"


async def test_a_template_that_keeps_killing_is_refused_for_a_while_untried() -> None:
    now_s = [1000.0]
    async with running(RendererSettings(limits=Limits(cpu_s=0.1)), lambda: now_s[0]) as bench:
        version = bench.add(BOMB)

        rendered = await bench.render(*[ask(version, {})] * 5, mate(1))
        assert bench.kills == ["cpu", "cpu"]
        assert ["quarantined" in (one.fault or "") for one in rendered] == [False, False, True, True, True, False]
        assert [one.retry_after_s for one in rendered] == [None, None, 60.0, 60.0, 60.0, None]
        assert rendered[5] == mates_content(1)

        now_s[0] += 59.0
        (again,) = await bench.render(ask(version, {}))
        assert again.retry_after_s == 1.0 and len(bench.kills) == 2

        now_s[0] += 2.0
        await bench.render(ask(version, {}))
        assert len(bench.kills) == 3


async def test_a_missing_variable_is_named_with_its_part_and_line(bench: Bench) -> None:
    version = bench.add(TemplateSource(subject="fine", text="\n\nHello {{ user.first_name }}"))
    (rendered,) = await bench.render(ask(version, {"user": {}}))
    assert rendered == Rendered(fault="text, line 3: `user.first_name` is undefined")


async def test_markup_alone_is_escaped(bench: Bench) -> None:
    x = "{{ x }}"
    version = bench.add(TemplateSource(subject=x, text=x, html=x, title=x, body=x))
    mail, push = await bench.render(ask(version, {"x": "<&>"}), ask(version, {"x": "<&>"}, Channel.push))
    assert mail.content == Content(subject="<&>", text="<&>", html="&lt;&amp;&gt;")
    assert push.content == Content(title="<&>", body="<&>")


async def test_a_channel_has_its_own_words_and_no_other_channels_faults(bench: Bench) -> None:
    source = TemplateSource(subject="s", text="{{ n }}", title="{{ nope }}", channels={"sms": {"text": "sms {{ n }}"}})
    version = bench.add(source)
    mail, sms, push = await bench.render(
        *(ask(version, {"n": 1}, one) for one in (Channel.email, Channel.sms, Channel.push))
    )
    assert mail.content == Content(subject="s", text="1")
    assert sms.content == Content(text="sms 1")
    assert push.fault == "title, line 1: `nope` is undefined"


async def test_inline_content_is_used_as_it_is_and_needs_no_child(bench: Bench) -> None:
    content = Content(subject="{{ 7*7 }}", text="{% if %}", title="t", channels={"email": {"html": "<b>{{ x }}</b>"}})
    payload = msgspec.json.encode(Payload(content=content, reply_to="shop@example.com"))
    (rendered,) = await bench.render(RenderRequest(Channel.email, 0, payload))
    assert rendered.content == Content(subject="{{ 7*7 }}", text="{% if %}", html="<b>{{ x }}</b>")
    assert rendered.reply_to == "shop@example.com"
    assert bench.renderer.pid is None


async def test_the_reply_address_travels_with_a_template_too(bench: Bench) -> None:
    payload = msgspec.json.encode(Payload(data={"n": 1, "who": "x"}, reply_to="shop@example.com"))
    (rendered,) = await bench.render(RenderRequest(Channel.email, MATE, payload))
    assert rendered.reply_to == "shop@example.com"


async def test_what_cannot_be_read_or_found_is_the_items_own_fault(bench: Bench) -> None:
    garbled, gone_, nothing, fine = await bench.render(
        RenderRequest(Channel.email, MATE, b'{"data": {'), ask(77, {}), RenderRequest(Channel.email, 0, b"{}"), mate(1)
    )
    assert (garbled.fault or "").startswith("data: ")
    assert gone_.fault == "this version of the template does not exist"
    assert nothing.fault == "there is neither a template nor content"
    assert fine == mates_content(1)


async def test_a_source_is_fetched_once_for_each_child(bench: Bench) -> None:
    for n in range(3):
        await bench.render(mate(n), mate(n))
    assert bench.fetched == [MATE]

    os.kill(bench.pid, signal.SIGKILL)
    await bench.render(mate(1))
    assert bench.fetched == [MATE, MATE]


async def test_a_source_that_cannot_be_fetched_fails_the_batch_and_not_the_next() -> None:
    failing = [True]

    async def source(_version: int) -> TemplateSource:
        if failing[0]:
            raise ConnectionError("the control database is away")
        return MATE_SOURCE

    renderer = ChildRenderer(source, lambda _: None)
    try:
        with pytest.raises(ConnectionError):
            await renderer.render([mate(1)])
        failing[0] = False
        assert await renderer.render([mate(1)]) == [mates_content(1)]
    finally:
        await renderer.close()


async def test_the_child_keeps_the_templates_used_last_and_learns_forgotten_ones_again() -> None:
    async with running(RendererSettings(programs=2)) as bench:
        versions = [bench.add(TemplateSource(subject=f"{n} {{{{ x }}}}")) for n in range(4)]

        for version in (versions[0], versions[1], versions[0], versions[2]):
            await bench.render(ask(version, {"x": "x"}))
        rendered = await bench.render(*(ask(version, {"x": "x"}) for version in (versions[0], versions[1])))
        assert [one.content for one in rendered] == [Content(subject="0 x"), Content(subject="1 x")]
        assert bench.fetched == [versions[0], versions[1], versions[2], versions[1]]

        rendered = await bench.render(*(ask(version, {"x": "x"}) for version in versions))
        assert [one.content for one in rendered] == [Content(subject=f"{n} x") for n in range(4)]


async def test_batches_larger_than_one_order_come_back_whole_and_in_order(bench: Bench) -> None:
    version = bench.add(TemplateSource(subject="{{ n }}{{ pad|length }}"))
    batch = [ask(version, {"n": n, "pad": "x" * 50_000}) for n in range(450)]
    rendered = await bench.render(*batch)
    assert [one.content for one in rendered] == [Content(subject=f"{n}50000") for n in range(450)]


async def test_batches_at_the_same_time_do_not_mix(bench: Bench) -> None:
    batches = await asyncio.gather(*(bench.render(*map(mate, range(at, at + 30))) for at in range(0, 300, 30)))
    assert [one for batch in batches for one in batch] == [mates_content(n) for n in range(300)]


async def test_a_caller_who_is_cancelled_leaves_a_renderer_that_works() -> None:
    async with running(RendererSettings(limits=Limits(cpu_s=5.0))) as bench:
        version = bench.add(BOMB)
        await bench.renderer.start()
        first = bench.pid
        used_s = cpu_s(first)
        rendering = asyncio.create_task(bench.render(ask(version, {})))
        await until(lambda: cpu_s(first) > used_s)
        rendering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await rendering

        assert await bench.render(mate(1)) == [mates_content(1)]
        assert gone(first)


async def test_a_template_is_checked_with_the_place_of_every_fault(bench: Bench) -> None:
    source = TemplateSource(
        subject="{{ a",
        html="fine {{ x }}",
        channels={"sms": {"text": "\n{% if %}"}, "pigeon": {"text": "x"}, "push": {"titel": "x"}},
    )
    assert await bench.renderer.check(MATE_SOURCE) == []
    assert await bench.renderer.check(TemplateSource()) == [Fault("", "the template has no parts")]
    assert [(one.part, one.line) for one in await bench.renderer.check(source)] == [
        ("/channels/pigeon", None),
        ("/channels/push/titel", None),
        ("/subject", 1),
        ("/channels/sms/text", 2),
    ]


async def test_checking_a_template_that_crashes_the_compiler_is_a_fault_of_that_part(bench: Bench) -> None:
    source = TemplateSource(subject="fine", text="{{ " + "-" * 200_000 + "1 }}")
    (fault,) = await bench.renderer.check(source)
    assert fault.part == "/text" and "cannot be compiled" in fault.message
    assert await bench.renderer.check(MATE_SOURCE) == []


async def test_the_child_has_nothing_worth_reaching(bench: Bench) -> None:
    await bench.render(mate(1))
    proc = Path("/proc") / str(bench.pid)
    limits = {line[:26].strip(): line[26:].split()[:2] for line in (proc / "limits").read_text().splitlines()}

    assert (proc / "environ").read_bytes() == b""
    assert "tidings renderer" in (proc / "cmdline").read_text().replace("\0", " ")
    opened = [str(one.readlink()) for one in (proc / "fd").iterdir()]
    assert sorted(one.split(":")[0] for one in opened) == ["/memfd", "/memfd", "/memfd", "socket"]
    assert limits["Max open files"] == ["0", "0"]
    assert limits["Max processes"] == ["0", "0"]
    assert limits["Max core file size"] == ["0", "0"]
    assert limits["Max address space"] == [str(QUICK.limits.memory_bytes)] * 2


async def test_the_child_does_not_outlive_a_worker_that_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", ORPHANED], stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        child = int(worker.stdout.readline())
        await until(lambda: cpu_s(child) > 0.2)
        worker.kill()
        await until(lambda: gone(child))


async def test_signals_for_the_worker_do_not_end_the_child(bench: Bench) -> None:
    await bench.render(mate(1))
    first = bench.pid
    for signal_ in (signal.SIGINT, signal.SIGTERM):
        os.kill(first, signal_)
    assert await bench.render(mate(2)) == [mates_content(2)]
    assert bench.pid == first


async def test_a_renderer_that_cannot_start_says_so_and_why() -> None:
    async with running(RendererSettings(limits=Limits(steps=1))) as bench:
        for _ in range(2):
            with pytest.raises(RendererBroken, match=r"does not start.*too many steps"):
                await bench.render(mate(1))
        assert bench.kills == []


def cpu_s(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


_WORKER = """
import asyncio, msgspec
from tidings.domain.lanes import Channel
from tidings.domain.template import TemplateSource
from tidings.ports import RenderRequest
from tidings.runtime.renderer import ChildRenderer, RendererSettings
from tidings.runtime.renderer_link import Waits
from tidings.runtime.renderer_wire import Limits

async def source(version):
    return TemplateSource(subject=TEMPLATE)

async def main():
    limits = Limits(cpu_s=CPU_S, steps=1_000_000_000)
    renderer = ChildRenderer(source, lambda _: None, RendererSettings(limits=limits, waits=Waits(item_s=WALL_S)))
    await renderer.start()
    print(renderer.pid, flush=True)
    (rendered,) = await renderer.render([RenderRequest(Channel.email, 1, b"{}")])
    print(rendered.content.subject if rendered.content else rendered.fault, flush=True)
    await renderer.close()

asyncio.run(main())
"""
_LOOP = "{% for i in range(TIMES) %}{% for j in range(100) %}{% endfor %}{% endfor %}done"


def _worker(times: int, cpu_s: float, wall_s: float) -> str:
    constants = f"TEMPLATE = {_LOOP.replace('TIMES', str(times))!r}; CPU_S = {cpu_s}; WALL_S = {wall_s}"
    return constants + _WORKER


ORPHANED = _worker(99_999, 30.0, 30.0)
PAUSED = _worker(50_000, 3.0, 1.0)

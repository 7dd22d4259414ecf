"""The program in which templates run: started by ``renderer``, it trusts nothing that it is given.

Whatever a template does, it does here, in a place with nothing worth reaching: no descriptor but one socket, no
environment, little memory, and a CPU clock that kills it. Templates do not see each other, whoever wrote them.
"""

import mmap
import os
import re
import resource
import signal
import sys
import time
from typing import Any, BinaryIO, Final

import msgspec
from minijinja import Environment, TemplateError

from tidings.runtime.renderer_wire import (
    LENGTH,
    OUT_OF_MEMORY,
    PROGRESS_BYTES,
    PROGRESS_FD,
    SOCKET_FD,
    Answer,
    Batch,
    Check,
    Item,
    Limits,
    Order,
    Part,
    Program,
    frame,
)

_FAULT_CHARS: Final = 300
_STDERR_BYTES: Final = 65_536
_FLUSH_AFTER_S: Final = 0.005
_FLUSH_AT_CHARS: Final = 65_536
_NOWHERE: Final = "\0"
_METHOD_PRINTED: Final = re.compile(r"(?:<|&lt;)built-in method (\w+) of \w+ object at 0x")
_PROOF: Final = Program(0, [Part("proof", "{{ proof }}", markup=True), Part("proof", "{{ proof.of }}", markup=False)])


class Data(msgspec.Struct):
    """The part of a payload that templates see."""

    data: dict[str, Any] = {}


def main() -> None:
    limits = msgspec.json.decode(sys.argv[1], type=Limits)
    with open(SOCKET_FD, "rb") as orders, open(SOCKET_FD, "wb", closefd=False) as answers:  # noqa: PTH123 descriptors
        page = memoryview(mmap.mmap(PROGRESS_FD, PROGRESS_BYTES)).cast("I")
        engine = Engine(limits)
        engine.prove()  # loads what is loaded at first use, while files can still be opened
        confine(limits)
        engine.prove()
        Loop(engine, answers, page, limits.cpu_s).run(orders)


def confine(limits: Limits) -> None:
    """From here on: no new descriptor, no child, no file, no core, and only so much memory."""
    for which, most in (
        (resource.RLIMIT_AS, limits.memory_bytes),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, _STDERR_BYTES),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_NOFILE, 0),
    ):
        resource.setrlimit(which, (most, most))
    for ours in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ours, signal.SIG_IGN)  # the worker decides when it no longer needs us
    signal.signal(signal.SIGPROF, signal.SIG_DFL)


class Loop:
    """Answers orders until the worker hangs up."""

    def __init__(self, engine: "Engine", answers: BinaryIO, page: "memoryview[int]", cpu_s: float) -> None:
        self._engine = engine
        self._answers = answers
        self._page = page
        self._cpu_s = cpu_s

    def run(self, orders: BinaryIO) -> None:
        self._send([])
        decoder = msgspec.msgpack.Decoder(Order)
        while prefix := orders.read(LENGTH.size):
            match decoder.decode(orders.read(*LENGTH.unpack(prefix))):
                case Batch() as batch:
                    self._render(batch)
                case Check(parts):
                    self._check(parts)

    def _render(self, batch: Batch) -> None:
        self._engine.change(batch)
        done: list[Answer] = []
        chars, flushed_at_s = 0, time.monotonic()
        for place, item in enumerate(batch.items):
            self._begin(place)
            answer = self._engine.render(item)
            done.append(answer)
            chars += sum(map(len, answer.values())) if isinstance(answer, dict) else len(answer)
            if chars > _FLUSH_AT_CHARS or time.monotonic() - flushed_at_s > _FLUSH_AFTER_S:
                self._send(done)
                done, chars, flushed_at_s = [], 0, time.monotonic()
        self._send(done)

    def _check(self, parts: list[Part]) -> None:
        faults: list[tuple[str, str, int | None]] = []
        for place, part in enumerate(parts):
            self._begin(place)
            faults += self._engine.check(part)
        self._send(faults)

    def _begin(self, place: int) -> None:
        """Says which item dies if we do, and winds up the clock for it. Its signal is left to the kernel, which needs
        no interpreter to be listening; it counts CPU, so that a loaded or paused machine convicts nobody."""
        self._page[0] = place
        signal.setitimer(signal.ITIMER_PROF, self._cpu_s)

    def _send(self, answer: list[Any]) -> None:
        self._answers.write(frame(answer))
        self._answers.flush()


class Engine:
    """Compiles and renders. A program is compiled when an item first needs it, so that its cost is that item's."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._programs: dict[int, list[tuple[str, Part]]] = {}
        self._compiled: set[str] = set()
        self._payloads = msgspec.json.Decoder(Data)
        self._environment = environment(limits.steps)

    def change(self, batch: Batch) -> None:
        for number in batch.forget:
            for name, _ in self._programs.pop(number):
                self._environment.remove_template(name)
                self._compiled.discard(name)
        for program in batch.learn:
            self._programs[program.number] = [(named(program.number, part), part) for part in program.parts]

    def render(self, item: Item) -> Answer:
        """The parts, or what went wrong with the first that could not be made."""
        at = "data"
        try:
            data = self._payloads.decode(item.payload).data
            done = {}
            for name, part in self._programs[item.program]:
                at = part.name
                done[at] = self._render(name, part, data)
            return done
        except MemoryError:
            os._exit(OUT_OF_MEMORY)
        except Exception as error:  # the top of the loop: a template can make the engine raise nearly anything
            line, message = explained(error)
            return f"{at}: {message}" if line is None else f"{at}, line {line}: {message}"

    def check(self, part: Part) -> list[tuple[str, str, int | None]]:
        try:
            self._environment.add_template("check", part.text)
            self._environment.remove_template("check")
        except MemoryError:
            os._exit(OUT_OF_MEMORY)
        except Exception as error:  # the top of the loop
            line, message = explained(error)
            return [(part.name, message, line)]
        return []

    def prove(self) -> None:
        """Renders once under the limits, well and badly: a child that cannot do even that must not start, or every
        template would seem to be at fault."""
        self.change(Batch([], [_PROOF], []))
        answer = self.render(Item(0, b'{"data": {"proof": "<>"}}'))
        if answer != "proof, line 1: `proof.of` is undefined":
            raise RuntimeError(f"the template engine does not work here: {answer}")
        self.change(Batch([0], [], []))

    def _render(self, name: str, part: Part, data: dict[str, Any]) -> str:
        if name not in self._compiled:
            self._environment.add_template(name, part.text)
            self._compiled.add(name)
        text: str = self._environment.render_template(name, **data)
        most = self._limits.part_bytes
        if len(text) > most // 4 and len(text.encode()) > most:
            raise ValueError(f"longer than {most} bytes")
        if "built-in method " in text and (printed := _METHOD_PRINTED.search(text)):
            raise ValueError(f"`{printed[1]}` is undefined (to call the method, write `{printed[1]}()`)")
        return text


def environment(steps: int) -> Environment:
    """Every name a template may include leads nowhere: it would be another tenant's. Without ``debug`` in its
    settings the engine does not say which variable was missing; the global of that name prints its insides."""
    made = Environment(
        undefined_behavior="strict", debug=True, fuel=steps, path_join_callback=lambda _name, _parent: _NOWHERE
    )
    made.remove_global("debug")
    return made


def named(number: int, part: Part) -> str:
    """The engine escapes what its name says is HTML."""
    return f"{number}/{part.name}.{'html' if part.markup else 'txt'}"


def explained(error: Exception) -> tuple[int | None, str]:
    """The line and a short sentence on one line, fit for a log."""
    line = error.line if isinstance(error, TemplateError) else None
    if isinstance(error, TemplateError):
        said = error.detail or _KINDS.get(error.kind) or error.message.partition(" (in ")[0]
    else:
        said = f"{error}" if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
    shown = "".join(char if char.isprintable() else " " for char in said[:_FAULT_CHARS])
    return line, " ".join(shown.split())


_KINDS: Final = {"OutOfFuel": "the template takes too many steps"}


if __name__ == "__main__":
    main()

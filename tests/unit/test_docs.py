"""The documentation says what the code does: names, tables, links."""

import ast
import json
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from itertools import dropwhile, takewhile
from pathlib import Path
from typing import Any, cast

import pytest

from tidings.bench.ledger import Report
from tidings.bench.scenarios import Outcome, Wish
from tidings.bench.suite import Bench, Result, delivering
from tidings.cli.app import COMMANDS
from tidings.domain.delivery import Mark, State, Status
from tidings.domain.lanes import DEAD, IN_DOUBT, lane_name, sending_lanes
from tidings.domain.outcome import Fenced, Refused, Sent, TryLater, TryNext, Unsure
from tidings.domain.routing import Why
from tidings.providers import sendgrid_events, twilio_webhooks
from tidings.providers.wire import _WHY_NOT, NoAnswer, NotSent, Wire
from tidings.runtime.telemetry import ROWS, Adds, Meters, Observes, Shows
from tidings.settings import NOT_SETTINGS, _defaults, _flat, env_name
from tidings.storage.sql import load_statements
from tidings.web.broad import build_broad
from tidings.web.edge import Edge

CHECKOUT = Path(__file__).resolve().parents[2]
SOURCE = CHECKOUT / "src" / "tidings"
DOCS = CHECKOUT / "docs"
PAGES = sorted([*CHECKOUT.glob("*.md"), *DOCS.rglob("*.md"), *(CHECKOUT / "bench").rglob("*.md")])
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CHECKOUT)))

FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FUNCTION = re.compile(r"`(tidings(?:\.\w+)+):(\w+(?:\.\w+)*)`")
WORD = re.compile(r"`(\w+)`")
BARS = re.compile(r"(?<!\\)\|")


def prose(page: Path) -> str:
    """A page without its code blocks."""
    return FENCE.sub("", page.read_text())


def section(page: str, title: str) -> str:
    """What stands under a heading, up to the next of the same or a higher level."""
    lines = (DOCS / page).read_text().splitlines()
    start = next(n for n, line in enumerate(lines) if re.fullmatch(rf"#+ {re.escape(title)}", line))
    level = len(lines[start]) - len(lines[start].lstrip("#"))
    rest = lines[start + 1 :]
    ends = (n for n, line in enumerate(rest) if re.match(rf"#{{1,{level}}} ", line))
    return "\n".join(rest[: next(ends, len(rest))])


def table(text: str) -> list[list[str]]:
    """The rows of the first table, without its head."""
    lines = dropwhile(lambda line: not line.startswith("|"), text.splitlines())
    rows = list(takewhile(lambda line: line.startswith("|"), lines))
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows[2:]]


def words(cells: Iterator[str]) -> list[str]:
    return [word for cell in cells for word in WORD.findall(cell)]


# links and names


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@every_page
def test_every_link_leads_somewhere(page):
    for target in LINK.findall(prose(page)):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        to = (page.parent / path).resolve() if path else page
        assert to.exists(), f"{target} leads nowhere"
        assert not anchor or anchor in anchors(to), f"{to.name} has no heading for #{anchor}"


def test_every_page_can_be_reached_from_the_readme():
    seen, new = set[Path](), {CHECKOUT / "README.md"}
    while new:
        page = new.pop()
        seen.add(page)
        linked = {(page.parent / target.partition("#")[0]).resolve() for target in LINK.findall(prose(page))}
        new |= {to for to in linked if to.suffix == ".md"} - seen
    assert set(PAGES) <= seen


@every_page
def test_every_function_that_is_named_exists(page):
    for module, path in FUNCTION.findall(page.read_text()):
        found: Any = import_module(module)
        for name in path.split("."):
            assert hasattr(found, name), f"{module}:{path} does not exist"
            found = getattr(found, name)


def test_the_journey_names_its_functions():
    assert len(FUNCTION.findall((DOCS / "journey.md").read_text())) > 40


@every_page
def test_every_command_that_is_named_exists(page):
    code = "\n".join(re.findall(r"`[^`\n]+`", prose(page)) + FENCE.findall(page.read_text()))
    named = re.findall(r"(?<![\w./-])tidings ([a-z][a-z-]*)", code)
    assert set(named) <= COMMANDS.keys()


@every_page
def test_every_setting_that_is_named_exists(page):
    text, known = page.read_text(), _flat(_defaults())
    variables = set(re.findall(r"TIDINGS_[A-Z_]+[A-Z]", text))
    assert variables <= {env_name(key) for key in known} | NOT_SETTINGS
    groups = {key.partition(".")[0] for key in known if "." in key}
    named = {f"{group}.{key}" for group, key in re.findall(r"`(\w+)\.(\w+)`", text) if group in groups}
    assert named <= known.keys()


@pytest.fixture(scope="module")
def there_are() -> list[tuple[str, re.Pattern[str]]]:
    """The calls of the API: a method, and what its paths look like."""
    paths = build_broad(cast(Edge, None)).openapi()["paths"]
    shapes = {path: re.compile(re.sub(r"\{\w+\}", "[^/]+", path)) for path in paths}
    return [(method.upper(), shapes[path]) for path, methods in paths.items() for method in methods]


@every_page
def test_every_call_of_the_api_that_is_named_exists(page, there_are):
    for method, path in re.findall(r"`(GET|POST|PUT|PATCH|DELETE) (/api/v1/[^`? ]*)", prose(page)):
        assert any(one == method and pattern.fullmatch(path) for one, pattern in there_are), f"{method} {path}"


@every_page
def test_nothing_is_left_to_do(page):
    assert not re.search(r"\b(TODO|TBD|FIXME|XXX)\b", page.read_text())


@every_page
def test_every_table_has_a_head_and_as_many_cells_in_each_row(page):
    lines = prose(page).splitlines()
    for at, line in enumerate(lines):
        if not line.startswith("|"):
            continue
        before = lines[at - 1] if at else ""
        if before.startswith("|"):
            assert len(BARS.findall(line)) == len(BARS.findall(before)), line
        else:
            assert re.fullmatch(r"\|( *:?-+:? *\|)+", lines[at + 1]), f"no head: {line}"


# states


def test_the_marks_are_those_of_the_code():
    told = [(int(rank), WORD.findall(name)[0]) for rank, name, _ in table(section("states.md", "The delivery"))]
    assert told == [(mark.value, mark.name) for mark in Mark]


def test_the_states_are_those_of_the_code():
    told = [(WORD.findall(name)[0], int(number)) for name, number, *_ in table(section("states.md", "The dispatch"))]
    assert told == [(state.name, state.value) for state in State]


def test_every_status_that_callers_see_is_explained():
    told = words(row[0] for row in table(section("states.md", "What callers see")))
    assert sorted(told) == sorted(status.value for status in Status)


def test_the_diagrams_know_every_state_and_every_status():
    page = section("states.md", "States")
    dispatch, callers = re.findall(r"```mermaid(.*?)```", page, re.DOTALL)
    named = [set(re.findall(r"\b[a-z]+(?:_[a-z]+)*\b(?=\s*-->)|(?<=--> )[a-z_]+", one)) for one in (dispatch, callers)]
    assert named == [{state.name for state in State}, {status.value for status in Status}]


def test_every_statement_that_is_named_exists():
    for file, name in re.findall(r"`(\w+)\.sql: (\w+)`", (DOCS / "states.md").read_text()):
        assert name in load_statements(file)


@cache
def calls() -> list[tuple[str, ast.Call]]:
    """Every call, with its module, in the product but the sandbox and the bench, which have outcomes of their own."""
    found = list[tuple[str, ast.Call]]()
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE.parent).with_suffix("").parts
        if not {"sandbox", "bench"} & set(parts):
            nodes = ast.walk(ast.parse(path.read_text()))
            found += [(".".join(parts), node) for node in nodes if isinstance(node, ast.Call)]
    return found


def constants(names: set[str], place: int) -> set[str]:
    """The texts that the code gives, in this place, to calls of these names. What only runs knows is left out."""
    wanted = [one for one in calls() if getattr(one[1].func, "id", None) in names and len(one[1].args) > place]
    return {text for module, call in wanted for text in texts(module, call.args[place])}


def texts(module: str, node: ast.expr) -> Iterator[str]:
    match node:
        case ast.Constant(value=str(text)) if text:
            yield text
        case ast.IfExp(body=body, orelse=orelse):
            yield from (*texts(module, body), *texts(module, orelse))
        case ast.Name(id=name):
            value = getattr(import_module(module), name, None)
            if isinstance(value, str):
                yield value


def test_every_reason_in_the_code_is_explained_and_no_other():
    used = constants({"Finish", "Again"}, 1) | constants({"Bury", "Doubt"}, 0) | {why.value for why in Why}
    for path in (SOURCE / "storage" / "sql").glob("*.sql"):
        used |= set(re.findall(r"reason = '(\w+)'", path.read_text()))
    assert sorted(words(row[0] for row in table(section("states.md", "Reasons")))) == sorted(used)


def test_reasons_come_with_statuses_that_exist():
    told = words(row[1] for row in table(section("states.md", "Reasons")))
    assert set(told) <= {status.value for status in Status}


def test_every_code_of_an_outcome_is_explained_and_no_other():
    makers = {"Sent": 1, "TryLater": 0, "TryNext": 0, "Refused": 0, "Unsure": 0, "NotSent": 0, "NoAnswer": 0}
    used = {code for name, place in makers.items() for code in constants({name}, place)}
    used |= {code for _, code in _WHY_NOT} | constants({"_fail", "_break", "fail", "_end"}, 0)
    used |= {Sent("").code, Fenced().code}
    for doc in (Wire.__doc__, NotSent.__doc__, NoAnswer.__doc__):
        for listed in re.findall(r"one of ``([^`]*)``", doc or ""):
            used |= set(listed.split())
    assert sorted(words(row[0] for row in table(section("outcomes.md", "Codes")))) == sorted(used)


def test_every_outcome_is_explained():
    told = {WORD.findall(row[0])[0] for row in table(section("outcomes.md", "Outcomes"))}
    assert told == {kind.__name__ for kind in (Sent, TryLater, TryNext, Refused, Unsure, Fenced)}


@pytest.mark.parametrize(
    ("page", "title", "statuses"),
    [
        ("how-to/receipts.md", "What happens to a receipt", sendgrid_events.STATUSES),
        ("how-to/sms.md", "Receipts and replies", twilio_webhooks.STATUSES),
    ],
)
def test_the_meaning_of_a_provider_s_events_is_that_of_the_code(page, title, statuses):
    rows = table(section(page, title))
    told = {event: WORD.findall(status)[0] for events, status in rows[:-1] for event in WORD.findall(events)}
    assert told == statuses


# dependencies, settings, metrics, figures


def test_every_dependency_has_its_reason_and_nothing_else_is_listed():
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    for title, listed in (
        ("To run", project["dependencies"]),
        ("To build", extras["build"]),
        ("To develop", extras["dev"]),
    ):
        rows = table(section("dependencies.md", title))
        assert [row[0].strip("`") for row in rows] == [re.split(r"[<>=\[]", one)[0] for one in listed]
        assert all(len(row[1]) > 5 for row in rows)


def test_settings_without_effect_are_named_and_no_others():
    """A setting has an effect when its name is read somewhere outside the module that defines it."""
    read = "\n".join(path.read_text() for path in SOURCE.rglob("*.py") if path != SOURCE / "settings.py")
    idle = [key for key in _flat(_defaults()) if not re.search(rf"\.{key.rpartition('.')[2]}\b", read)]
    kept_apart = {"test.enabled", "hints"}  # the first is a lock on another setting, the second has one value so far
    told = re.findall(r"`([\w.]+)`", "".join(row[0] for row in table(section("settings.md", "Without effect yet"))))
    assert sorted(told) == sorted(set(idle) - kept_apart)


@cache
def emitted() -> frozenset[str]:
    """The events that something emits."""
    made = {getattr(call.func, "id", getattr(call.func, "attr", "")) for _, call in calls()}
    return frozenset(made & {kind.__name__ for kind in ROWS})


def described(meter: Meters) -> str:
    match meter:
        case Observes(metric=name, text=text):
            return f"`{name}` |  | {text} (histogram)"
        case Shows(metric=name, text=text, labels=labels):
            return f"`{name}` | {', '.join(f'`{label}`' for label in (meter.whose, *labels))} | {text} (gauge)"
        case Adds(metric=name, text=text):
            return f"`{name}_total` | {', '.join(f'`{label}`' for label in meter.labels)} | {text}"


def metrics() -> list[str]:
    """The table of metrics as the documentation has to have it."""
    lines, live = ["| metric | labels | counts |", "|---|---|---|"], emitted()
    for event, row in ROWS.items():
        for meter in row.meters:
            note = "" if event.__name__ in live else ". *Not emitted yet*"
            lines.append(f"| {described(meter)}{note} |")
    return lines


def test_the_table_of_metrics_is_that_of_the_code():
    page = (DOCS / "operations.md").read_text()
    told = page.split("<!-- metrics -->")[1].split("<!-- /metrics -->")[0].strip().splitlines()
    assert told == metrics(), "\n".join(["write this between the markers:", *metrics()])


@every_page
def test_every_metric_that_is_named_exists(page):
    there_are = {name for line in metrics() for name in re.findall(r"`(tidings_\w+)`", line)}
    assert set(re.findall(r"`(tidings_\w+)[`{]", prose(page))) <= there_are


def test_the_lanes_are_those_of_the_code():
    text = section("operations.md", "How much is waiting")
    told = {int(number) for number in re.findall(r"\b(\d+)\b(?= (?:is|in|dead|`email))", text)}
    email = {lane for lane in sending_lanes() if lane_name(lane).startswith("email.")}
    assert told == {IN_DOUBT, DEAD} | email


def test_the_json_of_a_figure_has_the_fields_of_the_code():
    (example,) = re.findall(r"```json\n(.*?)```", (DOCS / "benchmarks.md").read_text(), re.DOTALL)
    report = Report(**{name: {} for name in Report.__struct_fields__})
    outcome = Outcome(**dict.fromkeys(Outcome.__struct_fields__, 0.0) | {"cpu_us": {}, "ledger": report})
    real = Result(Bench("deliver", Wish(seconds=1), delivering), [outcome], []).summary()
    told = json.loads(example)
    assert list(told) == list(real)
    assert list(told["cpu_us"]) == list(real["cpu_us"])
    assert list(told["ledger"]) == list(real["ledger"])
    assert set(told["runs"][0]) == set(real["runs"][0])

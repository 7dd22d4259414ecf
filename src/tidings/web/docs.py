"""The documentation page: one piece of HTML made from the OpenAPI document. It needs no script and no other host."""

import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any, Final

from tidings.web.exchange import API
from tidings.web.problems import KINDS

_STYLE: Final = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1f24;background:#fff}
code,pre{font:14px/1.45 ui-monospace,monospace}pre{background:#f4f5f7;padding:.75rem;overflow:auto;border-radius:6px}
h2{margin-top:2.5rem;border-bottom:1px solid #d8dce0}details{margin:.4rem 0}summary{cursor:pointer;padding:.2rem 0}
.method{display:inline-block;min-width:4.5rem;font-weight:600}dt{font-weight:600;margin-top:.6rem}
@media(prefers-color-scheme:dark){body{color:#e6e8ea;background:#16181c}pre{background:#22262b}a{color:#8ab4f8}}
"""


def page(document: Mapping[str, Any]) -> str:
    """All calls by subject, their schemas, and the codes of problems."""
    title = f"{document['info']['title']} {document['info']['version']}"
    return "".join(
        [
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>',
            f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style>',
            f"<h1>{escape(title)}</h1><p>{escape(document['info']['description'])}</p>",
            f'<p><a href="{API}/openapi.json">OpenAPI 3.1</a> · <a href="#problems">Problems</a> · '
            '<a href="#schemas">Schemas</a></p>',
            *_calls(document["paths"]),
            '<h2 id="problems">Problems</h2><dl>',
            *_problems(),
            '</dl><h2 id="schemas">Schemas</h2>',
            *_schemas(document["components"]["schemas"]),
            "</html>",
        ]
    )


def _calls(paths: Mapping[str, Any]) -> Iterator[str]:
    by_tag = dict[str, list[str]]()
    for path, methods in paths.items():
        for method, call in methods.items():
            by_tag.setdefault(call["tags"][0], []).append(_call(path, method, call))
    for tag, calls in by_tag.items():
        yield f"<h2>{escape(tag.capitalize())}</h2>" + "".join(calls)


def _call(path: str, method: str, call: Mapping[str, Any]) -> str:
    parameters = "".join(
        f"<li><code>{escape(one['name'])}</code> ({one['in']}) {escape(one.get('description', ''))}</li>"
        for one in call.get("parameters", ())
    )
    bodies = {"Body": call.get("requestBody", {}), "Answer": next(iter(call["responses"].values()))}
    named = " · ".join(f"{name}: {_links(of)}" for name, of in bodies.items() if _names(of))
    return (
        f'<details><summary><code><span class="method">{method.upper()}</span>{escape(path)}</code> '
        f"{escape(call['summary'])}</summary><p>{escape(call.get('description', ''))}</p>"
        f"<ul>{parameters}</ul><p>{named}</p></details>"
    )


def _names(of: Mapping[str, Any]) -> list[str]:
    """The schemas that a body or an answer names."""
    schemas = [content.get("schema", {}) for content in of.get("content", {}).values()]
    found = [one for schema in schemas for one in (schema, *schema.get("anyOf", ()))]
    return [one["$ref"].rpartition("/")[2] for one in found if "$ref" in one]


def _links(of: Mapping[str, Any]) -> str:
    return ", ".join(f'<a href="#schema-{escape(name)}">{escape(name)}</a>' for name in _names(of))


def _problems() -> Iterator[str]:
    for code, kind in KINDS.items():
        yield f'<dt id="{code}"><code>{code}</code> ({kind.status})</dt><dd>{escape(kind.title)}.</dd>'


def _schemas(schemas: Mapping[str, Any]) -> Iterator[str]:
    for name, schema in sorted(schemas.items()):
        text = escape(json.dumps(schema, indent=2, ensure_ascii=False))
        yield f'<details id="schema-{escape(name)}"><summary>{escape(name)}</summary><pre>{text}</pre></details>'

"""Templates and data made to do harm: what an attacker who may save templates, or send data to them, would try.

Each is rendered as the subject, so that nothing is escaped. ``ends`` is found in the fault that it must end with,
``shows`` is what it must become; with neither, both are fine as long as nothing else comes to harm.
"""

import sys
from typing import Any, Final

import msgspec

_EACH: Final = "{% for i in range(99999) %}"
_END: Final = "{% endfor %}"


class Hostile(msgspec.Struct, frozen=True):
    name: str
    template: str
    data: dict[str, Any] = {}
    ends: str | None = None
    shows: str | None = None


def _deep(levels: int) -> Any:
    made: Any = 1
    for _ in range(levels):
        made = {"a": made}
    return made


STEPS: Final = "too many steps"
CPU: Final = "too much CPU"
MEMORY: Final = "too much memory"
DEPTH: Final = "nested too deeply"
UNDEFINED: Final = "undefined"

HOSTILE: Final = (
    # time
    Hostile("a loop in a loop", f"{_EACH}{_EACH}{_END}{_END}", ends=STEPS),
    Hostile("four loops", f"{_EACH * 4}x{_END * 4}", ends=STEPS),
    Hostile("a loop in a macro", "{% macro f() %}" + _EACH + _END + "{% endmacro %}" + _EACH + "{{ f() }}" + _END),
    Hostile("long work in each step", _EACH + "{{ ('x'*50000000)|length }}" + _END, ends=CPU),
    Hostile("reversing for ever", _EACH + "{{ ('x'*30000000)|reverse|length }}" + _END),
    Hostile("sorting for ever", _EACH + "{{ range(99999)|sort(reverse=true)|length }}" + _END, ends=CPU),
    Hostile("replacing for ever", _EACH + "{{ ('a'*9000000)|replace('a','b')|length }}" + _END, ends=CPU),
    Hostile("lists for ever", _EACH + "{{ ([0]*9000000)|length }}" + _END),
    Hostile("searching for ever", _EACH + "{{ 'b' in 'a'*90000000 }}" + _END),
    Hostile("a list of a hundred million", "{{ ([0]*100000000)|length }}"),
    Hostile("a list of a hundred million, printed", "{{ [0]*100000000 }}"),
    Hostile("a power", "{{ 10 ** 10 ** 10 }}"),
    Hostile("a power of a power", _EACH + "{{ 9 ** 30 }}" + _END),
    Hostile("joining a lot", "{{ (['x']*20000000)|join('y')|length }}"),
    Hostile(
        "every pair",
        "{% for a in x %}{% for b in x %}{% for c in x %}{{ c }}{% endfor %}{% endfor %}{% endfor %}",
        {"x": list(range(500))},
        ends=STEPS,
    ),
    # memory
    Hostile("padding by format", "{{ '%500000000s'|format('x') }}", ends=MEMORY),
    Hostile("padding by a star", "{{ '%*d'|format(500000000, 1) }}"),
    Hostile("padding by a method", "{{ '{:>500000000}'.format('x') }}", ends=MEMORY),
    Hostile("precision", "{{ '%.500000000f'|format(1.5) }}", ends=MEMORY),
    Hostile("centred", "{{ 'x'|center(500000000) }}"),
    Hostile("indented", "{{ ('x\n'*100000)|indent(100000) }}"),
    Hostile("repeating", "{{ 'a'*200000000 }}"),
    Hostile("repeating repeats", "{{ ('a'*10000*10000*10000) }}"),
    Hostile(
        "doubling",
        "{% set n = namespace(s='x') %}{% for i in range(40) %}{% set n.s = n.s ~ n.s %}{% endfor %}{{ n.s|length }}",
    ),
    Hostile(
        "doubling a list",
        "{% set n = namespace(s=[1]) %}{% for i in range(40) %}{% set n.s = n.s + n.s %}{% endfor %}{{ n.s|length }}",
    ),
    Hostile("tripling with tildes", "{% set a = 'x'*9000000 %}{{ (" + "~".join(["a"] * 60) + ")|length }}"),
    Hostile("replacing with more", "{{ ('a'*90000)|replace('a', 'b'*90000)|length }}"),
    Hostile("growing the data", _EACH + "{% set _ = x.append('y'*100000) %}" + _END, {"x": []}),
    Hostile(
        "a capture of much",
        "{% set c %}" + _EACH + "xxxxxxxxxxxxxxxxxxxxxxxx" + _END + "{% endset %}{{ c ~ c ~ c }}",
        ends="longer than",
    ),
    Hostile("too much output", _EACH + "xxxxxxxxxxxxxxxxxxxx" + _END, ends="longer than"),
    Hostile("too much output in few characters", "{{ '€'*400000 }}", ends="longer than"),
    # depth
    Hostile("a macro without end", "{% macro f(n) %}{{ f(n+1) }}{% endmacro %}{{ f(1) }}", ends="recursion"),
    Hostile("macros by turns", "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{{ a() }}{% endmacro %}{{ a() }}"),
    Hostile("a recursive loop", "{% for a in x recursive %}{{ loop(x) }}{% endfor %}", {"x": [1]}),
    Hostile("brackets", "{{ " + "(" * 10_000 + "1" + ")" * 10_000 + " }}", ends="recursion"),
    Hostile("lists in lists", "{{ " + "[" * 5_000 + "]" * 5_000 + " }}", ends="recursion"),
    Hostile("nots", "{{ " + "not " * 100_000 + "x }}", ends=DEPTH),
    Hostile("minuses", "{{ " + "-" * 100_000 + "1 }}", ends=DEPTH),
    Hostile("a chain of attributes", "{{ x" + ".a" * 100_000 + " }}", {"x": {}}),
    Hostile("a chain of filters", "{{ x" + "|string" * 100_000 + " }}", {"x": 1}, ends=DEPTH),
    Hostile("a chain of additions", "{{ 1" + "+1" * 100_000 + " }}"),
    Hostile("conditions in conditions", "{% if x %}" * 3_000 + "{% endif %}" * 3_000, {"x": 1}),
    Hostile("data that contains itself", "{% set _ = x.append(x) %}{{ x }}", {"x": []}),
    Hostile("data that contains itself, sorted", "{% set _ = x.append(x) %}{{ (x == x) }}{{ x|tojson }}", {"x": []}),
    Hostile("deep data", "{{ x }}", {"x": _deep(200)}),
    # reaching out
    Hostile("a class", "{{ x.__class__ }}", {"x": {}}, ends=UNDEFINED),
    Hostile("a class by name", "{{ x['__class__'] }}", {"x": {}}, ends=UNDEFINED),
    Hostile("a class by filter", "{{ x|attr('__class__') }}", {"x": {}}, ends=UNDEFINED),
    Hostile("classes by map", "{{ [x]|map(attribute='__class__')|list }}", {"x": {}}, shows="[undefined]"),
    Hostile("the way to all classes", "{{ ''.__class__.__mro__[1].__subclasses__() }}", ends=UNDEFINED),
    Hostile("the globals of a method", "{{ x.append.__globals__ }}", {"x": []}, ends=UNDEFINED),
    Hostile("the owner of a method", "{{ x.append.__self__ }}", {"x": []}, ends=UNDEFINED),
    Hostile("a method", "{{ x.keys }}", {"x": {}}, ends=UNDEFINED),
    Hostile("methods in a list", "{{ [x.keys, x.pop] }}", {"x": {}}, ends=UNDEFINED),
    Hostile("format strings", "{{ x.format(y) }}", {"x": "{0.__class__}", "y": 1}),
    Hostile("format strings by map", "{{ '{0[__class__]}'.format(x) }}", {"x": {}}),
    Hostile("templates in data", "{{ x }}", {"x": "{{ 7*7 }}{% for %}"}, shows="{{ 7*7 }}{% for %}"),
    Hostile("the engine's insides", "{{ debug() }}", ends="unknown"),
    Hostile("itself", "{{ self }}", ends=UNDEFINED),
    Hostile("a file", "{% include '/etc/passwd' %}", ends="non-existing"),
    Hostile("another template", "{% include '1/subject.txt' %}", ends="non-existing"),
    Hostile(
        "another template, by guessing",
        "{% for i in range(2000) %}{% for p in ['subject.txt', 'text.txt', 'html.html'] %}"
        "{% include i ~ '/' ~ p ignore missing %}{% endfor %}{% endfor %}nothing",
        shows="nothing",
    ),
    Hostile("another's macros", "{% from '1/subject.txt' import f %}", ends="non-existing"),
    Hostile("another's layout", "{% extends '1/subject.txt' %}", ends="does not exist"),
    Hostile("functions of Python", "{{ open('/etc/passwd') }}", ends="unknown"),
    Hostile("imports", "{{ __import__('os') }}", ends="unknown"),
    # nonsense
    Hostile("half a tag", "{{ x", ends="unexpected end"),
    Hostile("half a block", "{% if x", ends="unexpected end"),
    Hostile("an end without a start", "{% endfor %}", ends="unknown statement"),
    Hostile("a missing end", "{% for a in x %}", ends="unexpected end"),
    Hostile("an unknown filter", "{{ 1|nope }}", ends="nope is unknown"),
    Hostile("an unknown test", "{{ 1 is nope }}", ends="nope is unknown"),
    Hostile("control characters", "{{ '\x00\x01' }}\x00", shows="\x00\x01\x00"),
    Hostile("division by nothing", "{{ 1/0 }}{{ 1//0 }}"),
    Hostile("a huge number", "{{ 9" + "9" * 5_000 + " }}"),
    Hostile("a huge literal", "{{ '" + "x" * 900_000 + "'|length }}", shows="900000"),
    Hostile("a hundred thousand parts", "{{ x }}" * 100_000, {"x": 1}, shows="1" * 100_000),
    # data
    Hostile("a huge value", "{{ x|length }}", {"x": "y" * 2_000_000}, shows="2000000"),
    Hostile("many keys", "{{ x|length }}", {"x": {str(n): n for n in range(50_000)}}, shows="50000"),
    Hostile("huge integers", "{{ x }}", {"x": 10 ** (sys.get_int_max_str_digits() - 10)}),
    Hostile("names of the engine", "{{ loop }}{{ self }}{{ range }}", {"loop": 1, "self": 2, "range": 3}, shows="123"),
    Hostile("names of Python", "{{ template_name }}{{ name }}", {"template_name": 1, "name": 2, "": 3}, shows="12"),
)

"""What Mailgun's Messages API checks, and the words that it uses."""

import re
import time
from collections.abc import Callable, Iterator, Sequence
from email import message_from_bytes
from email.utils import getaddresses, parsedate_to_datetime
from typing import Final
from urllib.parse import parse_qsl

import msgspec

OPTIONS_BYTES: Final = 16 << 10
MOST_RECIPIENTS: Final = 1000
TAG_CHARS: Final = 128
AHEAD_S: Final = 7 * 24 * 3600
_BODIES: Final = ("text", "html", "amp-html", "template")
_PEOPLE: Final = ("to", "cc", "bcc")
_OPTIONS: Final = ("o:", "h:", "v:", "t:")
_ADDRESS: Final = re.compile(r"[^\s@<>()\[\],;:\\\"]+@[^\s@<>()\[\],;:\\\"]+\.[^\s@<>()\[\],;:\\\".]+")
_MESSAGE_ID: Final = re.compile(r"<?([^\s@<>]+@[^\s@<>]+)>?")


class Letter(msgspec.Struct, frozen=True, gc=False):
    """The fields of a call, in order; a name may come more than once. ``files`` are the names of attachments."""

    fields: Sequence[tuple[str, str]]
    files: Sequence[str] = ()

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.fields if key.lower() == name]

    def first(self, name: str) -> str | None:
        return next(iter(self.all(name)), None)

    def options(self, prefix: str) -> dict[str, str]:
        """What stands behind a prefix such as ``v:``."""
        return {name[len(prefix) :]: value for name, value in self.fields if name.lower().startswith(prefix)}

    def people(self, *names: str) -> list[str]:
        """The bare addresses of these fields, each once."""
        found = getaddresses([value for name in names for value in self.all(name)])
        return list(dict.fromkeys(address for _, address in found))

    @property
    def recipients(self) -> list[str]:
        return self.people(*_PEOPLE)

    @property
    def message_id(self) -> str | None:
        """The one that was asked for, without brackets; None where Mailgun would make one."""
        asked = {name.lower(): value for name, value in self.options("h:").items()}.get("message-id", "")
        found = _MESSAGE_ID.fullmatch(asked.strip())
        return found[1] if found else None


def read(content_type: str, body: bytes) -> Letter | str:
    """The letter, or what is wrong with it: the first thing that is found, as there."""
    letter = _parsed(content_type, body)
    return next((complaint for rule in _RULES for complaint in rule(letter)), letter)


def _parsed(content_type: str, body: bytes) -> Letter:
    if not content_type.lower().startswith("multipart/form-data"):
        return Letter(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))
    whole = message_from_bytes(b"Content-Type: %b\r\n\r\n%b" % (content_type.encode("latin-1"), body))
    parts = [part for part in whole.walk() if not part.is_multipart()]
    named = [(str(part.get_param("name", "", "content-disposition")), part) for part in parts]
    fields = [(name, _text(part.get_payload(decode=True))) for name, part in named if part.get_filename() is None]
    return Letter(fields, [name for part in parts if (name := part.get_filename()) is not None])


def _text(payload: object) -> str:
    return payload.decode("utf-8", "replace") if isinstance(payload, bytes) else ""


def _required(letter: Letter) -> Iterator[str]:
    for name in ("from", "to", "subject"):
        if not letter.first(name):
            yield f"{name} parameter is missing"


def _addresses(letter: Letter) -> Iterator[str]:
    for name in ("from", *_PEOPLE):
        given = letter.people(name)
        if any(not _ADDRESS.fullmatch(address) for address in given) or (letter.all(name) and not given):
            yield f"{name} parameter is not a valid address. please check documentation"
    if len(letter.people("from")) > 1:
        yield "from parameter is not a valid address. please check documentation"


def _bodies(letter: Letter) -> Iterator[str]:
    given = [name for name in _BODIES if letter.first(name)]
    if not given:
        yield "Need at least one of 'text', 'html', 'amp-html' or 'template' parameters specified"
    if {"html", "template"} <= set(given):
        yield "Only one parameters 'html' or 'template' is allowed."


def _options(letter: Letter) -> Iterator[str]:
    options = ((name, value) for name, value in letter.fields if name.lower().startswith(_OPTIONS))
    if sum(len(name.encode()) + len(value.encode()) for name, value in options) > OPTIONS_BYTES:
        yield "Send options (parameters starting with o:, h:, or v:) are limited to 16KB total"


def _recipients(letter: Letter) -> Iterator[str]:
    if len(letter.recipients) > MOST_RECIPIENTS:
        yield f"to parameter is limited to {MOST_RECIPIENTS} recipients"
    variables = letter.first("recipient-variables")
    try:
        msgspec.json.decode(variables or "{}", type=dict[str, dict[str, object]])
    except (msgspec.MsgspecError, RecursionError):
        yield "recipient-variables parameter is not a valid JSON"


def _delivery_time(letter: Letter) -> Iterator[str]:
    asked = letter.first("o:deliverytime")
    if not asked:
        return
    try:
        ahead_s = parsedate_to_datetime(asked).timestamp() - time.time()
    except ValueError:
        yield "o:deliverytime parameter is not a valid date"
        return
    if ahead_s > AHEAD_S:
        yield "o:deliverytime is too far in the future"


def _tags(letter: Letter) -> Iterator[str]:
    if any(len(tag) > TAG_CHARS for tag in letter.all("o:tag")):
        yield f"o:tag parameter is limited to {TAG_CHARS} characters"


_RULES: Final[Sequence[Callable[[Letter], Iterator[str]]]] = (
    _required,
    _addresses,
    _bodies,
    _options,
    _recipients,
    _delivery_time,
    _tags,
)

"""What SendGrid's v3 Mail Send checks, and the words that it uses (its published list of errors)."""

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

HELP: Final = "http://sendgrid.com/docs/API_Reference/Web_API_v3/Mail/errors.html#"
MOST_RECIPIENTS: Final = 1000
MOST_PERSONALIZATIONS: Final = 1000
CUSTOM_ARGS_BYTES: Final = 10_000
MOST_CATEGORIES: Final = 10
CATEGORY_CHARS: Final = 255
ADDRESS_CHARS: Final = 320
SEND_AT_AHEAD_S: Final = 72 * 3600
GROUPS_TO_DISPLAY: Final = 25

_ADDRESS: Final = re.compile(r"[^\s@<>()\[\],;:\\\"]+@[^\s@<>()\[\],;:\\\"]+\.[^\s@<>()\[\],;:\\\".]+")
_HEADER_NAME: Final = re.compile(r"[!-9;-~]+")
_BASE64: Final = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
_RESERVED: Final = frozenset(
    [
        "x-sg-id",
        "x-sg-eid",
        "received",
        "dkim-signature",
        "content-type",
        "content-transfer-encoding",
        "to",
        "from",
        "subject",
        "reply-to",
        "cc",
        "bcc",
    ]
)
_FIELD_NAME: Final = {
    "to": "To",
    "cc": "CC",
    "bcc": "BCC",
    "from": "From",
    "reply_to": "Reply-To",
    "reply_to_list": "Reply-To",
}
_CONTENT_ORDER: Final = {"text/plain": 0, "text/html": 1}
_JSON_TYPE: Final = {
    dict: "object",
    list: "array",
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number",
    type(None): "null",
}
_ONE_ADDRESS: Final = (
    'requires the email parameter, but may also contain a name parameter.  e.g. {"email" : "example@example.com"}'
    '  or {"email" : "example@example.com", "name" : "Example Recipient"}.'
)


class Complaint(msgspec.Struct, frozen=True, gc=False):
    """One error as SendGrid writes it: the field's path, and a link into its list of errors."""

    message: str
    field: str | None = None
    help: str | None = None


Letter = Mapping[str, Any]
Shape = str | Mapping[str, Any] | Sequence[Any]

_PERSON: Final = {"email": "string", "name": "string"}
_SWITCH: Final = {"enable": "boolean"}
_ENVELOPE: Final = {
    "from": _PERSON,
    "to": [_PERSON],
    "cc": [_PERSON],
    "bcc": [_PERSON],
    "subject": "string",
    "headers": "object",
    "substitutions": "object",
    "dynamic_template_data": "object",
    "custom_args": "object",
    "send_at": "integer",
}
_LETTER: Final = {
    "personalizations": [_ENVELOPE],
    "from": _PERSON,
    "reply_to": _PERSON,
    "reply_to_list": [_PERSON],
    "subject": "string",
    "content": [{"type": "string", "value": "string"}],
    "attachments": [
        {"content": "string", "type": "string", "filename": "string", "disposition": "string", "content_id": "string"}
    ],
    "template_id": "string",
    "headers": "object",
    "categories": ["string"],
    "custom_args": "object",
    "send_at": "integer",
    "batch_id": "string",
    "asm": {"group_id": "integer", "groups_to_display": ["integer"]},
    "ip_pool_name": "string",
    "mail_settings": {
        "bypass_list_management": _SWITCH,
        "bypass_spam_management": _SWITCH,
        "bypass_bounce_management": _SWITCH,
        "bypass_unsubscribe_management": _SWITCH,
        "footer": {"enable": "boolean", "text": "string", "html": "string"},
        "sandbox_mode": _SWITCH,
    },
    "tracking_settings": "object",
}


def complaints(letter: object) -> list[Complaint]:
    """All that is wrong with a decoded request; wrong types hide the rest, as they do there."""
    if wrong := list(_misshapen(letter, _LETTER, "")):
        return wrong
    assert isinstance(letter, dict)
    return [complaint for rule in _RULES for complaint in rule(letter)]


def _misshapen(value: object, shape: Shape, path: str) -> Iterator[Complaint]:
    expected = shape if isinstance(shape, str) else "object" if isinstance(shape, Mapping) else "array"
    given = _JSON_TYPE[type(value)]
    if given != expected:
        help_ = _help(path) if path else HELP + "-Request-Body-Parameters"
        yield Complaint(f"Invalid type. Expected: {expected}, given: {given}.", path or "(root)", help_)
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from _misshapen(item, shape[0], f"{path}.{i}")  # type: ignore[index]
    elif isinstance(value, dict) and isinstance(shape, Mapping):
        for key in value.keys() & shape.keys():
            yield from _misshapen(value[key], shape[key], f"{path}.{key}" if path else key)


def _help(path: str) -> str:
    """The link for a field: ``personalizations.0.to.0.email`` is explained under ``message.personalizations.to``."""
    names = [name for name in path.split(".") if not name.isdigit()]
    return f"{HELP}message.{'.'.join(name for name in names if name != 'email')}"


def _complaint(message: str, path: str) -> Complaint:
    return Complaint(message, path, _help(path))


def _personalizations(letter: Letter) -> Iterator[Complaint]:
    envelopes = letter.get("personalizations")
    if not envelopes:
        message = "The personalizations field is required and must have at least one personalization."
        yield Complaint(message, "personalizations", HELP + "-Personalizations-Errors")
        return
    if len(envelopes) > MOST_PERSONALIZATIONS:
        yield _complaint(
            f"The personalization block is limited to {MOST_PERSONALIZATIONS} personalizations per API request. You "
            f"have provided {len(envelopes)} personalizations. Please consider splitting this into multiple requests "
            "and resending your request.",
            "personalizations",
        )
    if sum(len(envelope.get(kind, ())) for envelope in envelopes for kind in ("to", "cc", "bcc")) > MOST_RECIPIENTS:
        message = f"There is a limit of {MOST_RECIPIENTS} total recipients (to + cc + bcc) per request."
        yield Complaint(message, "personalizations", HELP + "message.recipient-errors")
    for i, envelope in enumerate(envelopes):
        if not envelope.get("to"):
            yield _complaint(
                "The to array is required for all personalization objects, and must have at least one email object "
                "with a valid email address.",
                f"personalizations.{i}.to",
            )


def _addresses(letter: Letter) -> Iterator[Complaint]:
    for path, person in _people(letter):
        email = person.get("email", "")
        if not _ADDRESS.fullmatch(email):
            yield _complaint("Does not contain a valid address.", f"{path}.email")
        elif len(email) > ADDRESS_CHARS:
            field = path.rstrip(".0123456789").rpartition(".")[2]
            yield _complaint(
                f"The {_FIELD_NAME[field]} email exceeds the maximum total length of 320 characters", f"{path}.email"
            )


def _people(letter: Letter) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Every address but the sender's, which has words of its own when it is missing."""
    for i, envelope in enumerate(letter.get("personalizations", ())):
        if "from" in envelope:
            yield f"personalizations.{i}.from", envelope["from"]
        for kind in ("to", "cc", "bcc"):
            for j, person in enumerate(envelope.get(kind, ())):
                yield f"personalizations.{i}.{kind}.{j}", person
    if letter.get("from", {}).get("email"):
        yield "from", letter["from"]
    if "reply_to" in letter:
        yield "reply_to", letter["reply_to"]
    for i, person in enumerate(letter.get("reply_to_list", ())):
        yield f"reply_to_list.{i}", person


def _each_once(letter: Letter) -> Iterator[Complaint]:
    """Within a personalization, and within the whole request."""
    everywhere: set[str] = set()
    for i, envelope in enumerate(letter.get("personalizations", ())):
        here: set[str] = set()
        for kind in ("to", "cc", "bcc"):
            for person in envelope.get(kind, ()):
                email = person.get("email", "").lower()
                if email in here or email in everywhere:
                    yield _repeated(email, f"personalizations.{i}", kind, within=email in here)
                    return
                here.add(email)
        everywhere |= here


def _repeated(email: str, path: str, kind: str, *, within: bool) -> Complaint:
    message = (
        "Each email address in the personalization block should be unique between to, cc, and bcc. We found the first "
        f"duplicate instance of [{email}] in the {path}.{kind} field."
        if within
        else "Each unique email address in the personalizations array should only be included once. You have included "
        f"[{email}] more than once."
    )
    return Complaint(message, path, HELP + "message.recipient-errors")


def _from(letter: Letter) -> Iterator[Complaint]:
    if not letter.get("from", {}).get("email"):
        message = f"The from object must be provided for every email send. It is an object that {_ONE_ADDRESS}"
        yield Complaint(message, "from.email", HELP + "message.from")


def _reply_to(letter: Letter) -> Iterator[Complaint]:
    if "reply_to" in letter and "reply_to_list" in letter:
        message = "You can use either the reply_to property or reply_to_list property but not both."
        yield _complaint(message, "reply_to_list")


def _subject(letter: Letter) -> Iterator[Complaint]:
    if letter.get("subject") or letter.get("template_id"):
        return
    envelopes = letter.get("personalizations", ())
    if not envelopes or not all(envelope.get("subject") for envelope in envelopes):
        yield _complaint(
            "The subject is required. You can get around this requirement if you use a template with a subject "
            "defined or if every personalization has a subject defined.",
            "subject",
        )


def _content(letter: Letter) -> Iterator[Complaint]:
    parts = letter.get("content")
    if not parts and not letter.get("template_id"):
        yield _complaint(
            "Unless a valid template_id is provided, the content parameter is required. There must be at least one "
            "defined content block. We typically suggest both text/plain and text/html blocks are included, but only "
            "one block is required.",
            "content",
        )
    for i, part in enumerate(parts or ()):
        yield from _part(part, f"content.{i}")
    places = [_CONTENT_ORDER.get(part.get("type", ""), 2) for part in parts or ()]
    if places != sorted(places):
        yield _complaint(
            "Following RFC 1341, section 7.2, if either text/html or text/plain are to be sent in your email: "
            "text/plain needs to be first, followed by text/html, followed by any other content.",
            "content",
        )


def _part(part: Mapping[str, str], path: str) -> Iterator[Complaint]:
    if not part.get("type"):
        yield _complaint("Your content type must be a string with length of at least one character.", f"{path}.type")
    elif set(part["type"]) & set(";,\r\n"):
        yield _complaint("Cannot contain ';', or CRLF characters.", f"{path}.type")
    if not part.get("value"):
        yield _complaint("The content value must be a string at least one character in length.", f"{path}.value")


def _headers(letter: Letter) -> Iterator[Complaint]:
    for path, holder in _envelopes_and_letter(letter):
        for name, value in holder.get("headers", {}).items():
            if not isinstance(value, str):
                yield _complaint("The header values must be strings.", f"{path}headers")
            elif not _HEADER_NAME.fullmatch(name):
                yield _complaint("Header keys cannot contain non-ASCII characters or empty spaces.", f"{path}headers")
            elif name.lower() in _RESERVED:
                yield _complaint("Header cannot be one of the reserved keys.", f"{path}headers.{name}")


def _envelopes_and_letter(letter: Letter) -> Iterator[tuple[str, Letter]]:
    yield "", letter
    for i, envelope in enumerate(letter.get("personalizations", ())):
        yield f"personalizations.{i}.", envelope


def _custom_args(letter: Letter) -> Iterator[Complaint]:
    common = letter.get("custom_args", {})
    for i, envelope in enumerate(letter.get("personalizations", ())):
        args = common | envelope.get("custom_args", {})
        if not all(isinstance(value, str) for value in args.values()):
            # The real one says no more than this, and every newcomer stumbles here.
            yield Complaint("Bad Request")
        elif len(msgspec.json.encode(args)) > CUSTOM_ARGS_BYTES:
            yield _complaint(
                "The combined size of both global and personalization custom arguments may not exceed 10,000 bytes "
                "per personalization.",
                f"personalizations.{i}.custom_args",
            )


def _categories(letter: Letter) -> Iterator[Complaint]:
    names = letter.get("categories", ())
    if len(names) > MOST_CATEGORIES:
        yield _complaint(
            f"There is a limit of {MOST_CATEGORIES} categories for each email that is sent. You provided {len(names)} "
            "categories.",
            "categories",
        )
    for i, name in enumerate(names):
        if len(name) > CATEGORY_CHARS:
            message = f"Each category must not be longer than {CATEGORY_CHARS} characters. {name} exceeds this limit"
            yield _complaint(message, f"categories.{i}")
        if name in names[:i]:
            message = f"The categories must be a unique list, and you have included {name} more than once."
            yield _complaint(message, "categories")


def _send_at(letter: Letter) -> Iterator[Complaint]:
    for path, holder in _envelopes_and_letter(letter):
        if holder.get("send_at", 0) > time.time() + SEND_AT_AHEAD_S:
            yield _complaint("Scheduling more than 72 hours in advance is forbidden.", f"{path}send_at")


def _attachments(letter: Letter) -> Iterator[Complaint]:
    for i, attachment in enumerate(letter.get("attachments", ())):
        content = attachment.get("content", "")
        if not content:
            message = "The attachment content must be a string at least one character in length."
            yield _complaint(message, f"attachments.{i}.content")
        elif not _BASE64.fullmatch(content):
            yield _complaint("The attachment content must be base64 encoded.", f"attachments.{i}.content")
        if not attachment.get("filename"):
            yield _complaint("filename is required.", f"attachments.{i}.filename")
        if attachment.get("disposition", "attachment") not in ("inline", "attachment"):
            message = 'The disposition of your attachment can be either "inline" or "attachment".'
            yield _complaint(f"{message} You provided {attachment['disposition']}.", f"attachments.{i}.disposition")


def _unsubscribe_groups(letter: Letter) -> Iterator[Complaint]:
    if len(letter.get("asm", {}).get("groups_to_display", ())) > GROUPS_TO_DISPLAY:
        message = (
            f"There is a limit of {GROUPS_TO_DISPLAY} unsubscribe groups that can be displayed to a user at a time."
        )
        yield _complaint(message, "asm.groups_to_display")


_RULES: Final[Sequence[Callable[[Letter], Iterator[Complaint]]]] = (
    _personalizations,
    _addresses,
    _each_once,
    _from,
    _reply_to,
    _subject,
    _content,
    _headers,
    _custom_args,
    _categories,
    _send_at,
    _attachments,
    _unsubscribe_groups,
)

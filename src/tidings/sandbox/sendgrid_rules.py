"""What SendGrid's v3 Mail Send checks, and the words that it uses (its published list of errors)."""

import re
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType

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
_BREAKS_OUT: Final = re.compile(r"[;,\r\n]")
_CONTENT_ORDER: Final = {"text/plain": 0, "text/html": 1}
_JSON_TYPE: Final = {"str": "string", "int": "integer", "float": "number", "bool": "boolean"}
_MISSHAPEN: Final = re.compile(r"Expected `(\w+)`, got `(\w+)`(?: - at `\$(.*)`)?")
_ONE_ADDRESS: Final = (
    'requires the email parameter, but may also contain a name parameter.  e.g. {"email" : "example@example.com"}'
    '  or {"email" : "example@example.com", "name" : "Example Recipient"}.'
)


class Complaint(msgspec.Struct, frozen=True, gc=False):
    """One error as SendGrid writes it: the field's path, and a link into its list of errors."""

    message: str
    field: str | None = None
    help: str | None = None


BAD_REQUEST: Final = Complaint("Bad Request")


class Person(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    email: str = ""
    name: str = ""


class Envelope(msgspec.Struct, frozen=True, gc=False):
    """One personalization."""

    from_: Person | UnsetType = msgspec.field(default=UNSET, name="from")
    to: tuple[Person, ...] = ()
    cc: tuple[Person, ...] = ()
    bcc: tuple[Person, ...] = ()
    subject: str = ""
    headers: dict[str, Any] = {}
    substitutions: dict[str, Any] = {}
    dynamic_template_data: dict[str, Any] = {}
    custom_args: dict[str, Any] = {}
    send_at: int = 0

    def kinds(self) -> tuple[tuple[str, tuple[Person, ...]], ...]:
        """Its recipients by the field that names them."""
        return ("to", self.to), ("cc", self.cc), ("bcc", self.bcc)


class Part(msgspec.Struct, frozen=True, gc=False):
    type: str = ""
    value: str = ""


class Attachment(msgspec.Struct, frozen=True, gc=False):
    content: str = ""
    type: str = ""
    filename: str = ""
    disposition: str = "attachment"
    content_id: str = ""


class Unsubscribe(msgspec.Struct, frozen=True, gc=False):
    group_id: int = 0
    groups_to_display: tuple[int, ...] = ()


class Switch(msgspec.Struct, frozen=True, gc=False):
    enable: bool = False


class Settings(msgspec.Struct, frozen=True, gc=False):
    sandbox_mode: Switch = Switch()


class Letter(msgspec.Struct, frozen=True, gc=False):
    """The body of a Mail Send call. Fields that nobody knows pass, as they do there."""

    personalizations: tuple[Envelope, ...] = ()
    from_: Person = msgspec.field(default=Person(), name="from")
    reply_to: Person | UnsetType = UNSET
    reply_to_list: tuple[Person, ...] = ()
    subject: str = ""
    content: tuple[Part, ...] = ()
    attachments: tuple[Attachment, ...] = ()
    template_id: str = ""
    headers: dict[str, Any] = {}
    categories: tuple[str, ...] = ()
    custom_args: dict[str, Any] = {}
    send_at: int = 0
    batch_id: str = ""
    asm: Unsubscribe = Unsubscribe()
    ip_pool_name: str = ""
    mail_settings: Settings = Settings()
    tracking_settings: dict[str, Any] = {}


def read(body: bytes) -> Letter | list[Complaint]:
    """The letter, or all that is wrong with it. A wrong type hides the rest, as it does there."""
    try:
        letter = msgspec.json.decode(body, type=Letter)
    except msgspec.ValidationError as error:
        return [_misshapen(str(error))]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return [BAD_REQUEST]
    return [complaint for rule in _RULES for complaint in rule(letter)] or letter


def _misshapen(error: str) -> Complaint:
    found = _MISSHAPEN.match(error)
    if found is None:
        return BAD_REQUEST
    expected, given, where = found.groups("")
    path = where.replace("[", ".").replace("]", "").lstrip(".")
    message = f"Invalid type. Expected: {_JSON_TYPE.get(expected, expected)}, given: {_JSON_TYPE.get(given, given)}."
    return Complaint(message, path or "(root)", _help(path) if path else HELP + "-Request-Body-Parameters")


def _help(path: str) -> str:
    """The link for a field: ``personalizations.0.to.0.email`` is explained under ``message.personalizations.to``."""
    names = [name for name in path.split(".") if not name.isdigit()]
    return f"{HELP}message.{'.'.join(name for name in names if name != 'email')}"


def _complaint(message: str, path: str) -> Complaint:
    return Complaint(message, path, _help(path))


def _personalizations(letter: Letter) -> Iterator[Complaint]:
    envelopes = letter.personalizations
    if not envelopes:
        message = "The personalizations field is required and must have at least one personalization."
        yield Complaint(message, "personalizations", HELP + "-Personalizations-Errors")
    if len(envelopes) > MOST_PERSONALIZATIONS:
        yield _complaint(
            f"The personalization block is limited to {MOST_PERSONALIZATIONS} personalizations per API request. You "
            f"have provided {len(envelopes)} personalizations. Please consider splitting this into multiple requests "
            "and resending your request.",
            "personalizations",
        )
    if sum(len(envelope.to) + len(envelope.cc) + len(envelope.bcc) for envelope in envelopes) > MOST_RECIPIENTS:
        message = f"There is a limit of {MOST_RECIPIENTS} total recipients (to + cc + bcc) per request."
        yield Complaint(message, "personalizations", HELP + "message.recipient-errors")
    for i, envelope in enumerate(envelopes):
        if not envelope.to:
            yield _complaint(
                "The to array is required for all personalization objects, and must have at least one email object "
                "with a valid email address.",
                f"personalizations.{i}.to",
            )


def _addresses(letter: Letter) -> Iterator[Complaint]:
    for path, person in _people(letter):
        email = person.email
        if not _ADDRESS.fullmatch(email):
            yield _complaint("Does not contain a valid address.", f"{path}.email")
        elif len(email) > ADDRESS_CHARS:
            field = path.rstrip(".0123456789").rpartition(".")[2]
            yield _complaint(
                f"The {_FIELD_NAME[field]} email exceeds the maximum total length of 320 characters", f"{path}.email"
            )


def _people(letter: Letter) -> Iterator[tuple[str, Person]]:
    """Every address that was given; a sender without one is told so in words of its own."""
    for i, envelope in enumerate(letter.personalizations):
        if envelope.from_:
            yield f"personalizations.{i}.from", envelope.from_
        for kind, people in envelope.kinds():
            for j, person in enumerate(people):
                yield f"personalizations.{i}.{kind}.{j}", person
    if letter.from_.email:
        yield "from", letter.from_
    if letter.reply_to:
        yield "reply_to", letter.reply_to
    for i, person in enumerate(letter.reply_to_list):
        yield f"reply_to_list.{i}", person


def _each_once(letter: Letter) -> Iterator[Complaint]:
    """Within a personalization, and within the whole request; the first that is found is told."""
    everywhere: set[str] = set()
    for i, envelope in enumerate(letter.personalizations):
        here: set[str] = set()
        for kind, people in envelope.kinds():
            for person in people:
                email = person.email.lower()
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
    if not letter.from_.email:
        message = f"The from object must be provided for every email send. It is an object that {_ONE_ADDRESS}"
        yield Complaint(message, "from.email", HELP + "message.from")


def _reply_to(letter: Letter) -> Iterator[Complaint]:
    if letter.reply_to and letter.reply_to_list:
        message = "You can use either the reply_to property or reply_to_list property but not both."
        yield _complaint(message, "reply_to_list")


def _subject(letter: Letter) -> Iterator[Complaint]:
    if letter.subject or letter.template_id:
        return
    if not letter.personalizations or not all(envelope.subject for envelope in letter.personalizations):
        yield _complaint(
            "The subject is required. You can get around this requirement if you use a template with a subject "
            "defined or if every personalization has a subject defined.",
            "subject",
        )


def _content(letter: Letter) -> Iterator[Complaint]:
    if not letter.content and not letter.template_id:
        yield _complaint(
            "Unless a valid template_id is provided, the content parameter is required. There must be at least one "
            "defined content block. We typically suggest both text/plain and text/html blocks are included, but only "
            "one block is required.",
            "content",
        )
    for i, part in enumerate(letter.content):
        yield from _part(part, f"content.{i}")
    places = [_CONTENT_ORDER.get(part.type, 2) for part in letter.content]
    if places != sorted(places):
        yield _complaint(
            "Following RFC 1341, section 7.2, if either text/html or text/plain are to be sent in your email: "
            "text/plain needs to be first, followed by text/html, followed by any other content.",
            "content",
        )


def _part(part: Part, path: str) -> Iterator[Complaint]:
    if not part.type:
        yield _complaint("Your content type must be a string with length of at least one character.", f"{path}.type")
    elif _BREAKS_OUT.search(part.type):
        yield _complaint("Cannot contain ';', or CRLF characters.", f"{path}.type")
    if not part.value:
        yield _complaint("The content value must be a string at least one character in length.", f"{path}.value")


def _headers(letter: Letter) -> Iterator[Complaint]:
    for path, holder in _envelopes_and_letter(letter):
        for name, value in holder.headers.items():
            if not isinstance(value, str):
                yield _complaint("The header values must be strings.", f"{path}headers")
            elif not _HEADER_NAME.fullmatch(name):
                yield _complaint("Header keys cannot contain non-ASCII characters or empty spaces.", f"{path}headers")
            elif name.lower() in _RESERVED:
                yield _complaint("Header cannot be one of the reserved keys.", f"{path}headers.{name}")


def _envelopes_and_letter(letter: Letter) -> Iterator[tuple[str, Letter | Envelope]]:
    yield "", letter
    for i, envelope in enumerate(letter.personalizations):
        yield f"personalizations.{i}.", envelope


def _custom_args(letter: Letter) -> Iterator[Complaint]:
    for i, envelope in enumerate(letter.personalizations):
        args = letter.custom_args | envelope.custom_args
        if not all(isinstance(value, str) for value in args.values()):
            # The real one says no more than this, and every newcomer stumbles here.
            yield BAD_REQUEST
        elif len(msgspec.json.encode(args)) > CUSTOM_ARGS_BYTES:
            yield _complaint(
                "The combined size of both global and personalization custom arguments may not exceed 10,000 bytes "
                "per personalization.",
                f"personalizations.{i}.custom_args",
            )


def _categories(letter: Letter) -> Iterator[Complaint]:
    names = letter.categories
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
        if holder.send_at and holder.send_at > time.time() + SEND_AT_AHEAD_S:
            yield _complaint("Scheduling more than 72 hours in advance is forbidden.", f"{path}send_at")


def _attachments(letter: Letter) -> Iterator[Complaint]:
    for i, attachment in enumerate(letter.attachments):
        if not attachment.content:
            message = "The attachment content must be a string at least one character in length."
            yield _complaint(message, f"attachments.{i}.content")
        elif not _BASE64.fullmatch(attachment.content):
            yield _complaint("The attachment content must be base64 encoded.", f"attachments.{i}.content")
        if not attachment.filename:
            yield _complaint("filename is required.", f"attachments.{i}.filename")
        if attachment.disposition not in ("inline", "attachment"):
            message = 'The disposition of your attachment can be either "inline" or "attachment".'
            yield _complaint(f"{message} You provided {attachment.disposition}.", f"attachments.{i}.disposition")


def _unsubscribe_groups(letter: Letter) -> Iterator[Complaint]:
    if len(letter.asm.groups_to_display) > GROUPS_TO_DISPLAY:
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

"""E-mail: addresses in ASCII, headers that stay one line, a text for those who see no HTML."""

import re
from collections.abc import Mapping
from typing import Final

from email_validator import EmailNotValidError, validate_email

from tidings.channels.markup import link_flaw, text_of
from tidings.domain import header
from tidings.domain.errors import Invalid, TemplateFault
from tidings.domain.lanes import Channel
from tidings.domain.notification import Content
from tidings.domain.template import Fault, content_for, written_at

MOST_ADDRESS_CHARS: Final = 254
MOST_NAME_CHARS: Final = 200
_LABEL: Final = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_PLAIN: Final = re.compile(
    rf"(?=.{{3,{MOST_ADDRESS_CHARS}}}$)(?=[^@]{{1,64}}@)[a-z0-9_+-]+(?:\.[a-z0-9_+-]+)*@"
    rf"(?:(?!..--){_LABEL}\.)+(?:com|net|org|edu|gov|info|io|dev|app|eu|de|fr|uk|us|ca|nl|es|it|ch|at|be|se|pl|jp|in|br)"
)


class Email:
    """The channel's rules. An address keeps the case of its local part, which only its server may judge; two that
    differ in case alone count as the same recipient."""

    number: Final = Channel.email

    def normal(self, text: str, *, pointer: str = "") -> str:
        """At most 254 characters of ASCII: an international domain becomes its A-label, and a local part that has
        none is refused, because not every provider could send to it. Nothing is looked up."""
        if _PLAIN.fullmatch(text):  # what the validator would return unchanged; it takes 30 times as long
            return text
        if len(text) > MOST_ADDRESS_CHARS:
            raise Invalid(f"is longer than {MOST_ADDRESS_CHARS} characters", pointer=pointer)
        try:
            valid = validate_email(
                text, check_deliverability=False, allow_smtputf8=False, test_environment=True, strict=True
            )
        except EmailNotValidError as error:
            raise Invalid(str(error), pointer=pointer) from None
        address = valid.ascii_email or valid.normalized
        flaw = header.flaw(address)
        if flaw or len(address) > MOST_ADDRESS_CHARS:
            raise Invalid(flaw or f"is longer than {MOST_ADDRESS_CHARS} characters", pointer=pointer)
        return address

    def same(self, address: str) -> str:
        return address.lower()

    def sender(self, identity: Mapping[str, str], *, pointer: str) -> Mapping[str, str]:
        """``email``, and a ``name`` if one is to be shown."""
        for field in identity:
            if field not in ("email", "name"):
                raise Invalid("there is no such field", pointer=f"{pointer}/{field}")
        made = {"email": self.normal(identity.get("email", ""), pointer=f"{pointer}/email")}
        name = identity.get("name")
        if name is None:
            return made
        flaw = header.flaw(name) or (
            f"is longer than {MOST_NAME_CHARS} characters" if len(name) > MOST_NAME_CHARS else None
        )
        if flaw:
            raise Invalid(flaw, pointer=f"{pointer}/name")
        return made | {"name": name}

    def check(self, content: Content) -> None:
        fault = flaw_of(content_for(content, Channel.email))
        if fault is not None:
            raise Invalid(fault.message, pointer=written_at(content, Channel.email, fault.part[1:]))

    def shape(self, content: Content) -> Content:
        """A subject of one line, and text or HTML. HTML alone is given a text that is made from it."""
        fault = flaw_of(content)
        if fault is not None:
            raise TemplateFault(f"{fault.part[1:]}: {fault.message}")
        text, html = content.text or None, content.html or None
        return Content(subject=content.subject, text=text or text_of(html or ""), html=html)

    def units(self, content: Content) -> int:
        return 1


def flaw_of(content: Content) -> Fault | None:
    """What keeps this from being an e-mail."""
    subject = content.subject
    if subject is None or not subject.strip():
        return Fault("/subject", "an e-mail needs a subject")
    unsafe = header.flaw(subject)
    if unsafe:
        return Fault("/subject", unsafe)
    if not content.text and not content.html:
        return Fault("/text", "an e-mail needs text or html")
    for part, body in (("/text", content.text), ("/html", content.html)):
        if "\0" in (body or ""):
            return Fault(part, "contains NUL")
    link = link_flaw(content.html or "")
    return Fault("/html", link) if link else None

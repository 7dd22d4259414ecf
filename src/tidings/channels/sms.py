"""SMS: telephone numbers in E.164, senders that can be numbers or names, text that is paid for by the segment."""

import re
from collections.abc import Mapping
from typing import Final

from tidings.channels.telephone import e164
from tidings.domain.errors import Invalid, TemplateFault
from tidings.domain.lanes import Channel
from tidings.domain.notification import Content
from tidings.domain.segments import count
from tidings.domain.template import content_for, written_at

MOST_SEGMENTS: Final = 10
"""No text this short is too long for a provider: Twilio, for one, takes 1,600 characters."""

_SHORT_CODE: Final = re.compile(r"[0-9]{3,8}")
_NAME: Final = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9 &_-]{1,11}")
_SERVICE: Final = re.compile(r"MG[0-9a-fA-F]{32}")


class Sms:
    """The channel's rules. Whether a number is in use only a provider can say: new ranges are opened all the time, so
    none is refused here for anything but its length."""

    number: Final = Channel.sms

    def normal(self, text: str, *, pointer: str = "") -> str:
        """E.164. The country code must be there; blanks, dots, dashes, slashes and parentheses are taken out."""
        return e164(text, pointer)

    def same(self, address: str) -> str:
        return address

    def sender(self, identity: Mapping[str, str], *, pointer: str) -> Mapping[str, str]:
        """Either a ``number`` (E.164, a short code of 3 to 8 digits, or a name of at most 11 characters) or the id of a
        ``messaging_service``, which chooses a number itself."""
        for field in identity:
            if field not in ("number", "messaging_service"):
                raise Invalid("there is no such field", pointer=f"{pointer}/{field}")
        if len(identity) != 1:
            raise Invalid("give either a number or a messaging_service", pointer=pointer)
        if "number" in identity:
            return {"number": _from(identity["number"], f"{pointer}/number")}
        service = identity["messaging_service"]
        if not _SERVICE.fullmatch(service):
            detail = "the id of a messaging service is MG and 32 hexadecimal digits"
            raise Invalid(detail, pointer=f"{pointer}/messaging_service")
        return {"messaging_service": service}

    def check(self, content: Content) -> None:
        flaw = flaw_of(content_for(content, Channel.sms).text)
        if flaw is not None:
            raise Invalid(flaw, pointer=written_at(content, Channel.sms, "text"))

    def shape(self, content: Content) -> Content:
        """The text, as it was written."""
        flaw = flaw_of(content.text)
        if flaw is not None:
            raise TemplateFault(f"text: {flaw}")
        return Content(text=content.text)

    def units(self, content: Content) -> int:
        """Segments."""
        return count(content.text or "").segments


def flaw_of(text: str | None) -> str | None:
    """What keeps this from being sent."""
    if text is None or not text.strip():
        return "an SMS needs text"
    if "\0" in text:
        return "contains NUL"
    if any("\ud800" <= character <= "\udfff" for character in text):
        return "contains half of a surrogate pair"
    counted = count(text)
    if counted.segments > MOST_SEGMENTS:
        return f"takes {counted.segments} segments of {counted.encoding.name}; {MOST_SEGMENTS} at most"
    return None


def _from(text: str, pointer: str) -> str:
    """What an SMS may show as its sender."""
    if text.startswith("+"):
        return e164(text, pointer)
    if _SHORT_CODE.fullmatch(text) or _NAME.fullmatch(text):
        return text
    detail = "a sender is a number that begins with +, a short code of 3 to 8 digits, or a name of 1 to 11 characters"
    raise Invalid(detail, pointer=pointer)

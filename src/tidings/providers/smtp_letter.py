"""A message as mail servers pass it on (RFC 5322): seven bits, short lines, no header that breaks out."""

from collections.abc import Iterator
from datetime import UTC, datetime
from email.header import Header
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import Final

from tidings.domain.notification import Content
from tidings.ports import Message
from tidings.providers.mail_headers import named

_SEVEN_BITS: Final = SMTP.clone(cte_type="7bit")
_OURS: Final = ("from", "to", "subject", "date", "message-id", "reply-to", "mime-version", "sender", "bcc", "cc")


def letter(message: Message, message_id: str) -> bytes:
    """The whole of it. Headers are written as they stand where they are ASCII: nobody unfolds and folds them anew."""
    head = "".join([f"{name}: {_written(name, value)}\r\n" for name, value in _headers(message, message_id)])
    return head.encode() + _body(message.content).as_bytes()


def _headers(message: Message, message_id: str) -> Iterator[tuple[str, str]]:
    yield "From", _from(message.sender["email"], message.sender.get("name"))
    yield "To", message.to
    yield "Subject", message.content.subject or ""
    yield "Date", format_datetime(datetime.now(UTC))
    yield "Message-ID", f"<{message_id}>"
    if message.reply_to:
        yield "Reply-To", message.reply_to
    for name, value in message.headers.items():
        if name.lower() not in _OURS and not name.lower().startswith("content-"):
            yield name, value


def _from(address: str, name: str | None) -> str:
    if (name or "").isascii():
        return named(address, name)
    return Header(name, "utf-8").encode(linesep="\r\n") + f" <{address}>"


def _written(name: str, value: str) -> str:
    return value if value.isascii() else Header(value, "utf-8", header_name=name).encode(linesep="\r\n")


def _body(content: Content) -> EmailMessage:
    """The text, the markup, or one as the alternative of the other."""
    body = EmailMessage(policy=_SEVEN_BITS)
    if content.text or not content.html:
        body.set_content(content.text or "")
        if content.html:
            body.add_alternative(content.html, subtype="html")
    else:
        body.set_content(content.html, subtype="html")
    return body

"""A mail server that takes messages for others (RFC 5321), and whose bounces are mails themselves."""

import random
import re
import secrets
from collections.abc import Mapping, Sequence
from email import message_from_bytes
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import default
from typing import Final, cast

import msgspec

from tidings.sandbox.certificate import authority_pem
from tidings.sandbox.signing import SigningKey
from tidings.sandbox.smtp_bounce import bounce
from tidings.sandbox.standin import Account, Fate, Message, News, Parcel

USERNAME: Final = "tidings"
SENDER: Final = "sender"
_SECRET: Final = "smtp"  # noqa: S105, the name of a secret
_REFERENCE: Final = re.compile(r"([0-9a-f]{32}-\d+)@.+")
_ONCE: Final = ("From", "Sender", "Reply-To", "To", "Cc", "Message-ID", "In-Reply-To", "References", "Subject", "Date")
_SHOWN: Final = frozenset({"from", "to", "subject", "reply-to", "message-id", "date", "mime-version"})


class Mail(msgspec.Struct, frozen=True, gc=False):
    """An envelope and what is in it, as it came; ``password`` is the sender's, empty for one who did not log in."""

    sender: str
    recipients: Sequence[str]
    content: bytes
    password: str


class Smtp:
    """The stand-in for a mail server. It asks nobody to log in unless it knows the one password that is right, as
    servers do that trust their own network."""

    name: str = "smtp"
    channel: str = "email"
    scheme: str = "smtp"
    limit_bytes: int = 25 << 20
    reports: bool = True

    def __init__(self, account: Account) -> None:
        self._account = account
        self.key = account.key

    def welcomes(self, password: str) -> bool:
        """``password`` is empty for one who did not log in."""
        expected = self._account.api_key
        return expected is None or secrets.compare_digest(password.encode(), expected.encode())

    def read(self, mail: Mail, queue_id: str) -> Message | str:
        """What is taken, or the reply that refuses it."""
        parsed = message_from_bytes(mail.content, policy=default)
        flaw = _flaw(parsed)
        if flaw is not None:
            return f"550 5.7.1 This message is not compliant with RFC 5322: {flaw}"
        message_id = str(parsed["Message-ID"] or f"<{queue_id}@localhost>").strip().strip("<>")
        named = _REFERENCE.fullmatch(message_id)
        return Message(
            recipients=tuple(mail.recipients),
            reference=named and named[1],
            content=_content(parsed),
            message_id=message_id,
            echoed={SENDER: mail.sender},
            callback=self._account.callback(mail.password),
            size=len(mail.content),
        )

    @staticmethod
    def customer(url: str, key: SigningKey, who: str) -> Mapping[str, str]:
        return {
            "url": url,
            "tls": "starttls",
            "ca": authority_pem(key),
            "username": USERNAME,
            "password": f"password-{who}",
            "bounce_secret": key.secret(_SECRET),
        }

    def webhooks(self, news: Sequence[News], *, shuffle: bool) -> Sequence[Parcel]:
        """A bounce is a mail, and what gets it hands it on. Of all else a mail server says nothing."""
        headers = {"Content-Type": "message/rfc822", "Authorization": f"Bearer {self.key.secret(_SECRET)}"}
        parcels = [
            Parcel(item.message.callback, headers, bounce(item, to, item.message.echoed[SENDER]))
            for item in news
            for to in item.message.recipients
            if item.fate == Fate.bounced and item.message.callback is not None
        ]
        if shuffle:
            random.shuffle(parcels)
        return parcels


def _flaw(mail: EmailMessage) -> str | None:
    """What large receivers refuse."""
    twice = next((name for name in _ONCE if len(mail.get_all(name, ())) > 1), None)
    if twice is not None:
        return f"there are multiple {twice} headers"
    senders = _addresses(mail, "From")
    return None if senders and all(one.domain for one in senders) else "the From header is missing or has no address"


def _content(mail: EmailMessage) -> dict[str, object]:
    """What the page and the ledger show; fields without a value are left out."""
    content = {
        "from": _person(mail, "From"),
        "reply_to": _person(mail, "Reply-To"),
        "subject": str(mail["Subject"] or ""),
        "text": _text(mail, "plain"),
        "html": _text(mail, "html"),
        "headers": {name: str(value) for name, value in mail.items() if not _is_shown(name)},
        "attachments": [part.get_filename("") for part in mail.iter_attachments()],
    }
    return {field: value for field, value in content.items() if value}


def _is_shown(name: str) -> bool:
    """Somewhere else than among the headers."""
    return name.lower() in _SHOWN or name.lower().startswith("content-")


def _text(mail: EmailMessage, kind: str) -> str:
    part = mail.get_body((kind,))
    return str(part.get_content()).replace("\r\n", "\n") if part else ""


def _person(mail: EmailMessage, header: str) -> dict[str, str] | None:
    first = next(iter(_addresses(mail, header)), None)
    return {"email": first.addr_spec, "name": first.display_name} if first else None


def _addresses(mail: EmailMessage, header: str) -> Sequence[Address]:
    return cast(Sequence[Address], mail[header].addresses) if header in mail else ()

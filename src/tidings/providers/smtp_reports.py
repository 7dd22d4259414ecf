"""What mail servers tell later: a bounce is a mail (RFC 3464), handed on by the server that got it.

Anybody can write such a mail. So it counts for nothing but the delivery whose reference it returns, which only those
know who had the message, and whatever it says is bounded before it is parsed.
"""

import hmac
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from email.message import Message as Mail
from email.parser import BytesHeaderParser, BytesParser
from email.policy import compat32
from email.utils import parsedate_to_datetime
from typing import Any, Final

from tidings.domain.outcome import Gone, Receipt
from tidings.ports import WebhookCall
from tidings.providers.mail_bounces import bounced
from tidings.providers.webhooks import RAW_BYTES, event_key, text

STATUSES: Final[Mapping[str, str]] = {"failed": "undelivered", "delivered": "delivered"}
"""By action. All others are news only, such as a delay: the server tries again by itself."""

REPORT_BYTES: Final = 65_536
REPORT_LINES: Final = 2_000
"""The report stands before the message that it returns; what lies beyond either is not read."""

_PARTS: Final = 32
_RECIPIENTS: Final = 16
_CONTENT: Final = re.compile(rb"^content-type[ \t]*:", re.IGNORECASE | re.MULTILINE)
_REFERENCE: Final = re.compile(r"(?<![0-9a-f])([0-9a-f]{32}-\d{1,5})(?:@[^\s<>]+)?(?![^\s<>])")
_RETURNED: Final = ("message/rfc822", "text/rfc822-headers")


def reported(call: WebhookCall, secret: str) -> Sequence[Receipt] | None:
    """What a mail that was handed on says of its message, recipient by recipient; nothing, if it is another mail."""
    given = call.headers.get("authorization", "").encode()
    if not secret or not hmac.compare_digest(given, f"Bearer {secret}".encode()):
        return None
    report = _report(b"".join(call.body[:REPORT_BYTES].splitlines(keepends=True)[:REPORT_LINES]))
    return [] if report is None else list(_receipts(report, call.body))


def _report(raw: bytes) -> Mail | None:
    """None for what is no report on a delivery. Parts inside parts cost more than they weigh, so there are few."""
    if len(_CONTENT.findall(raw)) > _PARTS:
        return None
    mail = BytesParser(policy=compat32).parsebytes(raw)
    kind = mail.get_content_type(), str(mail.get_param("report-type")).lower()
    return mail if mail.is_multipart() and kind == ("multipart/report", "delivery-status") else None


def _receipts(report: Mail, raw: bytes) -> Iterator[Receipt]:
    parts = _mails(report)
    status = next((_mails(part) for part in parts if part.get_content_type() == "message/delivery-status"), [])
    message_id = _message_id(parts)
    named = [_said(part, "Original-Envelope-Id") for part in status[:1]]
    reference = _reference(*named, message_id, _said(report, "In-Reply-To"), _said(report, "References"))
    known_by, occurred_at = _said(report, "Message-ID"), _date(report)
    for n, recipient in enumerate(status[1 : _RECIPIENTS + 1]):
        if action := text(_said(recipient, "Action").lower()):
            yield Receipt(
                reference=reference,
                event_key=event_key(known_by and f"{n} {known_by}", b"%d %b" % (n, raw)),
                kind=action,
                status=STATUSES.get(action),
                reason=_why(recipient),
                message_id=text(message_id),
                occurred_at=occurred_at,
                raw=_lines(recipient),
                gone=_gone(action, recipient),
            )


def _mails(part: Mail) -> list[Mail]:
    """The parts of a part, or the groups of lines of a status."""
    inside: Any = part.get_payload()
    return [one for one in inside if isinstance(one, Mail)] if isinstance(inside, list) else []


def _said(part: Mail, name: str) -> str:
    """A header without its folds; empty when there is none."""
    return " ".join(str(part.get(name, "")).split())


def _message_id(parts: Sequence[Mail]) -> str:
    """The Message-ID of the message that is returned, or of its headers if they are all that is."""
    for part in parts:
        if part.get_content_type() in _RETURNED:
            headers: Any = part.get_payload(decode=True)
            whole = _mails(part) or [BytesHeaderParser(policy=compat32).parsebytes(headers or b"")]
            return _said(whole[0], "Message-ID").strip("<>")
    return ""


def _reference(*texts: str) -> str | None:
    found = (_REFERENCE.search(one) for one in texts)
    return next((one[1] for one in found if one), None)


def _why(recipient: Mail) -> str | None:
    """The words of the server that refused it, else the status alone."""
    diagnostic = _said(recipient, "Diagnostic-Code").partition(";")[2].strip()
    return text(diagnostic) or text(_said(recipient, "Status"))


def _gone(action: str, recipient: Mail) -> Gone | None:
    replies = (_said(recipient, "Status"), _why(recipient) or "")
    return Gone.hard_bounce if action == "failed" and any(map(bounced, replies)) else None


def _date(report: Mail) -> datetime:
    """By the server's clock; now, if it does not say it."""
    try:
        return parsedate_to_datetime(_said(report, "Date")).astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        return datetime.now(UTC)


def _lines(recipient: Mail) -> bytes:
    lines = "\n".join([f"{name}: {value}" for name, value in recipient.items()])
    return lines.encode("utf-8", "replace")[:RAW_BYTES]

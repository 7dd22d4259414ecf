"""The mail that tells a sender that his could not be delivered (RFC 3464)."""

from email.utils import format_datetime
from typing import Final

from tidings.sandbox.standin import News

_BOUNDARY: Final = "=_bounce"
_WHY: Final = "550 5.1.1 <{to}>: Recipient address rejected: User unknown"
_MAIL: Final = """\
Return-Path: <>
From: Mail Delivery System <MAILER-DAEMON@localhost>
To: {sender}
Subject: Undelivered Mail Returned to Sender
Date: {date}
Message-ID: <bounce.{n}.{message_id}>
Auto-Submitted: auto-replied
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="{boundary}"

--{boundary}
Content-Type: text/plain; charset=us-ascii

I'm sorry to have to inform you that your message could not be delivered
to one or more recipients.

<{to}>: host mx.example.com said: {why} (in reply to RCPT TO command)

--{boundary}
Content-Type: message/delivery-status

Reporting-MTA: dns; localhost
Arrival-Date: {date}

Final-Recipient: rfc822; {to}
Original-Recipient: rfc822;{to}
Action: failed
Status: 5.1.1
Remote-MTA: dns; mx.example.com
Diagnostic-Code: smtp; {why}

--{boundary}
Content-Type: text/rfc822-headers

Message-ID: <{message_id}>
From: {sender}
To: {to}

--{boundary}--
"""


def bounce(news: News, to: str, sender: str) -> bytes:
    """What becomes of the message for one of its recipients. The same news always make the same mail."""
    message = news.message
    made = _MAIL.format(
        boundary=_BOUNDARY,
        date=format_datetime(news.at),
        message_id=message.message_id,
        n=message.recipients.index(to),
        sender=sender,
        to=to,
        why=_WHY.format(to=to),
    )
    return made.encode().replace(b"\n", b"\r\n")

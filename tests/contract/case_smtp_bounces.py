"""The bounces of mail servers, as different servers write them, and what each has to become."""

from collections.abc import Iterator
from datetime import UTC, datetime

import msgspec
from provider_case import REFERENCE, Mutant, Sign, Webhook

from tidings.domain.outcome import Gone, Receipt
from tidings.ports import WebhookCall
from tidings.providers import smtp_reports

BOUNCE_SECRET = "bounces-must-not-be-forged"
_MESSAGE_ID = f"{REFERENCE}@example.com"
_AT = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
_HEADERS = f"Message-ID: <{_MESSAGE_ID}>\nFrom: shop@example.com\nSubject: Order 12345\n"
_NOBODY = "Action: failed\nStatus: 5.1.1\nDiagnostic-Code: smtp; 550 5.1.1 no such user"


def _report(*recipients: str, returned: str = _HEADERS, as_: str = "text/rfc822-headers", more: str = "") -> bytes:
    """A report with these groups of lines about recipients; ``more`` are header lines of its own."""
    groups = "".join([f"\nFinal-Recipient: rfc822; ada@example.com\n{one}\n" for one in recipients])
    mail = (
        "From: MAILER-DAEMON@mail.example.com\nTo: shop@example.com\nSubject: Undelivered Mail\n"
        f"Message-ID: <bounce-1@mail.example.com>\nDate: Mon, 23 Nov 2026 10:30:00 +0100\n{more}MIME-Version: 1.0\n"
        'Content-Type: multipart/report; report-type="delivery-status"; boundary=xx\n\nA preamble.\n'
        "--xx\nContent-Type: text/plain; charset=utf-8\n\nNobody there. Grüße\n"
        "--xx\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; mail.example.com\n"
        f"{'Original-Envelope-Id: ' + REFERENCE if not returned else 'X-Queue-ID: 4F2'}\n{groups}"
    )
    if returned:
        mail += f"\n--xx\nContent-Type: {as_}\n\n{returned}"
    return f"{mail}\n--xx--\n".replace("\n", "\r\n").encode()


def _receipt(n: int = 0, kind: str = "failed", status: str | None = "undelivered", **more: object) -> Receipt:
    usual = {
        "reference": REFERENCE,
        "event_key": f"{n} <bounce-1@mail.example.com>",
        "kind": kind,
        "status": status,
        "reason": "550 5.1.1 no such user",
        "message_id": _MESSAGE_ID,
        "occurred_at": _AT,
        "raw": b"",
    }
    return Receipt(**{**usual, **more})  # type: ignore[arg-type]


_GONE = _receipt(gone=Gone.hard_bounce)
BOUNCES = {
    "nobody there": Webhook(_report(_NOBODY), [_GONE]),
    "the whole message returned": Webhook(
        _report(_NOBODY, returned=f"Received: by x\n{_HEADERS}\n<p>Hello</p>\n", as_="message/rfc822"), [_GONE]
    ),
    "a status that only the words have": Webhook(_report(_NOBODY.replace("5.1.1\n", "5.0.0\n")), [_GONE]),
    "a status without words": Webhook(
        _report("Action: failed\nStatus: 5.1.10"), [_receipt(gone=Gone.hard_bounce, reason="5.1.10")]
    ),
    "words over more lines": Webhook(
        _report("Action: failed\nStatus: 5.2.2\nDiagnostic-Code: smtp; 552-5.2.2 the mailbox\n    is full"),
        [_receipt(reason="552-5.2.2 the mailbox is full")],
    ),
    "given up after days": Webhook(
        _report("Action: failed\nStatus: 4.4.7\nDiagnostic-Code: X-Postfix; timed out"), [_receipt(reason="timed out")]
    ),
    "the sender's address refused": Webhook(_report("Action: failed\nStatus: 5.1.8"), [_receipt(reason="5.1.8")]),
    "later perhaps": Webhook(
        _report("Action: delayed\nStatus: 5.1.1"), [_receipt(kind="delayed", status=None, reason="5.1.1")]
    ),
    "arrived": Webhook(
        _report("Action: delivered\nStatus: 2.1.5"), [_receipt(kind="delivered", status="delivered", reason="2.1.5")]
    ),
    "passed on": Webhook(
        _report("Action: relayed\nStatus: 2.0.0"), [_receipt(kind="relayed", status=None, reason="2.0.0")]
    ),
    "two recipients": Webhook(
        _report(_NOBODY, "Action: delivered\nStatus: 2.1.5"),
        [_GONE, _receipt(1, kind="delivered", status="delivered", reason="2.1.5")],
    ),
    "nothing returned but the envelope's id": Webhook(
        _report(_NOBODY, returned=""), [msgspec.structs.replace(_GONE, message_id=None)]
    ),
    "a reply to the message": Webhook(
        _report(_NOBODY, returned="Subject: x\n", more=f"In-Reply-To: <{_MESSAGE_ID}>\n"),
        [msgspec.structs.replace(_GONE, message_id=None)],
    ),
    "another's message": Webhook(
        _report(_NOBODY, returned="Message-ID: <x@example.com>\n"),
        [_receipt(reference=None, message_id="x@example.com", gone=Gone.hard_bounce)],
    ),
    "nobody named": Webhook(_report(), []),
    "an absence": Webhook(b"From: ada@example.com\r\nSubject: I am away\r\n\r\nBack on Monday.\r\n", []),
    "nothing": Webhook(b"", []),
}

_REPORT = _report(_NOBODY)
HOSTILE = [
    b"\0" * 1000,
    b"\xff\xfe" * 1000,
    _REPORT.replace(b"5.1.1", b"\xff" * 600).replace(b"bounce-1", b"x" * 500),
    _REPORT.replace(b"Action: failed", b"Action: " + b"f\0" * 5000),
    _REPORT.replace(b"no such user", b"=?utf-8?q?=00=ff?=\0" * 200),
    _REPORT.replace(b"Mon, 23 Nov 2026 10:30:00 +0100", b"Mon, 01 Jan 0001 00:00:00 +1400"),
    _REPORT.replace(b"Mon, 23 Nov 2026 10:30:00 +0100", b"Fri, 31 Dec 9999 23:59:59 -1200"),
    _REPORT.replace(b"Mon, 23 Nov 2026 10:30:00 +0100", b"99999999999999999999"),
    _REPORT.replace(b'"delivery-status"', b"delivery-status*0*=x'y'%ff"),
    _REPORT.replace(b"message/delivery-status", b"message/rfc822"),
    _REPORT.replace(b"\r\n\r\nReporting", b"\r\n" + b"\r\nX: y" * 20_000 + b"\r\n\r\nReporting"),
    _REPORT.replace(b"Reporting-MTA", b"\r\n" * 30_000 + b"Reporting-MTA"),
    _REPORT.replace(b"\r\n--xx--", b"\r\nFinal-Recipient: rfc822; a\r\nAction: failed\r\n" * 3000 + b"\r\n--xx--"),
    b"Content-Type: multipart/report; report-type=delivery-status; boundary=a\r\n\r\n"
    + b"--a\r\nContent-Type: multipart/mixed; boundary=a\r\n\r\n" * 5000,
    b"Content-Type: message/rfc822\r\n\r\n" * 5000,
    b"Content-Type: multipart/digest; boundary=a\r\n\r\n" + b"--a\r\n\r\n" * 10_000,
]


def signed_with(secret: str) -> Sign:
    def sign(call: WebhookCall) -> WebhookCall:
        return msgspec.structs.replace(call, headers={"authorization": f"Bearer {secret}"})

    return sign


def forgeries(call: WebhookCall) -> Iterator[WebhookCall]:
    """The secret is all that is checked: who has it handed the mail on, and nobody knows who wrote that."""
    (right,) = call.headers.values()
    for wrong in ("", "Bearer", "Bearer ", right[:-1], right[1:], f"{right} ", f"{right}x", right[7:], "é", "x" * 5000):
        yield msgspec.structs.replace(call, headers={"authorization": wrong})


def bounce_mutants() -> Iterator[Mutant]:
    right = smtp_reports.STATUSES
    for action in (*right, "delayed", "relayed"):
        for status in {"sent", "delivered", "undelivered"} - {right.get(action)}:
            yield smtp_reports, "STATUSES", {**right, action: status}
    for action in right:
        yield smtp_reports, "STATUSES", {other: status for other, status in right.items() if other != action}

"""The row of mail servers."""

from collections.abc import Iterator

from case_smtp_bounces import BOUNCE_SECRET, BOUNCES, HOSTILE, bounce_mutants, forgeries, signed_with
from provider_case import REFERENCE, Case, Dialect, Due, Mutant, Scripted
from wire_peer import Talk

from tidings.domain.lanes import Channel
from tidings.domain.notification import Content
from tidings.domain.outcome import Gone, Outcome, Refused, Sent, TryLater, TryNext, Unsure
from tidings.ports import Message
from tidings.providers import smtp

_PASSWORD = "this-must-never-be-shown"
_ONCE = ("greeting", "EHLO", "AUTH")
_ELSEWHERE = "the step that is due comes on a new connection only"
_WRONG = {smtp.Verdict.refuse, smtp.Verdict.next, smtp.Verdict.unsure}
_REPLIES = {
    "EHLO": b"250-mail.example.com\r\n250-8BITMIME\r\n250 AUTH PLAIN LOGIN\r\n",
    "AUTH": b"235 2.7.0 welcome\r\n",
    "DATA": b"354 go on\r\n",
}


async def _hear(talk: Talk, due: Due) -> None:
    """Plays a patient server up to the step whose answer is due: without one, the end of the message."""
    if talk.spoke and due() in _ONCE:
        raise ConnectionResetError(_ELSEWHERE)
    if not talk.spoke:
        if due() == "greeting":
            return
        await talk.say(b"220 mail.example.com ESMTP\r\n")
    while True:
        verb = (await talk.line()).split(b" ")[0].strip().decode().upper()
        if verb == due():
            return
        if due() in _ONCE and verb == "RSET":
            raise ConnectionResetError(_ELSEWHERE)
        await talk.say(_REPLIES.get(verb, b"250 2.0.0 ok\r\n"))
        if verb == "DATA":
            await talk.until(b"\r\n.\r\n")
            return


def _lines(seen: bytes) -> bytes:
    """The commands, and the headers of the message."""
    commands, _, content = seen.partition(b"\r\nDATA\r\n")
    return commands + b"\r\n" + content.partition(b"\r\n\r\n")[0]


SMTP = Dialect(
    scheme="smtp",
    hear=_hear,
    sent=lambda seen: b"\r\n.\r\n" in seen,
    lines=_lines,
    refusal=lambda status, words: f"{status} {words}\r\n".encode(),
    foreign=b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    flood=b"250-and so on\r\n" * 500_000,
    endless=(b"", b"250-and so on\r\n" * 1000),
)


def _at(step: str, reply: str, becomes: Outcome) -> Scripted:
    return Scripted(f"{reply}\r\n".encode(), becomes, step)


def _end(reply: str, becomes: Outcome) -> Scripted:
    return _at("", reply, becomes)


def _resting(code: int, after_s: float = 60.0) -> TryLater:
    return TryLater(f"smtp_{code}", after_s=after_s, account=True)


_SMTP_ANSWERS = {
    "250": _end("250 2.0.0 Ok: queued as 4F2", Sent(f"{REFERENCE}@example.com")),
    "250 in two lines": _end("250-2.0.0 Ok\r\n250 queued", Sent(f"{REFERENCE}@example.com")),
    "250 without a word": _end("250", Sent(f"{REFERENCE}@example.com")),
    "300 at the end": _end("300 what", Unsure("smtp_300")),
    "354 at the end": _end("354 more", Unsure("smtp_354")),
    "421 at the end": _end("421 4.3.2 going down", TryNext("smtp_421")),
    "451 at the end": _end("451 4.7.1 greylisted", TryLater("smtp_451")),
    "452 at the end": _end("452 4.3.1 no room", TryLater("smtp_452")),
    "550 at the end": _end("550 5.1.1 nobody", Refused("smtp_550")),
    "552 at the end": _end("552 5.3.4 too big", Refused("smtp_552")),
    "554 at the end": _end("554 5.7.1 spam", Refused("smtp_554")),
    "421 instead of a greeting": _at("greeting", "421 4.3.2 too many connections", TryNext("smtp_421")),
    "450 instead of a greeting": _at("greeting", "450 later", TryNext("smtp_450")),
    "554 instead of a greeting": _at("greeting", "554 no service here", TryNext("smtp_554")),
    "354 instead of a greeting": _at("greeting", "354 what", TryNext("smtp_354")),
    "450 to EHLO": _at("EHLO", "450 later", TryNext("smtp_450")),
    "502 to EHLO": _at("EHLO", "502 5.5.2 unknown", TryNext("smtp_502")),
    "530 to AUTH": _at("AUTH", "530 5.7.0 STARTTLS first", _resting(530)),
    "534 to AUTH": _at("AUTH", "534 5.7.9 too weak", _resting(534)),
    "535 to AUTH": _at("AUTH", "535 5.7.8 bad credentials", _resting(535)),
    "538 to AUTH": _at("AUTH", "538 5.7.11 encrypt", _resting(538)),
    "504 to AUTH": _at("AUTH", "504 5.5.4 unknown mechanism", _resting(504)),
    "454 to AUTH": _at("AUTH", "454 4.7.0 temporary failure", _resting(454, 10.0)),
    "334 to AUTH": _at("AUTH", "334 go on", TryNext("smtp_334")),
    "250 to DATA": _at("DATA", "250 what", TryNext("smtp_250")),
    "354 to RCPT": _at("RCPT", "354 what", TryNext("smtp_354")),
    "421 to MAIL": _at("MAIL", "421 4.7.0 too many messages", TryNext("smtp_421")),
    "451 to MAIL": _at("MAIL", "451 4.3.0 later", TryLater("smtp_451")),
    "530 to MAIL": _at("MAIL", "530 5.7.0 log in first", _resting(530)),
    "534 to MAIL": _at("MAIL", "534 5.7.9 too weak", _resting(534)),
    "535 to MAIL": _at("MAIL", "535 5.7.8 log in first", _resting(535)),
    "538 to MAIL": _at("MAIL", "538 5.7.11 encrypt", _resting(538)),
    "550 to MAIL": _at("MAIL", "550 5.7.1 not your address", Refused("smtp_550")),
    "550 to MAIL, the sender": _at("MAIL", "550 5.1.7 bad sender", Refused("smtp_550")),
    "450 to RCPT": _at("RCPT", "450 4.2.0 greylisted", TryLater("smtp_450")),
    "550 to RCPT": _at("RCPT", "550 5.1.1 nobody of that name", Refused("smtp_550", gone=Gone.hard_bounce)),
    "551 to RCPT": _at("RCPT", "551 5.1.6 moved away", Refused("smtp_551", gone=Gone.hard_bounce)),
    "553 to RCPT": _at("RCPT", "553 5.1.3 no such form", Refused("smtp_553", gone=Gone.hard_bounce)),
    "550 to RCPT, no relay": _at("RCPT", "550 5.7.1 relaying denied", Refused("smtp_550")),
    "550 to RCPT, in words": _at("RCPT", "550 no such user", Refused("smtp_550")),
    "552 to RCPT": _at("RCPT", "552 5.2.2 mailbox full", Refused("smtp_552")),
    "421 to RCPT": _at("RCPT", "421 4.3.2 going down", TryNext("smtp_421")),
    "451 to DATA": _at("DATA", "451 4.3.0 later", TryLater("smtp_451")),
    "554 to DATA": _at("DATA", "554 5.5.1 no valid recipients", Refused("smtp_554")),
}


def _smtp_mutants() -> Iterator[Mutant]:
    yield from bounce_mutants()
    for key, right in smtp.VERDICTS.items():
        yield smtp, "VERDICTS", {other: verdict for other, verdict in smtp.VERDICTS.items() if other != key}
        for wrong in _WRONG - {right}:
            yield smtp, "VERDICTS", {**smtp.VERDICTS, key: wrong}
    for step, by_class in smtp.BY_CLASS.items():
        for digit in {int(name[0]) for name, one in _SMTP_ANSWERS.items() if (one.at or smtp.DOT) == step}:
            for wrong in _WRONG - {by_class.get(digit, smtp.Verdict.unsure)}:
                yield smtp, "BY_CLASS", {**smtp.BY_CLASS, step: {**by_class, digit: wrong}}


SMTP_SERVER = Case(
    kind="smtp",
    channel=Channel.email,
    settings={
        "username": "shop",
        "password": _PASSWORD,
        "hello": "shop.example.com",
        "bounce_secret": BOUNCE_SECRET,
    },
    secrets=[_PASSWORD, BOUNCE_SECRET],
    message=Message(
        reference=REFERENCE,
        to="ada@example.com",
        content=Content(subject="Order 12345", text="Thank you.\r\n", html="<p>Thank you.</p>"),
        sender={"email": "shop@example.com", "name": "The Shop"},
        headers={"List-Unsubscribe": "<https://example.com/u/1>"},
        reply_to="help@example.com",
    ),
    answers=_SMTP_ANSWERS,
    webhooks=BOUNCES,
    hostile=HOSTILE,
    sign=signed_with(BOUNCE_SECRET),
    sign_as_stranger=signed_with("another-secret"),
    forgeries=forgeries,
    mutants=_smtp_mutants,
    dialect=SMTP,
)

"""What Twilio's Messages checks, and the numbers and words that it answers with (its published list of errors)."""

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl

import msgspec

MORE: Final = "https://www.twilio.com/docs/errors/"
BODY_CHARS: Final = 1600
STOP: Final = frozenset({"STOP", "STOPALL", "UNSUBSCRIBE", "CANCEL", "END", "QUIT"})
START: Final = frozenset({"START", "YES", "UNSTOP"})

_NUMBER: Final = re.compile(r"\+[1-9][0-9]{6,14}")
_SENDER: Final = re.compile(r"\+[1-9][0-9]{6,14}|[0-9]{3,8}|(?=.*[A-Za-z])[A-Za-z0-9 &_+-]{1,11}")
_SERVICE: Final = re.compile(r"MG[0-9a-fA-F]{32}")
_CALLBACK: Final = re.compile(r"https?://[A-Za-z0-9.-]+(:[0-9]+)?(/[!-~]*)?")


class Complaint(msgspec.Struct, frozen=True, gc=False):
    """One error as Twilio writes it."""

    status: int
    code: int
    message: str


MAGIC_SENDERS: Final[Mapping[str, Complaint]] = {
    "+15005550001": Complaint(400, 21212, "Invalid From Number (caller ID): +15005550001"),
    "+15005550007": Complaint(400, 21606, "The From phone number +15005550007 is not a valid, SMS-capable number."),
    "+15005550008": Complaint(429, 21611, "This From number has exceeded the maximum number of queued messages"),
}
MAGIC_NUMBERS: Final[Mapping[str, Complaint]] = {
    "+15005550001": Complaint(400, 21211, "Invalid 'To' Phone Number: +15005550001"),
    "+15005550002": Complaint(400, 21612, "The 'To' phone number: +15005550002, is not currently reachable via SMS."),
    "+15005550003": Complaint(400, 21408, "Permission to send an SMS has not been enabled for the region"),
    "+15005550004": Complaint(400, 21610, "Attempt to send to unsubscribed recipient"),
    "+15005550009": Complaint(400, 21614, "'To' number: +15005550009, is not a valid mobile number"),
}
"""What Twilio's test numbers always meet with."""

INVALID: Final = MAGIC_NUMBERS["+15005550001"]
UNREACHABLE: Final = MAGIC_NUMBERS["+15005550002"]
OPTED_OUT: Final = MAGIC_NUMBERS["+15005550004"]


class Order(msgspec.Struct, frozen=True, gc=False):
    """A message to be sent. ``sender`` None: the messaging service chooses one. ``reference`` is ours, from the
    query of the callback."""

    to: str
    sender: str | None
    service: str | None
    body: str
    callback: str | None
    reference: str | None


def read(body: bytes) -> Order | Complaint:
    """From the form of a request."""
    form = dict(parse_qsl(body.decode("utf-8", "replace")))
    callback = form.get("StatusCallback")
    order = Order(
        to=form.get("To", ""),
        sender=form.get("From"),
        service=form.get("MessagingServiceSid"),
        body=form.get("Body", ""),
        callback=callback,
        reference=dict(parse_qsl((callback or "").partition("?")[2])).get("ref"),
    )
    return _about_people(order) or _about_content(order) or order


def _about_people(order: Order) -> Complaint | None:
    if not order.to:
        return Complaint(400, 21604, "A 'To' phone number is required.")
    if not _NUMBER.fullmatch(order.to):
        return Complaint(400, 21211, f"Invalid 'To' Phone Number: {order.to}")
    if order.service is not None and not _SERVICE.fullmatch(order.service):
        return Complaint(400, 21705, f"The Messaging Service Sid {order.service} is invalid.")
    if order.service is None and not order.sender:
        return Complaint(400, 21603, "A 'From' phone number is required.")
    if order.sender and not _SENDER.fullmatch(order.sender):
        return Complaint(400, 21212, f"Invalid From Number (caller ID): {order.sender}")
    return MAGIC_SENDERS.get(order.sender or "") or MAGIC_NUMBERS.get(order.to)


def _about_content(order: Order) -> Complaint | None:
    if not order.body:
        return Complaint(400, 21602, "Message body is required.")
    if len(order.body) > BODY_CHARS:
        return Complaint(400, 21617, f"The concatenated message body exceeds the {BODY_CHARS} character limit")
    if order.callback is not None and not _CALLBACK.fullmatch(order.callback):
        return Complaint(400, 21609, f"The StatusCallback URL {order.callback} is not a valid URL.")
    return None

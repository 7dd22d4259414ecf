"""What WhatsApp's Cloud API checks in a message, and the errors it has for it."""

import re
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

MOST_CHARS: Final = 4096
MOST_ECHOED_CHARS: Final = 512
_TO: Final = re.compile(r"\+?[1-9][0-9]{6,15}")
_TEMPLATE: Final = re.compile(r"[a-z0-9_]{1,512}")
_BLANK: Final = re.compile(r"\{\{[0-9]+\}\}")
_LANGUAGE: Final = re.compile(r"[a-z]{2,3}(_[A-Z]{2,3})?")


class Complaint(msgspec.Struct, frozen=True):
    """An error in WhatsApp's words, with the status it comes with."""

    status: int
    code: int
    message: str
    details: str = ""


APPROVED: Final[Mapping[str, str]] = {
    "order_confirmation": "Hello {{1}}, your order {{2}} of {{3}} is confirmed and on its way.",
    "order_update": "Hello {{1}}, there is news of your order {{2}}.",
}
"""What stands in some templates, so that the page can show them filled. Any other name counts as approved too."""

CLOSED: Final = Complaint(
    400,
    131047,
    "Re-engagement message",
    "Message failed to send because more than 24 hours have passed since the customer last replied to this number.",
)
UNDELIVERABLE: Final = Complaint(400, 131026, "Message undeliverable", "Receiver is incapable of receiving it.")
NO_TEMPLATE: Final = Complaint(404, 132001, "Template name does not exist in the translation")
BAD_TOKEN: Final = Complaint(401, 190, "Invalid OAuth access token - Cannot parse access token")


class _Text(msgspec.Struct, frozen=True):
    body: str = ""


class _Language(msgspec.Struct, frozen=True):
    code: str = ""


class _Parameter(msgspec.Struct):
    type: str
    text: str | None = None
    parameter_name: str | None = None


class _Component(msgspec.Struct):
    type: str
    parameters: Sequence[_Parameter] = ()
    sub_type: str | None = None
    index: str | int | None = None


class _Template(msgspec.Struct):
    name: str = ""
    language: _Language = _Language()
    components: Sequence[_Component] = ()


class Order(msgspec.Struct):
    """A message as it was asked for."""

    messaging_product: str = ""
    to: str = ""
    type: str = "text"
    recipient_type: str = "individual"
    text: _Text | None = None
    template: _Template | None = None
    biz_opaque_callback_data: str | None = None

    @property
    def number(self) -> str:
        """E.164."""
        return f"+{self.to.removeprefix('+')}"

    def content(self, sender: str) -> dict[str, object]:
        """What the page and the ledger show."""
        if self.template is None:
            return {"from": sender, "text": self.text.body if self.text else ""}
        parameters = {_named(one): [given.text or "" for given in one.parameters] for one in self.template.components}
        filled: Mapping[str, object] = {"parameters": parameters} if parameters else {}
        template = {"name": self.template.name, "language": self.template.language.code, **filled}
        text = APPROVED.get(self.template.name)
        shown = {} if text is None else {"text": _filled(text, parameters.get("body", ()))}
        return {"from": sender, **shown, "template": template}


def read(body: bytes) -> Order | Complaint:
    """Checks it as the real one would, all but the 24 hours."""
    try:
        order = msgspec.json.decode(body, type=Order)
    except msgspec.ValidationError as fault:
        return _invalid(str(fault))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _invalid("The body is no JSON object")
    return _envelope(order) or _content(order) or order


def _invalid(details: str) -> Complaint:
    return Complaint(400, 100, "Invalid parameter", details)


def _envelope(order: Order) -> Complaint | None:
    if order.messaging_product != "whatsapp":
        return _invalid("The parameter messaging_product is required.")
    if not _TO.fullmatch(order.to):
        return Complaint(400, 131009, "Parameter value is not valid", "Recipient phone number is not valid")
    if len(order.biz_opaque_callback_data or "") > MOST_ECHOED_CHARS:
        return _invalid(f"Param biz_opaque_callback_data must be at most {MOST_ECHOED_CHARS} characters long.")
    return None


def _content(order: Order) -> Complaint | None:
    if order.type == "text":
        text = order.text.body if order.text else ""
        return None if 0 < len(text) <= MOST_CHARS else _invalid(f"Param text['body'] must be 1 to {MOST_CHARS} long.")
    if order.type != "template" or order.template is None:
        return Complaint(400, 131051, "Unsupported message type")
    if not _TEMPLATE.fullmatch(order.template.name) or not _LANGUAGE.fullmatch(order.template.language.code):
        return NO_TEMPLATE
    return next((wrong for one in order.template.components if (wrong := _component(one)) is not None), None)


def _component(one: _Component) -> Complaint | None:
    if one.type.lower() not in ("header", "body", "button") or (one.type.lower() == "button" and one.index is None):
        return _invalid(f"Unexpected component {one.type}")
    if any(given.type == "text" and not given.text for given in one.parameters):
        return Complaint(400, 131008, "Required parameter is missing", "Parameter of type text is missing text value")
    return None


def _filled(text: str, parameters: Sequence[str]) -> str:
    numbered = {f"{{{{{n}}}}}": parameter for n, parameter in enumerate(parameters, 1)}
    return _BLANK.sub(lambda blank: numbered.get(blank[0], blank[0]), text)


def _named(one: _Component) -> str:
    kind = one.type.lower()
    return kind if one.index is None else f"{kind} {one.index}"

"""Refusals with a stable code. The docstring is the message; ``web.problems`` alone chooses the HTTP status."""


class Refusal(Exception):
    """The request was refused."""

    code = "refused"

    def __init__(self, detail: str | None = None, *, pointer: str | None = None) -> None:
        self.detail = detail or (self.__doc__ or "").strip()
        self.pointer = pointer
        super().__init__(self.detail)


class Invalid(Refusal):
    """A field has a value that cannot be used."""

    code = "invalid"

    def __init__(self, detail: str, *, pointer: str, code: str = "invalid") -> None:
        super().__init__(detail, pointer=pointer)
        self.code = code


class UnknownTemplate(Refusal):
    """There is no published template of that name."""

    code = "unknown_template"


class UnknownCategory(Refusal):
    """There is no category of that name."""

    code = "unknown_category"


class KeyReused(Refusal):
    """This idempotency key came before with another body. Use a new key for a new notification."""

    code = "idempotency_key_reused"


class StillCommitting(Refusal):
    """A request with this idempotency key is being committed right now. Repeat it in a moment."""

    code = "still_committing"


class Unavailable(Refusal):
    """The notification could not be stored for certain. Repeat the request with the same idempotency key."""

    code = "unavailable"


class NotFound(Refusal):
    """There is nothing here under that id."""

    code = "not_found"


class TooLate(Refusal):
    """It has left already."""

    code = "too_late"


class TemplateFault(Exception):
    """The template could not be rendered with this data."""

"""What one stand-in was asked and took, in whatever protocol: its counts, its fault, the ledger, its webhooks."""

from collections.abc import Sequence

from tidings.sandbox.faults import Fault, Faults
from tidings.sandbox.ledger import Ledger
from tidings.sandbox.receipts import Postman
from tidings.sandbox.standin import Message


class Intake:
    """The way into the ledger of one provider."""

    def __init__(self, provider: str, ledger: Ledger, faults: Faults, postman: Postman) -> None:
        self._provider = provider
        self._ledger = ledger
        self._faults = faults
        self._postman = postman

    def asked(self) -> Fault | None:
        """One more sending call, and the fault that hits it."""
        self._ledger.books[self._provider].requests += 1
        return self.fault()

    def fault(self) -> Fault | None:
        """The fault that hits what is asked now, None for most."""
        return self._faults.draw(self._provider)

    def refused(self) -> None:
        """One call that is not taken."""
        self._ledger.books[self._provider].refused += 1

    def took(self, messages: Sequence[Message], answered: str) -> None:
        """Into the ledger, with what the client was told; and what becomes of them is told in time."""
        self._ledger.take(self._provider, messages, answered, self._postman.expect(messages))

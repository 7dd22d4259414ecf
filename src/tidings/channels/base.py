"""What a channel is: one file that knows its addresses, its senders and the shape of its content."""

from collections.abc import Mapping
from typing import Protocol

from tidings.domain.lanes import Channel
from tidings.domain.notification import Content


class Plugin(Protocol):
    """A channel. Nothing here does I/O or keeps state."""

    @property
    def number(self) -> Channel: ...

    def normal(self, text: str, *, pointer: str = "") -> str:
        """The address as it is stored and given to providers. Raises ``errors.Invalid`` at ``pointer``."""
        ...

    def same(self, address: str) -> str:
        """Equal for addresses that reach the same recipient: what is hashed to find one again."""
        ...

    def sender(self, identity: Mapping[str, str], *, pointer: str) -> Mapping[str, str]:
        """Who messages come from, as it is stored and given to providers. Raises ``errors.Invalid`` under
        ``pointer``."""
        ...

    def check(self, content: Content) -> None:
        """Whether inline content can be sent here. Raises ``errors.Invalid`` with a pointer into the content."""
        ...

    def shape(self, content: Content) -> Content:
        """What providers are given. ``content`` holds this channel's parts alone (``template.content_for``). Raises
        ``errors.TemplateFault``."""
        ...

    def units(self, content: Content) -> int:
        """What one message counts as in prices and limits: segments for SMS, else 1."""
        ...

"""What the reply of a mail server says about an address."""

import re
from typing import Final

_ABOUT_THE_ADDRESS: Final = re.compile(r"(?:5\d\d[ -])?5\.1\.(?!7\b|8\b)\d{1,3}\b")
"""The enhanced status 5.1.x of RFC 3463, but for the two that are about the sender's address."""


def bounced(reply: str) -> bool:
    """Whether these words of a refusal begin with a status that puts it down to the address: nothing reaches it,
    whoever sends. A mailbox that is full, a policy, a size are no such thing."""
    return _ABOUT_THE_ADDRESS.match(reply) is not None

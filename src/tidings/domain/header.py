"""What may stand in one header of an e-mail, whichever mailer writes it in the end.

Some mailers decode what looks like an RFC 2047 encoded word and fold the result anew without looking at it
(CVE-2024-6923), one that is cut off at the end included, so a value has to be harmless as it stands and in every
decoded form.
"""

import binascii
import re
from quopri import decodestring
from typing import Final

MOST_CHARS: Final = 998
"""The longest line of RFC 5322, and the longest value that is looked at."""

_BREAKS: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_ENCODED: Final = re.compile(r"=\?([^?*]*)(?:\*[^?]*)?\?([bq])\?(.*?)(?:\?=|\Z)", re.IGNORECASE | re.DOTALL)
_NESTED: Final = 3


def flaw(value: str) -> str | None:
    """Why this value must not stand in a header, None when it may."""
    if len(value) > MOST_CHARS:
        return f"is longer than {MOST_CHARS} characters"
    for _ in range(_NESTED):
        broken = _BREAKS.search(value)
        if broken is not None:
            return f"contains the control character U+{ord(broken[0]):04X}"
        if _ENCODED.search(value) is None:
            return None
        try:
            value = _ENCODED.sub(_decoded, value)
        except (binascii.Error, LookupError, ValueError):
            return "contains an encoded word that cannot be decoded"
    return "contains encoded words within encoded words"


def _decoded(word: re.Match[str]) -> str:
    charset, encoding, text = word.groups()
    raw = text.encode("ascii")
    octets = binascii.a2b_base64(raw) if encoding in "bB" else decodestring(raw, header=True)
    return octets.decode(charset)

"""A request body as ``multipart/form-data`` (RFC 7578)."""

import secrets
from collections.abc import Iterable


class Multipart:
    """The boundary is drawn once for each account, where nobody who writes content can know it."""

    def __init__(self) -> None:
        boundary = secrets.token_hex(20)
        self.content_type = f"multipart/form-data; boundary={boundary}"
        self._before = f'--{boundary}\r\nContent-Disposition: form-data; name="'.encode()
        self._end = f"--{boundary}--\r\n".encode()

    def body(self, fields: Iterable[tuple[str, str]]) -> bytes:
        """Fields of text, in this order. No name holds a line break."""
        return b"".join([*(self._part(name, value) for name, value in fields), self._end])

    def _part(self, name: str, value: str) -> bytes:
        quoted = name.replace('"', "%22").encode()
        return b'%b%b"\r\n\r\n%b\r\n' % (self._before, quoted, value.encode("utf-8", "replace"))

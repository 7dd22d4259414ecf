"""Keys derived from the master key, and the envelope that credentials are stored in."""

import os
from collections.abc import Callable
from hashlib import blake2b
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tidings.domain.ids import TenantId
from tidings.domain.lanes import Channel
from tidings.settings import SettingsError

_MASTER_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_HASH_BYTES: Final = 16


class NoMasterKey(SettingsError):
    """Nothing can be encrypted, and no key be checked: set TIDINGS_MASTER_KEY to 64 random hexadecimal digits."""


class WrongMasterKey(Exception):
    """What is stored was encrypted under another master key. Set TIDINGS_MASTER_KEY to the one it was made with."""


class Secrets:
    """Every secret use has a key of its own, derived from the one master key (32 bytes as hexadecimal digits).
    Raises NoMasterKey for anything else."""

    def __init__(self, master_key_hex: str) -> None:
        self._master = _master(master_key_hex)
        self._credentials = AESGCM(self._derive(b"credentials"))
        self._addresses = self._derive(b"addresses")
        self.pepper = self._derive(b"api keys")

    def _derive(self, use: bytes) -> bytes:
        return HKDF(hashes.SHA256(), length=32, salt=None, info=b"tidings " + use).derive(self._master)

    def seal(self, plain: bytes, bound_to: str) -> bytes:
        """Encrypted, and readable only together with ``bound_to``."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._credentials.encrypt(nonce, plain, bound_to.encode())

    def open(self, sealed: bytes, bound_to: str) -> bytes:
        """Raises WrongMasterKey."""
        try:
            return self._credentials.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], bound_to.encode())
        except InvalidTag as fault:
            raise WrongMasterKey((WrongMasterKey.__doc__ or "").strip()) from fault

    def address_hash(self, tenant: TenantId, channel: Channel, address: str) -> bytes:
        """What an address is found by where its text must not be. ``address`` is in normal form."""
        text = f"{tenant}\0{channel.value}\0{address}".encode()
        return blake2b(text, digest_size=_HASH_BYTES, key=self._addresses).digest()


def _master(hex_: str) -> bytes:
    try:
        key = bytes.fromhex(hex_)
    except ValueError:
        key = b""
    if len(key) != _MASTER_BYTES:
        raise NoMasterKey((NoMasterKey.__doc__ or "").strip())
    return key


AddressHash = Callable[[TenantId, Channel, str], bytes]

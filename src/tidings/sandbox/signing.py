"""The key that webhooks are signed with: EC P-256, kept in a file so that its public half outlives a restart. Beside it
the one of customers who sign for themselves: RSA."""

import base64
import hmac
import os
import secrets
from functools import cached_property
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)


class SigningKey:
    """Signs with ECDSA and SHA-256."""

    def __init__(self, private: ec.EllipticCurvePrivateKey, path: Path | None = None) -> None:
        self._private = private
        self._path = path

    @classmethod
    def fresh(cls) -> "SigningKey":
        return cls(ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    def kept_in(cls, path: Path) -> "SigningKey":
        """The key in that PEM file, made (mode 0600) when there is none. Raises ValueError for another kind of key."""
        if not path.exists():
            _create(path, cls.fresh().pem)
        private = load_pem_private_key(path.read_bytes(), password=None)
        if not isinstance(private, ec.EllipticCurvePrivateKey) or not isinstance(private.curve, ec.SECP256R1):
            raise ValueError(f"{path} holds no EC P-256 private key")
        return cls(private, path)

    @property
    def private(self) -> ec.EllipticCurvePrivateKey:
        return self._private

    def sign(self, message: bytes) -> str:
        """Base64 of the DER signature."""
        return base64.b64encode(self._private.sign(message, ec.ECDSA(hashes.SHA256()))).decode()

    def secret(self, name: str) -> str:
        """32 hexadecimal digits for providers that share a secret with their customers: another for each name."""
        return hmac.digest(self.pem, name.encode(), "sha256").hex()[:32]

    @property
    def public_base64(self) -> str:
        """Base64 of the DER SubjectPublicKeyInfo."""
        public = self._private.public_key()
        return base64.b64encode(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()

    @property
    def pem(self) -> bytes:
        return _pem(self._private)

    @cached_property
    def customers(self) -> rsa.RSAPrivateKey:
        """For providers whose customers sign for themselves. Kept beside the key where that is kept."""
        if self._path is None:
            return _fresh_rsa()
        beside = self._path.with_name(f"{self._path.name}.rsa")
        if not beside.exists():
            _create(beside, _pem(_fresh_rsa()))
        private = load_pem_private_key(beside.read_bytes(), password=None)
        if not isinstance(private, rsa.RSAPrivateKey):
            raise ValueError(f"{beside} holds no RSA private key")
        return private

    @property
    def customers_pem(self) -> bytes:
        return _pem(self.customers)


def public_key_base64(path: Path) -> str:
    """The public half of the key in that file, as a receiver of webhooks is given it; makes the key if absent."""
    return SigningKey.kept_in(path).public_base64


def _fresh_rsa() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def _pem(private: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _create(path: Path, pem: bytes) -> None:
    """Whole or not at all: of two that create it at once, the first wins and nobody reads half a key."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(pem)
    try:
        path.hardlink_to(draft)
    except FileExistsError:
        pass
    finally:
        draft.unlink()

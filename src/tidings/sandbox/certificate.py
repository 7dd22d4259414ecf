"""How the sandbox proves who it is under TLS: an authority whose key is the signing key, and a certificate from it.

Whoever has the signing key knows the authority, so the sandbox and its customers need not meet.
"""

import ssl
import tempfile
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tidings.sandbox.signing import SigningKey

_AUTHORITY: Final = "Tidings sandbox"
_NAMES: Final = (
    x509.DNSName("localhost"),
    x509.IPAddress(ip_address("127.0.0.1")),
    x509.IPAddress(ip_address("::1")),
)
_YEARS: Final = timedelta(days=3650)


def authority_pem(key: SigningKey) -> str:
    """The authority to trust, as PEM. One that is made again from the same key vouches for the same certificates."""
    public = key.private.public_key()
    made = (
        _begun(_AUTHORITY, public)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_for_signing(), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )
    return made.sign(key.private, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def serving(key: SigningKey) -> ssl.SSLContext:
    """TLS of a server on this machine, with a certificate of its own from that authority."""
    own = ec.generate_private_key(ec.SECP256R1())
    made = (
        _begun("localhost", own.public_key())
        .add_extension(x509.SubjectAlternativeName(_NAMES), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.private.public_key()), critical=False)
    )
    pem = made.sign(key.private, hashes.SHA256()).public_bytes(Encoding.PEM)
    return _loaded(pem + own.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def _begun(name: str, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_named(name))
        .issuer_name(_named(_AUTHORITY))
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + _YEARS)
    )


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _for_signing() -> x509.KeyUsage:
    return x509.KeyUsage(
        key_cert_sign=True,
        crl_sign=True,
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _loaded(chain: bytes) -> ssl.SSLContext:
    """The standard library reads certificates from files alone."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "chain.pem")
        file.touch(mode=0o600)
        file.write_bytes(chain)
        context.load_cert_chain(file)
    return context

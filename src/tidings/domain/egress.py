"""Where calls may go whose address somebody else chose: webhooks of tenants, and the addresses of their accounts.

Pure rules. An address is judged by ``flaw`` when it is stored, for the one who stores it, and by ``refusal`` whenever a
connection is made, because a name can lead elsewhere by then.
"""

import re
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final
from urllib.parse import urlsplit

import msgspec

Address = IPv4Address | IPv6Address

LONGEST_URL: Final = 2_048
_PORTS: Final = {"https": 443, "http": 80}
_PLAIN: Final = re.compile(r"[!-~]+")
_LABEL: Final = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
_INNER: Final = ("localhost", "local", "internal", "home.arpa", "intranet", "lan", "corp")
_SIX: Final = ip_network("2000::/3")
_NAT64: Final = ip_network("64:ff9b::/96")
_METADATA: Final = (
    # Public by their numbers, and answered by the machine's own host: Oracle's and Azure's.
    ip_network("192.0.0.0/24"),
    ip_network("168.63.129.16/32"),
)


class Egress(msgspec.Struct, frozen=True):
    """``allow`` are networks that may be reached on any port, unencrypted too; ``exempt`` the same of single hosts
    with a port, such as ``127.0.0.1:8091``. Everything else has to be public, encrypted, and on one of ``ports``."""

    allow: tuple[str, ...] = ()
    exempt: tuple[str, ...] = ()
    ports: tuple[int, ...] = (443, 8443)

    def refusal(self, address: str, port: int, *, encrypted: bool) -> str | None:
        """Why no connection may be made to this address, None when it may."""
        ip = ip_address(address.partition("%")[0])
        if self.exempts(str(ip), port) or self._allows(ip):
            return None
        if not is_public(ip):
            return "it leads to an address that is not public"
        if not encrypted:
            return "it is not encrypted: https alone is allowed"
        if port not in self.ports:
            return f"port {port} is not one of {', '.join(map(str, self.ports))}"
        return None

    def exempts(self, host: str, port: int) -> bool:
        """May it be reached, whatever addresses it has?"""
        return f"{host}:{port}" in self.exempt

    def flaw(self, url: str) -> str | None:
        """Why this URL cannot be one that is called, None when it can, as far as its text tells."""
        if len(url) > LONGEST_URL or not _PLAIN.fullmatch(url) or "\\" in url:
            return f"a URL has at most {LONGEST_URL} characters, all of them ASCII, none of them a space"
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 0)
        except ValueError:
            return "it is no URL"
        if parts.scheme not in _PORTS or not host:
            return "it begins with https:// and a host"
        if "@" in parts.netloc or parts.fragment or parts.netloc.endswith(":"):
            return "a name, a password or a fragment cannot stand in it"
        if self.exempts(host, port):
            return None
        return self._host_flaw(host, port, encrypted=parts.scheme == "https")

    def _host_flaw(self, host: str, port: int, *, encrypted: bool) -> str | None:
        try:
            ip_address(host)
        except ValueError:
            return self._name_flaw(host, port, encrypted=encrypted)
        return self.refusal(host, port, encrypted=encrypted)

    def _name_flaw(self, host: str, port: int, *, encrypted: bool) -> str | None:
        """Where networks of one's own are allowed, only a connection can tell which a name leads to."""
        labels = host.split(".")
        if len(host) > 253 or not all(map(_LABEL.fullmatch, labels)) or _NUMBER.fullmatch(labels[-1]):
            return "its host is neither a usual name nor a usual address"
        if self.allow:
            return None
        if len(labels) == 1 or any(host == name or host.endswith(f".{name}") for name in _INNER):
            return "its host is a name of inner networks"
        return self.refusal(_ANY_PUBLIC, port, encrypted=encrypted)

    def _allows(self, ip: Address) -> bool:
        return any(one in ip_network(network, strict=False) for network in self.allow for one in (ip, _bare(ip)))


_ANY_PUBLIC: Final = "9.9.9.9"
ANYWHERE: Final = Egress(allow=("0.0.0.0/0", "::/0"))
"""For what an operator chose, and for tests."""


def is_public(ip: Address) -> bool:
    """In the internet at large, and every address that is carried inside this one too."""
    return all(map(_is_public, _carried(ip)))


def _carried(ip: Address) -> Iterator[Address]:
    """The addresses that a packet to this one ends at: those of IPv4 that stand in one of IPv6 count instead of it, or
    beside it."""
    bare = _bare(ip)
    yield bare
    if isinstance(bare, IPv6Address):
        if bare.sixtofour is not None:
            yield bare.sixtofour
        if bare.teredo is not None:
            yield from bare.teredo


def _bare(ip: Address) -> Address:
    """The address of IPv4 that is written as one of IPv6, mapped or for NAT64, as what it is."""
    if isinstance(ip, IPv6Address):
        if ip.ipv4_mapped is not None:
            return ip.ipv4_mapped
        if ip in _NAT64:
            return IPv4Address(int(ip) & 0xFFFF_FFFF)
    return ip


def _is_public(ip: Address) -> bool:
    if not ip.is_global or ip.is_multicast or ip.is_reserved or ip.is_unspecified:
        return False
    if any(ip in network for network in _METADATA):
        return False
    return isinstance(ip, IPv4Address) or ip in _SIX


def flaw_of_network(text: str) -> str | None:
    """Why this is no network, None when it is one."""
    try:
        ip_network(text, strict=False)
    except ValueError as fault:
        return str(fault)
    return None

"""FAULTS 59, the pure half: which addresses may be reached, however they are written."""

import pytest

from tidings.domain.egress import ANYWHERE, Egress, flaw_of_network

STRICT = Egress()
INNER = [
    "127.0.0.1",
    "127.255.255.254",
    "0.0.0.0",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "100.100.100.200",
    "192.0.0.192",
    "168.63.129.16",
    "198.18.0.1",
    "203.0.113.9",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::1",
    "2001:0:7f00:1::",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "2001:db8::1",
    "100::1",
]
OUTER = ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1"]


@pytest.mark.parametrize("address", INNER)
def test_inner_addresses_may_not_be_reached(address):
    assert STRICT.refusal(address, 443, encrypted=True) == "it leads to an address that is not public"


@pytest.mark.parametrize("address", OUTER)
def test_public_addresses_may_be_reached(address):
    assert STRICT.refusal(address, 443, encrypted=True) is None


def test_what_is_public_has_to_be_encrypted_and_on_a_usual_port():
    assert "https" in (STRICT.refusal("8.8.8.8", 443, encrypted=False) or "")
    assert "25" in (STRICT.refusal("8.8.8.8", 25, encrypted=True) or "")
    assert Egress(ports=(25,)).refusal("8.8.8.8", 25, encrypted=True) is None


@pytest.mark.parametrize(
    ("network", "inside", "outside"),
    [
        ("10.1.0.0/16", "10.1.2.3", "10.2.0.1"),
        ("10.1.2.3", "10.1.2.3", "10.1.2.4"),
        ("10.1.2.3/16", "::ffff:10.1.9.9", "::ffff:10.2.0.1"),
        ("fd00::/8", "fd12::1", "fc00::1"),
    ],
)
def test_a_network_of_ones_own_may_be_reached_in_any_way(network, inside, outside):
    egress = Egress(allow=(network,))
    assert egress.refusal(inside, 8080, encrypted=False) is None
    assert egress.refusal(outside, 8080, encrypted=False) is not None


def test_a_single_exempt_host_may_be_reached_on_its_own_port_alone():
    egress = Egress(exempt=("127.0.0.1:8091",))
    assert egress.refusal("127.0.0.1", 8091, encrypted=False) is None
    assert egress.refusal("127.0.0.1", 8092, encrypted=False) is not None
    assert egress.flaw("http://127.0.0.1:8091") is None
    assert egress.flaw("http://127.0.0.1:8092") is not None


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com",
        "https://example.com/",
        "https://hooks.example.co.uk:8443/a/b?c=d&e=%20",
        "https://xn--bcher-kva.example/x",
        "https://8.8.8.8/x",
        "https://[2606:4700:4700::1111]/x",
        "https://3com.com",
    ],
)
def test_usual_addresses_can_be_stored(url):
    assert STRICT.flaw(url) is None


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com",
        "//example.com",
        "https:///path",
        "https://",
        "https:example.com",
        "http://example.com",
        "ftp://example.com",
        "file:///etc/passwd",
        "gopher://example.com",
        "javascript:alert(1)",
        "https://user@example.com",
        "https://user:pass@example.com",
        "https://8.8.8.8@127.0.0.1/",
        "https://127.0.0.1\\@example.com/",
        "https://example.com#@127.0.0.1",
        "https://example.com:",
        "https://example.com:80/",
        "https://example.com:22/",
        "https://example.com:99999/",
        "https://example.com:4a3/",
        "https://exam ple.com",
        "https://example.com/\r\nHost: x",
        "https://example.com/\t",
        "https://bücher.example",
        "https://ⓔxample.com",
        "https://127。0。0。1",
        "https://example..com",
        "https://example.com.",
        "https://-example.com",
        "https://example-.com",
        "https://exa_mple.com",
        "https://%65xample.com",
        "https://127.0.0.1",
        "https://127.1",
        "https://127.0.0.1.",
        "https://0x7f.1",
        "https://0x7f000001",
        "https://2130706433",
        "https://0177.0.0.1",
        "https://017700000001",
        "https://1.2.3.4.5",
        "https://[::1]",
        "https://[::ffff:127.0.0.1]",
        "https://[fe80::1%25eth0]",
        "https://[64:ff9b::7f00:1]",
        "https://localhost",
        "https://LOCALHOST",
        "https://foo.localhost",
        "https://metadata",
        "https://metadata.google.internal",
        "https://kubernetes.default.svc.cluster.local",
        "https://router.lan",
        "https://instance-data",
        "https://" + "a" * 64 + ".com",
        "https://" + "a." * 127 + "com",
        "https://example.com/" + "a" * 2_048,
    ],
)
def test_addresses_that_are_not_plainly_public_cannot(url):
    assert STRICT.flaw(url) is not None


@pytest.mark.parametrize(
    "url", ["http://receiver:8080/x", "http://10.1.2.3/x", "https://hooks.corp", "http://localhost:1"]
)
def test_names_of_inner_networks_can_be_stored_where_one_is_allowed(url):
    """What they lead to is judged when they are called."""
    assert Egress(allow=("10.1.0.0/16",)).flaw(url) is None


def test_an_inner_address_outside_of_what_is_allowed_still_cannot():
    assert Egress(allow=("10.1.0.0/16",)).flaw("http://127.0.0.1/x") is not None


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "https://[::1]:1", "http://localhost", "https://example.com"])
def test_anywhere_is_anywhere(url):
    assert ANYWHERE.flaw(url) is None


def test_networks_are_told_from_nonsense():
    assert flaw_of_network("10.0.0.0/8") is None and flaw_of_network("::1") is None
    assert flaw_of_network("intranet") is not None and flaw_of_network("10.0.0.0/33") is not None

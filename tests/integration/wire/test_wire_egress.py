"""FAULTS 59, at the moment of connecting: what a name leads to is judged then, whatever it led to before."""

import socket
from collections.abc import Sequence
from typing import Any

import pytest
from wire_calls import OK, post
from wire_peer import Authority, answering, playing

from tidings.domain.egress import Egress
from tidings.providers.wire import Answer, NotSent, Wire
from tidings.providers.wire_reach import Reach, Resolved

pytestmark = pytest.mark.asyncio(loop_scope="module")
INNER = "127.0.0.1"
OUTER = "203.0.112.1"


class Names:
    """A name server that gives these answers in turn, the last one for ever."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, int]] = []

    async def __call__(self, host: str, port: int) -> Resolved:
        self.asked.append((host, port))
        addresses = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [_resolved(address, port) for address in addresses]


def _resolved(address: str, port: int) -> tuple[Any, ...]:
    if ":" in address:
        return (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, port, 0, 0))
    return (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))


def strict(names: Names, port: int) -> Reach:
    return Reach(Egress(ports=(port,)), names)


@pytest.mark.parametrize(
    "addresses",
    [
        [INNER],
        ["::ffff:127.0.0.1"],
        ["64:ff9b::7f00:1"],
        ["169.254.169.254"],
        [OUTER, INNER],
        [INNER, OUTER],
        ["2606:4700:4700::1111", "::1"],
    ],
)
async def test_a_name_with_one_inner_address_is_not_connected_to(authority: Authority, addresses: list[str]) -> None:
    async with playing(answering(OK), authority.serving()) as peer:
        wire = Wire(
            f"https://hooks.example.com:{peer.port}",
            tls=authority.trusting(),
            reach=strict(Names(addresses), peer.port),
        )
        said = await post(wire)
        assert isinstance(said, NotSent)
        assert said.code == "address_refused"
        assert peer.seen == []


async def test_a_name_that_leads_elsewhere_the_next_time_is_judged_again() -> None:
    """Allowed for its first connection, refused for its second."""
    names = Names([INNER], ["127.0.0.2"])
    async with playing(answering(OK, OK)) as peer:
        wire = Wire(f"http://hooks.example.com:{peer.port}", reach=Reach(Egress(allow=("127.0.0.1/32",)), names))
        assert isinstance(await post(wire), Answer)
        assert isinstance(await post(wire), Answer), "over the same connection, to the address that was judged"
        assert len(names.asked) == 1
        peer_saw = len(peer.seen)
        await _until_closed(wire)
        said = await post(wire)
        assert isinstance(said, NotSent) and said.code == "address_refused"
        assert len(names.asked) == 2 and len(peer.seen) == peer_saw
        wire.close()


async def _until_closed(wire: Wire) -> None:
    """The peer closes after its last answer."""
    for connection in list(wire._idle):
        connection.abort()


async def test_the_address_that_was_judged_is_the_one_that_is_connected_to() -> None:
    """The name is asked once for each connection, so nothing can change between the look and the step."""
    names = Names([INNER])
    async with playing(answering(OK)) as peer:
        reach = Reach(Egress(allow=("127.0.0.0/8",)), names)
        wire = Wire(f"http://no-such-host.invalid:{peer.port}", reach=reach)
        assert isinstance(await post(wire), Answer), "no other resolver was asked"
        assert b"Host: no-such-host.invalid" in bytes(peer.seen[0])
        wire.close()


async def test_the_certificate_is_checked_against_the_name_not_the_address(authority: Authority) -> None:
    async with playing(answering(OK), authority.serving()) as peer:
        reach = Reach(Egress(allow=("127.0.0.0/8",)), Names([INNER]))
        wire = Wire(f"https://hooks.example.com:{peer.port}", tls=authority.trusting(), reach=reach)
        said = await post(wire)
        assert isinstance(said, NotSent)
        assert said.code == "tls"


async def test_plain_text_goes_to_no_public_address() -> None:
    names = Names([OUTER])
    wire = Wire("http://hooks.example.com:443", reach=Reach(Egress(), names))
    said = await post(wire)
    assert isinstance(said, NotSent)
    assert (said.code, names.asked) == ("address_refused", [("hooks.example.com", 443)])


async def test_the_next_address_is_taken_where_one_does_not_answer() -> None:
    async with playing(answering(OK)) as peer:
        wire = Wire(f"http://two.example.com:{peer.port}", reach=Reach(resolve=Names(["127.9.9.9", INNER])))
        assert isinstance(await post(wire), Answer)
        wire.close()


@pytest.mark.parametrize("host", ["0x7f.1", "2130706433", "127.1", "0177.0.0.1", "[::ffff:127.0.0.1]"])
async def test_however_an_inner_address_is_written_the_system_s_own_reading_of_it_is_judged(host: str) -> None:
    async with playing(answering(OK)) as peer:
        wire = Wire(f"http://{host}:{peer.port}", reach=Reach(Egress(ports=(peer.port,))))
        said = await post(wire)
        assert isinstance(said, NotSent), said
        assert said.code == "address_refused"
        assert peer.seen == []

"""Peers for what speaks to providers: a scripted one that can do what no honest server does, and certificates."""

import asyncio
import datetime
import ipaddress
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

WAIT_S = 10.0


class Talk:
    """One connection, seen from the peer's side."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: bytearray) -> None:
        self._reader = reader
        self._writer = writer
        self._seen = seen
        self.spoke = False

    async def read(self, n: int) -> bytes:
        """Exactly ``n`` bytes. Raises IncompleteReadError when the other side closes first."""
        data = await self._reader.readexactly(n)
        self._seen += data
        return data

    async def until(self, end: bytes) -> bytes:
        """What comes up to and with ``end``."""
        data = await self._reader.readuntil(end)
        self._seen += data
        return data

    async def line(self) -> bytes:
        return await self.until(b"\r\n")

    async def head(self) -> bytes:
        return await self.until(b"\r\n\r\n")

    async def request(self) -> bytes:
        """One whole request, head and body."""
        head = await self.head()
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        return head + await self.read(length)

    async def say(self, data: bytes) -> None:
        self.spoke = True
        self._writer.write(data)
        await self._writer.drain()

    async def gone(self) -> None:
        """Waits until the other side has closed."""
        while data := await self._reader.read(65536):
            self._seen += data

    async def lost(self) -> None:
        """Reads nothing more, and waits until the connection is no more."""
        self._writer.transport.pause_reading()
        while not self._writer.transport.is_closing():
            await self.say(b"")
            await asyncio.sleep(0.01)

    def reset(self) -> None:
        on, at_once = 1, 0
        sock = self._writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", on, at_once))
        self._writer.transport.abort()


Script = Callable[[Talk], Awaitable[None]]


class Peer:
    """What the peer saw: ``seen`` holds the bytes of each connection, in the order in which they were opened."""

    def __init__(self, port: int, scheme: str) -> None:
        self.port = port
        self.origin = f"{scheme}://127.0.0.1:{port}"
        self.seen: list[bytearray] = []
        self.open = 0
        self.most_open = 0

    @property
    def bytes_seen(self) -> int:
        return sum(len(one) for one in self.seen)


@asynccontextmanager
async def playing(script: Script, tls: ssl.SSLContext | None = None) -> AsyncIterator[Peer]:
    """A peer on a free loopback port that plays ``script`` on every connection and closes it afterwards."""
    running: set[asyncio.Task[None]] = set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen = bytearray()
        peer.seen.append(seen)
        peer.open += 1
        peer.most_open = max(peer.most_open, peer.open)
        try:
            await script(Talk(reader, writer, seen))
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            pass
        finally:
            writer.close()
            with suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()
            peer.open -= 1

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(talk(reader, writer))
        running.add(task)
        task.add_done_callback(running.discard)

    patience = {"ssl_shutdown_timeout": 0.2} if tls else {}
    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls, **patience)
    peer = Peer(server.sockets[0].getsockname()[1], "https" if tls else "http")
    try:
        yield peer
    finally:
        server.close()
        for task in list(running):
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def answering(*answers: bytes) -> Script:
    """Answers the requests of a connection with these in turn, and closes after the last; one alone for ever."""

    async def script(talk: Talk) -> None:
        if len(answers) == 1:
            while True:
                await talk.request()
                await talk.say(answers[0])
        for answer in answers:
            await talk.request()
            await talk.say(answer)

    return script


def answer(status: int, body: bytes = b"", headers: str = "") -> bytes:
    return b"HTTP/1.1 %d Word\r\n%bContent-Length: %d\r\n\r\n%b" % (status, headers.encode(), len(body), body)


async def until(condition: Callable[[], object]) -> None:
    """Waits until the condition holds; fails after ``WAIT_S``."""
    async with asyncio.timeout(WAIT_S):
        while not condition():
            await asyncio.sleep(0.001)


@asynccontextmanager
async def black_hole() -> AsyncIterator[socket.socket]:
    """A port whose queue is full: the kernel drops what knocks there."""
    hole = socket.create_server(("127.0.0.1", 0), backlog=0)
    hole.setblocking(False)
    fillers = []
    try:
        for _ in range(8):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(hole.getsockname())
            fillers.append(filler)
        if await _reached(hole.getsockname()):
            pytest.skip("not tested: a provider that swallows connections (this kernel refuses or queues them all)")
        yield hole
    finally:
        for one in (*fillers, hole):
            one.close()


async def _reached(address: tuple[str, int]) -> bool:
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(*address), 0.5)
    except TimeoutError:
        return False
    except OSError:
        return True
    writer.close()
    return True


class Authority:
    """A certificate authority of our own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
        self._certificate = self._signed(self._name, self._key, [x509.BasicConstraints(ca=True, path_length=None)])

    @property
    def pem(self) -> str:
        return self._certificate.public_bytes(serialization.Encoding.PEM).decode()

    def trusting(self) -> ssl.SSLContext:
        """A client's context that trusts this authority alone."""
        return ssl.create_default_context(cadata=self.pem)

    def files(self, address: str = "127.0.0.1", *, days: int = 1) -> tuple[Path, Path]:
        """Certificate and key for one address; with negative ``days`` it has run out already."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, address)])
        certificate = self._signed(subject, key, [names, x509.BasicConstraints(ca=False, path_length=None)], days=days)
        cert_path = self._folder / f"{address}.{days}.crt"
        key_path = self._folder / f"{address}.{days}.key"
        cert_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        plain = serialization.NoEncryption()
        pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
        key_path.write_bytes(pem)
        return cert_path, key_path

    def serving(self, address: str = "127.0.0.1", *, days: int = 1) -> ssl.SSLContext:
        """A server's context for one address."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.files(address, days=days))
        return context

    def _signed(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, extensions: list[x509.ExtensionType], days: int = 1
    ) -> x509.Certificate:
        end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(end - datetime.timedelta(days=10))
            .not_valid_after(end)
        )
        for extension in extensions:
            builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        return builder.sign(self._key, hashes.SHA256())

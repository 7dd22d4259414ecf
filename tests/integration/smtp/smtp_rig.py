"""A real mail server, and accounts at it."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from wire_peer import Authority

from tidings.domain.catalog import Account
from tidings.domain.ids import TenantId
from tidings.domain.lanes import Channel
from tidings.domain.notification import Content
from tidings.domain.outcome import Outcome
from tidings.ports import Message
from tidings.providers.smtp import Smtp

REFERENCE = "0192f0c0000070008000000000000000-1"
USERNAME, PASSWORD = "shop", "never-shown"


class MailServer:
    """What it took, and how often it was spoken with. A recipient who is in ``replies`` is answered so."""

    def __init__(self) -> None:
        self.port = 0
        self.taken: list[Envelope] = []
        self.names: list[str | None] = []
        self.opened = 0
        self.open = 0
        self.most_open = 0
        self.replies: dict[str, str] = {}
        self.encrypted: list[bool] = []
        self.hold = asyncio.Event()
        self.hold.set()

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, _options: Sequence[str]
    ) -> str:
        reply = self.replies.get(address, "250 2.1.5 ok")
        if reply.startswith("250"):
            envelope.rcpt_tos.append(address)
        return reply

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        await self.hold.wait()
        self.taken.append(envelope)
        self.names.append(session.host_name)
        self.encrypted.append(session.ssl is not None or server.transport.get_extra_info("sslcontext") is not None)
        return f"250 2.0.0 Ok: queued as Q{len(self.taken)}"


def _login(server: SMTP, session: Session, envelope: Envelope, mechanism: str, given: Any) -> AuthResult:
    assert isinstance(given, LoginPassword)
    right = (given.login, given.password) == (USERNAME.encode(), PASSWORD.encode())
    return AuthResult(success=right, handled=right)


class _Speaks(SMTP):
    """Counts who is connected."""

    def __init__(self, told: MailServer, **options: Any) -> None:
        super().__init__(told, hostname="mail.example.com", loop=asyncio.get_running_loop(), **options)
        self._told = told
        self._counted = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not self._counted:
            self._counted = True
            self._told.opened += 1
            self._told.open += 1
            self._told.most_open = max(self._told.most_open, self._told.open)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._told.open -= 1
        super().connection_lost(error)


@asynccontextmanager
async def mail_server(*, at_once: ssl.SSLContext | None = None, **options: Any) -> AsyncIterator[MailServer]:
    """On a free loopback port. ``at_once`` encrypts from the first byte; ``options`` are the server's own."""
    told, loop = MailServer(), asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Speaks(told, **options), "127.0.0.1", 0, ssl=at_once)
    told.port = server.sockets[0].getsockname()[1]
    try:
        yield told
    finally:
        server.close()


def asking_for_login(**options: Any) -> dict[str, Any]:
    return {"authenticator": _login, "auth_required": True, "auth_require_tls": False, **options}


def account(port: int, scheme: str = "smtp", **settings: str) -> Account:
    usual = {"url": f"{scheme}://127.0.0.1:{port}", "timeout_s": "10", "hello": "shop.example.com"}
    return Account(1, TenantId(1), "main", "smtp", Channel.email, {**usual, **settings}, "token")


def trusted(authority: Authority, **settings: str) -> dict[str, str]:
    """Settings that trust our own authority and log in."""
    return {"ca": authority.pem, "username": USERNAME, "password": PASSWORD, **settings}


def message(to: str = "ada@example.com", **more: Any) -> Message:
    content = Content(subject="Order 12345", text="Thank you.\n", html="<p>Thank you.</p>")
    usual = {"reference": REFERENCE, "to": to, "content": content, "sender": {"email": "shop@example.com"}}
    return Message(**{**usual, "headers": {}, **more})


@asynccontextmanager
async def using(account: Account) -> AsyncIterator[Smtp]:
    provider = Smtp(account)
    try:
        yield provider
    finally:
        await provider.close()


async def said(account: Account, what: Message | None = None) -> Outcome:
    """What one call becomes."""
    async with using(account) as provider:
        return await provider.send(what or message(), lambda: True)

"""Webhooks of providers: the raw body is verified before anything in it is believed, stored, then answered."""

from collections.abc import Mapping
from hashlib import blake2b
from typing import Final
from urllib.parse import parse_qsl

from tidings.domain.catalog import RECEIPTS, Account, Catalog, receipts_url
from tidings.domain.errors import NotFound, Unavailable
from tidings.domain.events import ReceiptForged
from tidings.ports import Provider, WebhookCall
from tidings.web.edge import Edge
from tidings.web.exchange import Head, Receive, Scope, Send, answer, answer_nothing, read_body
from tidings.web.problems import Forged, Overloaded

PREFIX: Final = f"{RECEIPTS}/"


class TakingReceipts:
    """One endpoint for each account; its address holds a secret. A 503 makes the provider send again."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self._waiting = 0
        self._known: tuple[int, Mapping[bytes, Account]] = (-1, {})

    async def take(self, scope: Scope, head: Head, receive: Receive, send: Send) -> None:
        """Raises a Refusal."""
        account = self._account(scope["path"])
        if self._waiting >= self._edge.limits.receipts_waiting_max:
            raise Overloaded("more receipts are waiting than the shards can take; send them again")
        self._waiting += 1
        try:
            await self._file(account, scope, head, receive)
        finally:
            self._waiting -= 1
        await answer_nothing(send, head.request_id)

    async def confirm(self, scope: Scope, head: Head, send: Send) -> None:
        """Answers a provider that asks whether this address is ours. Raises NotFound for anything else."""
        query = dict(parse_qsl(scope["query_string"].decode("latin-1")))
        answer_ = self._provider(self._account(scope["path"])).challenge(query)
        if answer_ is None:
            raise NotFound
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"x-request-id", head.request_id.encode())]
        await answer(send, 200, answer_.encode(), headers)

    async def _file(self, account: Account, scope: Scope, head: Head, receive: Receive) -> None:
        limits = self._edge.limits
        body = await read_body(receive, head, limits.receipts_body_bytes, limits.body_deadline_s)
        provider = self._provider(account)
        receipts = provider.receipts(WebhookCall(self._url(account, scope), _headers(scope), body))
        if receipts is None:
            self._edge.emit(ReceiptForged(account.id))
            raise Forged
        if receipts:
            await self._edge.file_receipts.submit(account, receipts)

    def _provider(self, account: Account) -> Provider:
        provider = self._edge.providers(account.id)
        if provider is None:
            raise Unavailable("this account is not in use yet; send it again")
        return provider

    def _url(self, account: Account, scope: Scope) -> str:
        """The one that the provider was given: what stands before us may have rewritten the one that came."""
        query = scope["query_string"].decode("latin-1")
        return receipts_url(self._edge.public_url, account) + (f"?{query}" if query else "")

    def _account(self, path: str) -> Account:
        """By kind and token. Looked up by a hash of the token, so that no timing tells how much of one is right."""
        kind, _, token = path.removeprefix(PREFIX).partition("/")
        catalog = self._edge.catalogs()
        if self._known[0] != catalog.version:
            self._known = (catalog.version, _by_token(catalog))
        account = self._known[1].get(_hashed(token))
        if account is None or account.kind != kind:
            raise NotFound
        return account


def _headers(scope: Scope) -> Mapping[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


def _by_token(catalog: Catalog) -> Mapping[bytes, Account]:
    return {_hashed(account.receipt_token): account for account in catalog.accounts.values()}


def _hashed(token: str) -> bytes:
    return blake2b(token.encode("utf-8", "replace"), digest_size=32).digest()

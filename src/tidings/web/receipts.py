"""Webhooks of providers: the raw body is verified before anything in it is believed, stored, then answered."""

from collections.abc import Mapping
from hashlib import blake2b
from typing import Final

from tidings.domain.catalog import Account, Catalog
from tidings.domain.errors import NotFound, Unavailable
from tidings.domain.events import ReceiptForged
from tidings.web.edge import Edge
from tidings.web.exchange import API, Head, Receive, Scope, Send, answer_nothing, read_body
from tidings.web.problems import Forged, Overloaded

PREFIX: Final = f"{API}/receipts/"


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

    async def _file(self, account: Account, scope: Scope, head: Head, receive: Receive) -> None:
        limits = self._edge.limits
        body = await read_body(receive, head, limits.receipts_body_bytes, limits.body_deadline_s)
        provider = self._edge.providers(account.id)
        if provider is None:
            raise Unavailable("this account is not in use yet; send it again")
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        receipts = provider.receipts(headers, body)
        if receipts is None:
            self._edge.emit(ReceiptForged(account.id))
            raise Forged
        if receipts:
            await self._edge.file_receipts.submit(account, receipts)

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


def receipts_path(account: Account) -> str:
    """Where the provider sends this account's webhooks."""
    return f"{PREFIX}{account.kind}/{account.receipt_token}"


def _by_token(catalog: Catalog) -> Mapping[bytes, Account]:
    return {_hashed(account.receipt_token): account for account in catalog.accounts.values()}


def _hashed(token: str) -> bytes:
    return blake2b(token.encode("utf-8", "replace"), digest_size=32).digest()

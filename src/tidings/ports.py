"""Every port of the pipeline on one page: the map of the system.

All take and return many. Adapters live in storage, hints, channels, providers and runtime; ``wiring`` alone knows
which is used. Each has one contract suite, which its implementations and its shipped fake pass alike.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

import msgspec

from tidings.domain.breaker import BreakerState
from tidings.domain.callback import Disabled, Held, Notice, Posted, Webhook
from tidings.domain.catalog import Account, Catalog
from tidings.domain.claimed import Claimed
from tidings.domain.dispatch import Settlement
from tidings.domain.ids import DeliveryId, ShardNumber, TenantId
from tidings.domain.lanes import Channel, Lane
from tidings.domain.line import Place
from tidings.domain.notification import Acceptance, Accepted, Content
from tidings.domain.outcome import Outcome, Receipt, Trouble
from tidings.domain.presence import Present
from tidings.domain.price import Charge
from tidings.domain.suppression import Suppression


class Clock(Protocol):
    """Two clocks: the wall's, for people, and the boot-time one, which counts suspend and never jumps."""

    def now(self) -> datetime: ...

    def boottime_s(self) -> float: ...


class Acceptor(Protocol):
    """Stores what was accepted: one statement, one commit, replicated before it returns."""

    async def accept(self, shard: ShardNumber, rows: Sequence[Acceptance]) -> Sequence[Accepted]:
        """In the order of ``rows``, which hold no key twice. Raises ``errors.StillCommitting`` when a key of them is
        locked for too long, ``errors.Unavailable`` when nothing is known to be stored."""
        ...


class Marked(msgspec.Struct, frozen=True, gc=False):
    """``n`` numbers the try; it goes into the reference."""

    id: DeliveryId
    n: int


class Settled(msgspec.Struct, frozen=True, gc=False):
    """The end of one hold. ``n`` is the try that it is about (the claimed ``tries`` when no call was made, and then
    ``said`` is None). ``again_in`` is the lane that workers are woken for when it is due again at once,
    ``waits_for`` the tenant for one of whose accounts it waits, ``charge`` what the call comes to if it was taken,
    ``home`` the lane that it came from."""

    id: DeliveryId
    token: int
    n: int
    to: Settlement
    provider: int = 0
    said: Outcome | None = None
    address: str | None = None
    address_hash: bytes | None = None
    started_at: datetime | None = None
    took_ms: int = 0
    expires_at: datetime | None = None
    duplicate_possible: bool = False
    again_in: Lane | None = None
    waits_for: TenantId | None = None
    charge: Charge | None = None
    home: Lane | None = None


class Dispatches(Protocol):
    """The hot rows of one shard, claimed, marked and settled. Every write after the claim carries its token."""

    async def claim(self, shard: ShardNumber, limits: Mapping[Lane, int], token: int) -> Sequence[Claimed]:
        """Up to ``limits`` due rows of each lane, oldest first, held for the lease. An expired in-flight row is moved
        to the in-doubt lane and not returned."""
        ...

    async def claim_named(
        self, shard: ShardNumber, lanes: Sequence[Lane], ids: Sequence[DeliveryId], token: int
    ) -> Sequence[Claimed]:
        """The same of these rows, as far as they are due and in one of the lanes."""
        ...

    async def mark(
        self, shard: ShardNumber, ids: Sequence[DeliveryId], tokens: Sequence[int], providers: Sequence[int]
    ) -> Sequence[Marked]:
        """Notes durably that a call is about to be made. Only what comes back may be sent."""
        ...

    async def settle(self, shard: ShardNumber, rows: Sequence[Settled]) -> Sequence[DeliveryId]:
        """Attempts, deliveries and dispatches in one commit. Returns the ids still held; the others had been settled
        by somebody else, which is a normal result."""
        ...

    async def look_again(
        self, shard: ShardNumber, ids: Sequence[DeliveryId], tokens: Sequence[int], after_s: Sequence[float]
    ) -> None:
        """Doubts that a look did not settle, due again later."""
        ...

    async def give_back(self, shard: ShardNumber, ids: Sequence[DeliveryId], tokens: Sequence[int]) -> None:
        """Untouched claims, due again at once."""
        ...


class Lines(Protocol):
    """What waits in a shard for accounts that are away, or only just back. Raises ``errors.Unavailable``."""

    async def queues(self, shard: ShardNumber) -> Sequence[tuple[TenantId, Lane]]:
        """Whose accounts are waited for, in which lanes."""
        ...

    async def read(
        self, shard: ShardNumber, queue: tuple[TenantId, Lane], behind: DeliveryId, most: int
    ) -> Sequence[DeliveryId]:
        """Those behind one who are not due, the oldest first."""
        ...

    async def let_go(self, shard: ShardNumber, tenant: TenantId, ids: Sequence[DeliveryId]) -> Sequence[DeliveryId]:
        """Their turn, in this order; returns who is due now. Claimed ones are left out."""
        ...


class Filed(msgspec.Struct, frozen=True, gc=False):
    """``new`` is False for a repeated receipt; ``known`` is False when no such delivery of this tenant exists;
    ``resolved`` says that it ended a doubt."""

    known: bool
    new: bool
    resolved: bool


class Receipts(Protocol):
    """What providers said later."""

    async def file(self, shard: ShardNumber, account: Account, rows: Sequence[Receipt]) -> Sequence[Filed]:
        """Stores each once, moves its delivery's status forward, resolves its doubt, and puts an address that is gone
        on the suppression list. Replicated on return."""
        ...

    async def taken(self, shard: ShardNumber, deliveries: Sequence[DeliveryId]) -> Mapping[DeliveryId, Sequence[int]]:
        """The tries that receipts report as taken by the provider; deliveries without one are left out."""
        ...


class Suppressions(Protocol):
    """What is held against addresses."""

    async def put(self, rows: Sequence[Suppression]) -> None:
        """Known in every shard on return, where of the words about an address the last counts. Raises
        ``errors.Unavailable``: then all shards learn it later, or none does; to repeat it does no harm."""
        ...


class Hints(Protocol):
    """How a worker learns that something is due. A hint may be lost or repeated at no cost."""

    def publish(self, shard: ShardNumber, due: Mapping[DeliveryId, Lane]) -> None:
        """Never waits and never fails: called after the commit."""
        ...

    async def take(self, shard: ShardNumber, lane: Lane, most: int, timeout_s: float) -> Sequence[DeliveryId] | None:
        """Returns when a hint has come since the last call, or after the timeout: which deliveries may be due, up to
        ``most``, or None, to look for whatever is. What was named before is done with: claimed, or left to be
        found."""
        ...

    async def leave(self) -> None:
        """Nothing is taken here any more: what comes is for others."""
        ...


class Seen(msgspec.Struct, frozen=True, gc=False):
    """An account that is not as it should be, as one worker sees it. ``since`` is when its breaker left the closed
    state, ``rests_until`` is set while it rests, ``why`` is the code that led there: for people, by the wall's clock.

    For other workers, whose clocks may differ, in seconds: ``rests_s`` is what is left of a rest that it asked for
    itself, ``back_for_s`` how long it has been back. ``waited_for``: it is away, and somebody waits for it. ``place``
    is how far the line of those who waited for it has come, and ``rank`` that of the worker who moves it on.
    """

    account: int
    breaker: BreakerState
    why: str
    since: datetime | None = None
    rests_until: datetime | None = None
    rests_s: float = 0.0
    waited_for: bool = False
    back_for_s: float | None = None
    place: Place | None = None
    rank: int = 0


class Board(Protocol):
    """Where workers show each other, and people, which accounts are not well. Best effort: without it nothing is
    shown, and nothing fails."""

    async def show(self, seen: Sequence[Seen]) -> None:
        """All that this worker sees, in place of what it showed before. Forgotten soon when it is not shown again."""
        ...

    async def read(self) -> Sequence[Sequence[Seen]]:
        """What each worker shows that is alive."""
        ...


class RollCall(Protocol):
    """Where processes show that they are there, and what they have done. Best effort, like the board."""

    async def show(self, present: Present) -> None:
        """In place of what this process showed before. Forgotten soon when it is not shown again."""
        ...

    async def leave(self, present: Present) -> None:
        """This process is there no longer."""
        ...

    async def read(self, *roles: str) -> Sequence[Present] | None:
        """Those of these roles that are alive; None where nobody can tell."""
        ...


class RenderRequest(msgspec.Struct, frozen=True, gc=False):
    """``template_version`` 0 means that the content in ``payload`` is used as it is. ``payload`` is the JSON of a
    ``notification.Payload``."""

    channel: Channel
    template_version: int
    payload: bytes


class Rendered(msgspec.Struct, frozen=True, gc=False):
    """``fault`` says why there is no content: the template's fault, not ours. With ``retry_after_s`` this item was not
    tried, because others of its template had just brought the renderer down."""

    content: Content | None = None
    fault: str | None = None
    retry_after_s: float | None = None
    reply_to: str | None = None


class Renderer(Protocol):
    """Turns templates and data into content, where neither can do harm."""

    async def render(self, batch: Sequence[RenderRequest]) -> Sequence[Rendered]: ...


class Message(msgspec.Struct, frozen=True, gc=False):
    """All that a provider needs for one call."""

    reference: str
    to: str
    content: Content
    sender: Mapping[str, str]
    headers: Mapping[str, str]
    reply_to: str | None = None


class WebhookCall(msgspec.Struct, frozen=True, gc=False):
    """A call to an account's webhook. ``url`` is the one that the provider was given, with the query that came; names
    of ``headers`` are in small letters; ``body`` is raw, as it was signed."""

    url: str
    headers: Mapping[str, str]
    body: bytes


class Provider(Protocol):
    """One account at one provider. Never raises for what the provider does; never repeats a call by itself."""

    async def send(self, message: Message, may_write: Callable[[], bool]) -> Outcome:
        """``may_write`` is asked right before the first byte leaves; False answers ``Fenced``."""
        ...

    def receipts(self, call: WebhookCall) -> Sequence[Receipt] | None:
        """The receipts in a webhook call, None when its signature is not the provider's."""
        ...

    def challenge(self, query: Mapping[str, str]) -> str | None:
        """The answer to a provider that asks, by GET, whether the address of its webhook is ours; None for a question
        that is not this provider's."""
        ...

    async def look_up(self, reference: str, to: str, started_at: datetime) -> Outcome | None:
        """What became of a call that may have gone: ``Sent``, surely not taken (``TryNext``), or None when this
        provider cannot tell."""
        ...

    async def check(self, senders: Sequence[Mapping[str, str]]) -> Trouble | None:
        """Tries the credentials by harmless calls, made afresh: what keeps the account from sending for these
        identities of senders, None when nothing does."""
        ...

    async def close(self) -> None: ...


class Finished(msgspec.Struct, frozen=True, gc=False):
    """The end of one hold of a callback: ``after_s`` until its next try, None when it was told or is given up."""

    id: UUID
    token: int
    after_s: float | None = None


class Callbacks(Protocol):
    """What callers' systems are still to be told, shard by shard. Raises ``errors.Unavailable``."""

    async def put(self, shard: ShardNumber, notices: Sequence[Notice]) -> None:
        """Owes them to their webhooks, each once however often it is put."""
        ...

    async def claim(self, shard: ShardNumber, limits: Mapping[int, int], token: int) -> Sequence[Held]:
        """Up to ``limits`` due ones of each webhook, the oldest first, held for a while."""
        ...

    async def finish(self, shard: ShardNumber, rows: Sequence[Finished]) -> None: ...

    async def drop(self, shard: ShardNumber, most: int) -> int:
        """Removes what nobody will be told, because nobody listens any more; returns how many."""
        ...


Listen = Callable[[ShardNumber, Catalog], Awaitable[None]]
"""From then on changes of status make callbacks for the webhooks of this catalog, and for no others, unless the shard
knows a newer one. Raises ``errors.Unavailable``."""


class Failing(msgspec.Struct, frozen=True):
    """A webhook whose calls have failed since then, without one that succeeded."""

    since: datetime
    code: str


class WebhookHealth(Protocol):
    """How callers' systems take their callbacks, over all processes. Raises ``errors.Unavailable``."""

    async def failing(self) -> Mapping[int, Failing]: ...

    async def failed(self, webhook: int, code: str) -> None: ...

    async def recovered(self, webhook: int) -> None: ...

    async def disable_failing(self, webhook: int, for_s: float) -> bool:
        """Disables it if it has failed for that long; True when this call did it."""
        ...

    async def disable_gone(self, webhook: int, url: str) -> bool:
        """The same at once, if this is still its address."""
        ...

    async def untold(self) -> Sequence[Disabled]:
        """Those of which their tenants' others have not been told."""
        ...

    async def told(self, disabled: Disabled) -> None: ...


Post = Callable[[Webhook, str, bytes, datetime], Awaitable[Posted]]
"""Tells one webhook one event, once: the callback's id, its body, and the instant to sign."""

Providers = Callable[[int], Provider | None]
"""The live provider of an account number, None for one that is gone or whose settings cannot be used."""

Lag = Callable[[], Awaitable[Mapping[Lane, int] | None]]
"""How many hints of each lane no worker has taken yet; None where hints stand in no queue, or nobody answers."""

Catalogs = Callable[[], Catalog]
"""The control database as this process last saw it."""

Emit = Callable[[object], None]
"""Takes a typed event of ``domain.events``."""

Shape = Callable[[Content], Content]
"""Fits content to a channel. Raises ``errors.TemplateFault`` with what is wrong."""

Units = Callable[[Content], int]
"""What one message counts as in prices and limits."""

Country = Callable[[str], str | None]
"""The country of an address, as its two letters, where it has one."""

Reach = Callable[[str], None]
"""Called at the named points at which a test may end this process."""

FileStrays = Callable[[int, Sequence[Receipt]], Awaitable[None]]
"""Keeps receipts of an account that name no delivery of ours."""

"""Which account a delivery goes through. Pure; the health of accounts comes in as a value."""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from tidings.domain.dispatch import Again

NO_ROUTE: Final = "no_route"
PAUSED: Final = "provider_paused"
_NO_ROUTE_WAITS_S: Final = (0.5, 60.0)


class Through(msgspec.Struct, frozen=True, gc=False):
    """Send it through this account."""

    account: int


def open_to(accounts: Sequence[int], provider: int, *, duplicate_possible: bool) -> Sequence[int]:
    """The part of a route that a delivery may take. One that may have gone already stays with the provider that may
    have taken it, so that nobody hears the same from two senders."""
    return (provider,) if duplicate_possible and provider in accounts else accounts


def route(
    accounts: Sequence[int], tried: Sequence[int], paused_s: Mapping[int, float], age_s: float
) -> Through | Again:
    """The first account of the route that is neither tried in this round nor paused.

    ``paused_s``: how many seconds longer an account must wait. ``age_s`` is the notification's: a route may have been
    made a moment before it, so a young one looks again soon. Waiting uses up no attempt.
    """
    open_ = [account for account in accounts if account not in tried] or list(accounts)
    if not open_:
        soon_s, late_s = _NO_ROUTE_WAITS_S
        return Again(min(max(age_s, soon_s), late_s), NO_ROUTE, tried=tuple(tried))
    for account in open_:
        if paused_s.get(account, 0.0) <= 0:
            return Through(account)
    return Again(min(paused_s[account] for account in open_), PAUSED, tried=tuple(tried))

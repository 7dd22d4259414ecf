"""Whether a claimed delivery is sent, decided at the last moment on the database's clock. Pure."""

from collections.abc import Sequence
from typing import Final

from tidings.domain.claimed import Claimed
from tidings.domain.delivery import Mark
from tidings.domain.dispatch import Bury, Finish, Settlement
from tidings.domain.lanes import class_of
from tidings.domain.rollout import EVERYBODY, reaches
from tidings.domain.suppression import stopping

EXPIRED: Final = "expired"
NOT_ROLLED_OUT: Final = "not_rolled_out"
SUPPRESSED: Final = "suppressed"
NO_ADDRESS: Final = "no_address"
QUARANTINED: Final = "quarantined"


def company(
    held: Sequence[Claimed], most: int, quarantine_after_claims: int
) -> tuple[Sequence[Claimed], Sequence[Claimed]]:
    """Those of a claim that are served together, and those that go back for a later one.

    One that comes back from a hold that ended without a word may have ended its worker. It is served in ever smaller
    company, and alone before it is quarantined, so that it takes nobody along.
    """
    worst = max(one.claims for one in held)
    if worst == 1:
        return held, ()
    places = 1 if worst >= quarantine_after_claims else max(1, most >> 3 * (worst - 1))
    together = [one for one in held if one.claims == worst][:places]
    chosen = {one.id for one in together}
    return together, [one for one in held if one.id not in chosen]


def decide(held: Claimed, quarantine_after_claims: int, percent: float = EVERYBODY) -> Settlement | None:
    """Why not to send, None to go ahead. The order is the precedence that the documentation states. ``percent`` is the
    share of users for whom the channel is on."""
    if held.claims > quarantine_after_claims:
        return Bury(QUARANTINED, f"claimed {held.claims} times, and each time its worker ended before the send")
    if held.expires_at is not None and held.expires_at <= held.now:
        return Finish(Mark.expired, EXPIRED)
    if not reaches(percent, held.tenant, held.channel, held.user):
        return Finish(Mark.suppressed, NOT_ROLLED_OUT)
    if held.address is None:
        return Finish(Mark.suppressed, NO_ADDRESS)
    if why := stopping(held.suppressed, class_of(held.home)):
        return Finish(Mark.suppressed, SUPPRESSED, why)
    return None

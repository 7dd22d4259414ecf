"""Whether a claimed delivery is sent, decided at the last moment on the database's clock. Pure."""

from typing import Final

from tidings.domain.claimed import Claimed
from tidings.domain.delivery import Mark
from tidings.domain.dispatch import Bury, Finish, Settlement

EXPIRED: Final = "expired"
SUPPRESSED: Final = "suppressed"
NO_ADDRESS: Final = "no_address"
QUARANTINED: Final = "quarantined"


def decide(held: Claimed, quarantine_after_claims: int) -> Settlement | None:
    """Why not to send, None to go ahead. The order is the precedence that the documentation states."""
    if held.claims > quarantine_after_claims:
        return Bury(QUARANTINED, f"claimed {held.claims} times, and each time its worker ended before the send")
    if held.expires_at is not None and held.expires_at <= held.now:
        return Finish(Mark.expired, EXPIRED)
    if held.address is None:
        return Finish(Mark.suppressed, NO_ADDRESS)
    if held.suppressed:
        return Finish(Mark.suppressed, SUPPRESSED)
    return None

"""How an account is, from what the workers say of it, one by one."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

import msgspec

from tidings.domain.breaker import BreakerState
from tidings.ports import Seen


class Wellbeing(msgspec.Struct, frozen=True):
    """``breaker`` is what most workers find, ``workers_open`` how many find it open or half open, ``why`` what most of
    those who find it unwell say, ``since`` the first of them."""

    breaker: BreakerState = BreakerState.closed
    workers_open: int = 0
    why: str | None = None
    since: datetime | None = None
    rests_until: datetime | None = None


def wellbeing(reports: Sequence[Sequence[Seen]], account: int) -> Wellbeing:
    """``reports`` has one entry for each worker that is alive."""
    shown = [one for report in reports for one in report if one.account == account]
    unwell = [one for one in shown if one.breaker is not BreakerState.closed or one.rests_until]
    if not unwell:
        return Wellbeing()
    broken = Counter(one.breaker for one in unwell if one.breaker is not BreakerState.closed)
    most = 2 * broken.total() > len(reports)
    return Wellbeing(
        breaker=max(broken, key=lambda state: (broken[state], state is BreakerState.open))
        if most
        else BreakerState.closed,
        workers_open=broken.total(),
        why=Counter(one.why for one in unwell).most_common(1)[0][0],
        since=min((one.since for one in unwell if one.since), default=None),
        rests_until=max((one.rests_until for one in unwell if one.rests_until), default=None),
    )

"""Charge: what a call comes to."""

from collections.abc import Mapping
from dataclasses import dataclass

from tidings.domain.lanes import Channel
from tidings.domain.outcome import Outcome, Sent, Unsure
from tidings.domain.price import Charge
from tidings.pipeline.letter import Call
from tidings.ports import Catalogs, Country, Units


@dataclass(frozen=True)
class Charges:
    """Counts the units of calls, and their cost where an account has a price."""

    catalogs: Catalogs
    units: Mapping[Channel, Units]
    countries: Mapping[Channel, Country]

    def of(self, call: Call, said: Outcome) -> Charge | None:
        """None for what was surely not taken. What the provider counted goes before our own count."""
        if not isinstance(said, Sent | Unsure):
            return None
        routed = call.ready.routed
        counted = said.units if isinstance(said, Sent) else None
        units = counted or self.units[routed.held.channel](call.ready.content)
        account = self.catalogs().accounts.get(routed.account)
        if account is None or account.price is None:
            return Charge(units)
        country = self._country(call) if account.price.by_country_micros else None
        return Charge(units, account.price.cost_micros(units, country))

    def _country(self, call: Call) -> str | None:
        held = call.ready.routed.held
        country_of = self.countries.get(held.channel)
        return country_of(held.address) if country_of and held.address else None

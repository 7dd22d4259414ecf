"""Push tokens: every live one gets a delivery of its own, and one that lives no more is forgotten. Both happen inside
the commits of the hot rows."""

from collections.abc import Mapping, Sequence

from tidings.domain import ids
from tidings.domain.ids import DeliveryId
from tidings.storage.shards import PoolConnection
from tidings.storage.sql import load_statements


class PushTokens:
    """Works on the connection of whoever claims or settles."""

    def __init__(self) -> None:
        self._sql = load_statements("push")

    async def fan_out(
        self, connection: PoolConnection, held: Sequence[DeliveryId], token: int
    ) -> Mapping[DeliveryId, int]:
        """Gives each of these, held under ``token``, the first token of its user, and a sibling for each further one.
        Returns how many siblings; a delivery without a user's token is left out."""
        rows = await connection.fetch(self._sql["fan_out"], held, *ids.bounds(held), token)
        return {row["id"]: row["siblings"] for row in rows}

    async def forget(self, connection: PoolConnection, refused: Sequence[DeliveryId]) -> None:
        """Takes the tokens that these deliveries went to away from their users."""
        await connection.execute(self._sql["forget_tokens"], refused, *ids.bounds(refused))

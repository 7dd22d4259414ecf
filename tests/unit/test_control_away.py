"""A control database that is away is said to be unavailable, whatever was asked of it."""

import pytest

from tidings.domain.errors import Unavailable
from tidings.domain.ids import TenantId
from tidings.domain.lanes import Channel
from tidings.domain.template import TemplateSource
from tidings.storage.control import Control
from tidings.storage.secrets import Secrets
from tidings.storage.shards import open_pool

TENANT = TenantId(1)
NOBODY = "postgresql://nobody@127.0.0.1:1/none"


@pytest.mark.parametrize(
    "ask",
    [
        lambda control: control.version(),
        lambda control: control.catalog(),
        lambda control: control.spread_slots(2),
        lambda control: control.put_template(TENANT, "welcome", "general", TemplateSource()),
        lambda control: control.put_account(TENANT, "sendgrid", "sendgrid", Channel.email, {}),
    ],
    ids=["version", "catalog", "spread_slots", "put_template", "put_account"],
)
async def test_a_control_database_that_is_away_is_unavailable(ask):
    pool = await open_pool(NOBODY, 1, {})
    try:
        with pytest.raises(Unavailable, match="control database"):
            await ask(Control(pool, Secrets("00" * 32)))
    finally:
        pool.terminate()

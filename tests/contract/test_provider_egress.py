"""No provider's adapter is a way into an inner network: a tenant chooses where its account's API is."""

import msgspec
import pytest
from provider_case import Case
from provider_cases import CASES
from test_providers import account, giving, plain, taken
from wire_peer import playing

from tidings.domain.egress import Egress
from tidings.domain.outcome import TryNext
from tidings.providers.registry import build

every = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
INNER = ["127.0.0.1", "localhost", "[::1]", "169.254.169.254", "10.0.0.1"]


def under(*allow: str) -> dict[str, str]:
    """Settings as an operator forces them upon every account."""
    return {"egress": msgspec.json.encode(Egress(allow=allow)).decode()}


@every
@pytest.mark.parametrize("host", INNER)
async def test_an_account_with_an_inner_address_is_refused(case: Case, host: str) -> None:
    with pytest.raises(ValueError, match=r"^url: "):
        build(account(case, f"http://{host}:25", under()))


@every
async def test_a_name_that_leads_to_an_inner_address_is_not_connected_to(case: Case) -> None:
    async with playing(giving(case, taken(case))) as peer:
        provider = build(account(case, f"http://localhost:{peer.port}", under("127.0.0.2/32")))
        said = await provider.send(case.message, lambda: True)
        await provider.close()
        assert plain(said) == TryNext("address_refused")
        assert peer.seen == []


@pytest.mark.parametrize("host", INNER)
def test_the_token_endpoint_that_a_service_account_names_is_judged_like_an_api(host: str) -> None:
    file = msgspec.json.decode(CASES["fcm"].settings["service_account"])
    named = msgspec.json.encode({**file, "token_uri": f"http://{host}/token"}).decode()
    settings = {**under(), "service_account": named, "url": ""}
    with pytest.raises(ValueError, match=r"^url: "):
        build(account(CASES["fcm"], "", settings))

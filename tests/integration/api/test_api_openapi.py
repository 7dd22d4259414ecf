"""The document says what the API does: tried with requests made from it."""

import asyncio
import re
from collections.abc import Mapping

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.integration.api.rig import Api

HOT = ("/api/v1/notifications", "/api/v1/notifications/batch")
EXAMPLES = 25


async def test_the_document_is_openapi_3_1_and_describes_the_hot_endpoints(api: Api):
    said = await api.call("GET", "/api/v1/openapi.json", key=None)
    document = said.body
    assert said.status == 200 and document["openapi"].startswith("3.1")
    for path in HOT:
        call = document["paths"][path]["post"]
        assert {"202", "400", "401", "403", "409", "413", "415", "422", "503"} <= set(call["responses"])
    assert "application/problem+json" in document["paths"][HOT[0]]["post"]["responses"]["422"]["content"]
    assert set(document["components"]["schemas"]) >= {"NotificationRequest", "Recipient", "Problem", "BatchAnswer"}


async def test_every_reference_in_the_document_leads_somewhere(api: Api):
    said = await api.call("GET", "/api/v1/openapi.json", key=None)
    named = set(re.findall(r'"#/components/schemas/([^"]+)"', said.raw.decode()))
    assert named <= set(said.body["components"]["schemas"])
    assert "HTTPValidationError" not in said.body["components"]["schemas"]


async def test_the_page_needs_no_other_host_and_no_script(api: Api):
    said = await api.call("GET", "/docs", key=None)
    text = said.raw.decode()
    assert said.status == 200 and "text/html" in said.headers["content-type"]
    assert not re.findall(r"<script|(?:src|href)=[\"']?(?:https?:)?//", text)
    assert "default-src 'none'" in said.headers["content-security-policy"]
    assert all(path in text for path in HOT)
    for anchor in re.findall(r'href="#([^"]+)"', text):
        assert f'id="{anchor}"' in text
    problem = await api.send({})
    assert f'id="{problem.body["type"].partition("#")[2]}"' in text


def operations(document: Mapping) -> list:
    schema = schemathesis.openapi.from_dict(dict(document))
    return [one.ok() for one in schema.get_all_operations()]


CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


async def test_requests_made_from_the_document_get_the_answers_it_promises(api: Api):
    document = (await api.call("GET", "/api/v1/openapi.json", key=None)).body
    tried = await asyncio.to_thread(lambda: [try_out(api, one) for one in operations(document)])
    assert len(tried) >= 25


def try_out(api: Api, operation) -> None:
    """Raises what an operation answered against its own description."""
    headers = {"Authorization": f"Bearer {api.key}"}

    @settings(
        max_examples=EXAMPLES, database=None, deadline=None, phases=[Phase.generate], derandomize=True,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(operation.as_strategy())
    def run(case):
        response = case.call(base_url=api.url, headers=headers)
        case.validate_response(response, checks=CHECKS, headers=headers)

    run()

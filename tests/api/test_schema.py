"""schemathesis throws what the OpenAPI document allows, and what it does not, at the real server: never a 5xx."""

import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance

from tests.api.conftest import Api


def test_no_request_that_the_document_describes_or_forbids_ends_in_a_5xx(api: Api) -> None:
    schema = schemathesis.openapi.from_url(f"{api.base_url}/openapi.json")
    tried = 0
    for result in schema.get_all_operations():
        operation = result.ok()
        for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):
            strategy = operation.as_strategy(generation_mode=mode)

            @settings(max_examples=15, deadline=None, database=None, suppress_health_check=list(HealthCheck))
            @given(case=strategy)
            def attack(case: schemathesis.Case) -> None:
                nonlocal tried
                tried += 1
                if "prefer" in {name.lower() for name in case.headers or {}}:
                    del case.headers["prefer"]  # waiting for a worker that is not there only takes time
                case.call_and_validate(
                    checks=[not_a_server_error, content_type_conformance, response_schema_conformance]
                )

            attack()
    assert tried > 200

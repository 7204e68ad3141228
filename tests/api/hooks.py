"""For schemathesis: a body in, one that is a job out. Where links are followed, the order of calls is what counts."""

from typing import Any

import schemathesis

from tests.api import ends as ends


@schemathesis.hook
def map_body(context: schemathesis.HookContext, body: Any) -> Any:
    """Bodies are tried by the other phases; of a hundred that the document allows, hardly one is a job."""
    if context.operation and context.operation.path == "/v1/jobs":
        return {"prompt": "a red apple"}
    if context.operation and context.operation.path.endswith("/retry"):
        return {}
    return body

"""LitServe over the fake device, as rival: ``python -m bench.litserver PORT``.

A batch holds whatever waits, as many as there are slots; of these, equal parameters are painted together. It is what
LitServe's guide to batching leads to, for a pipeline that takes a list of prompts and one set of parameters.
"""

import sys
from collections import defaultdict
from typing import Any

import litserve

from bench.fake import SLOTS, Job, Unet
from bench.painters import paint_together

TIMEOUT = 120  # seconds that a request may take


class Api(litserve.LitAPI):  # type: ignore[misc]
    """One worker with the fake device."""

    def setup(self, device: str) -> None:
        self._unet = Unet(SLOTS)

    def decode_request(self, request: dict[str, Any]) -> Job:
        return Job(**request)

    def predict(self, batch: list[Job]) -> list[int]:
        alike: dict[Job, list[Job]] = defaultdict(list)
        for job in batch:
            alike[job].append(job)
        for jobs in alike.values():
            paint_together(self._unet, jobs)
        return [job.evaluations for job in batch]

    def encode_response(self, output: int) -> dict[str, int]:
        return {"evaluations": output}


def serve(port: int) -> None:
    api = Api(max_batch_size=SLOTS, batch_timeout=0.01)
    server = litserve.LitServer(api, accelerator="cpu", devices=1, workers_per_device=1, timeout=TIMEOUT)
    server.run(host="127.0.0.1", port=port, num_api_servers=1, generate_client_file=False, log_level="warning")


if __name__ == "__main__":
    serve(int(sys.argv[1]))

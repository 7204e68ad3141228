"""Settings in, a finding per service out: each is asked directly, not through the API. Changes nothing anywhere.

Imports the services' libraries: import it only when `kiln doctor` runs.
"""

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy.exc import ProgrammingError

from client.api import Kiln
from client.errors import ClientError
from common.db import make_engine
from common.jobs.outlook import depth
from common.models import PARTS, ModelEntry
from common.objects import Objects
from common.queue import Doorbell
from common.settings import Settings

_DEVICE_SECONDS = 120  # a first import of torch from a slow disk

# In a process of its own: importing torch takes seconds, and a broken driver may end the process.
_ASK_DEVICE = """
import sys, torch
from common.errors import ModelNotLoadable
from worker.hardware import pick_device, pick_dtype
try:
    device = pick_device(sys.argv[1])
except ModelNotLoadable as error:
    sys.exit(error.detail)
name = f" ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else ""
dtype = str(pick_dtype(sys.argv[2], device)).removeprefix("torch.")
sys.stdout.write(f"{device}{name} in {dtype}, torch {torch.__version__}")
"""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found; ``advice`` says what to do where it failed."""

    name: str
    ok: bool
    detail: str
    advice: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class CheckFailed(Exception):
    """The service answers, and something is wrong with it all the same."""


@dataclass(frozen=True, slots=True)
class Check:
    """One question: ``probe`` returns what it saw or raises."""

    name: str
    probe: Callable[[], str]
    advice: str

    def find(self) -> Finding:
        try:
            return Finding(self.name, True, self.probe())
        except Exception as error:  # whatever a driver raises means that its service cannot be used
            return Finding(self.name, False, _reason(error), self.advice)


def find_all(settings: Settings) -> list[Finding]:
    """Every check at once, their findings in the order in which a job meets the services."""
    checks = [*service_checks(settings), *api_checks()]
    with ThreadPoolExecutor(max_workers=len(checks)) as pool:
        return list(pool.map(Check.find, checks))


def service_checks(settings: Settings) -> list[Check]:
    """The parts that the API and the workers stand on."""
    start = "start it with `kiln up`, or set"
    return [
        Check(
            "device",
            lambda: _device(settings),
            "install the worker's libraries as the README says, or set KILN_DEVICE to one that there is",
        ),
        Check("database", lambda: _database(settings), f"{start} KILN_DATABASE_URL; for tables: python -m migrations"),
        Check("broker", lambda: _broker(settings), f"{start} KILN_BROKER_URL"),
        Check("bucket", lambda: _bucket(settings), f"{start} KILN_S3_ENDPOINT_URL and the two S3 keys"),
        Check("weights", lambda: _weights(settings), f"fetch them: kiln models pull {' '.join(settings.served)}"),
    ]


def api_checks() -> list[Check]:
    """The API as this client finds it, and the workers that it knows."""
    return [
        Check("api", _api, "start it with `kiln up`, or set KILN_API_URL and KILN_API_KEY"),
        Check("workers", _workers, "start one with `kiln up` or `python -m worker`, and read what its log says"),
    ]


def _device(settings: Settings) -> str:
    command = [sys.executable, "-c", _ASK_DEVICE, settings.device, settings.dtype]
    asked = subprocess.run(command, capture_output=True, text=True, timeout=_DEVICE_SECONDS)  # noqa: S603 - our own code
    if asked.returncode:
        lines = asked.stderr.strip().splitlines()
        raise CheckFailed(lines[-1] if lines else f"the test process ended with {asked.returncode}")
    return asked.stdout


def _database(settings: Settings) -> str:
    url = settings.database_url.get_secret_value()
    engine = make_engine(url, name="kiln doctor", pool_size=1)
    try:
        lanes = depth(engine).values()
    except ProgrammingError as error:
        raise CheckFailed(f"{_place(url)} answers, but has no tables of Kiln, or those of another version") from error
    finally:
        engine.dispose()
    queued, running = sum(lane.queued for lane in lanes), sum(lane.running for lane in lanes)
    return f"{_place(url)}, {queued} jobs queued, {running} running"


def _broker(settings: Settings) -> str:
    url = settings.broker_url.get_secret_value()
    Doorbell(url).check()
    return _place(url)


def _bucket(settings: Settings) -> str:
    Objects.from_settings(settings).check()
    return f"{settings.s3_bucket} at {_place(settings.s3_endpoint_url)}"


def _weights(settings: Settings) -> str:
    return "; ".join(_model(name, settings.registry[name], settings) for name in settings.served)


def _model(name: str, entry: ModelEntry, settings: Settings) -> str:
    # Imported here: the worker's libraries are an extra, and their absence is a finding like any other.
    from worker.locate import locate_part
    from worker.parts import naming
    from worker.pull import is_folder, is_pulled

    for part in PARTS:
        origin = entry.part(part)
        with naming(name, part, origin):
            if is_folder(origin):
                locate_part(name, part, origin, settings.home)
            elif not is_pulled(part, origin, settings.home):
                raise CheckFailed("it has not been fetched")
    return f"{name}: all {len(PARTS)} parts"


def _api() -> str:
    with Kiln() as kiln:
        failed = [name for name, check in kiln.ready()["checks"].items() if not check["ok"]]
        if failed:
            raise CheckFailed(f"{kiln.base_url} answers, but does not reach: {', '.join(failed)}")
        kiln.queue()  # readiness is open to everybody; this needs the key
        return kiln.base_url


def _workers() -> str:
    with Kiln() as kiln:
        live = kiln.workers()["data"]
        ready = [f"{worker['id']} ({', '.join(worker['models'])})" for worker in live if worker["state"] == "ready"]
        if not ready:
            states = ", ".join(f"{worker['id']} {worker['state']} {worker['detail']}".strip() for worker in live)
            raise CheckFailed(f"none is ready: {states or 'none is there'}")
        return f"{len(ready)} ready: {', '.join(ready)}"


def _place(url: str) -> str:
    """Host and port alone: a URL carries its password."""
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)


def _reason(error: BaseException) -> str:
    """The first line of the innermost cause: drivers wrap it, and say most there."""
    if isinstance(error, (CheckFailed, ClientError)):
        return str(error)
    if isinstance(error, ValueError):  # its text may quote the address, and with it the password
        return "its address cannot be read; it must look as in the README's table of settings"
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__

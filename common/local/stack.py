"""The whole of Kiln on one machine: a home folder in; servers, API, sweeper and workers running, and run.json, out."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from common.local import children
from common.local.apps import Launcher, app_programs
from common.local.bucket import keep_bucket
from common.local.children import Child, DataDamaged, LocalServiceError
from common.local.gpus import visible_gpus
from common.local.lock import only_one
from common.local.ports import free_ports
from common.local.services import Services, plan_services, write_private
from common.local.supervisor import Process, Supervisor
from common.settings import Settings, read_settings

READY_SECONDS = 120  # the first import of torch from a cold disk takes its time
TRIES = 3  # of PostgreSQL's start, before all is given up: processes of one that was killed may be about to end


@dataclass(slots=True)
class Stack:
    """A running Kiln: where it answers, the key of KILN_API_KEY, and what looks after its processes."""

    api_url: str
    api_key: str | None
    services: Services
    supervisor: Supervisor
    run_file: Path
    bucket: str
    _stale: bool = True

    @property
    def children(self) -> tuple[Child, ...]:
        """Kiln's own processes, as they are now."""
        found = (each.child for each in self.supervisor.processes if not each.program.damage)
        return tuple(child for child in found if child)

    def look(self) -> None:
        """Start again what has ended, and keep run.json true."""
        self._stale |= self.supervisor.look()
        if self._stale:
            with suppress(OSError):  # a full disk: at the next look
                self.write()

    def write(self) -> None:
        """run.json: every URL with its credentials, the process ids, and how each fares, for scripts and tests."""
        services, status = self.services, self.supervisor.status()
        content = {
            "api": self.api_url,
            "database": services.database_url,
            "broker": services.broker_url,
            "storage": {
                "endpoint_url": services.s3_endpoint_url,
                "access_key": services.s3_access_key,
                "secret_key": services.s3_secret_key,
                "bucket": self.bucket,
            },
            "pids": {"up": os.getpid()} | {name: each["pid"] for name, each in status.items() if each["pid"]},
            "processes": status,
        }
        write_private(self.run_file, content)
        self._stale = False


@contextmanager
def running_stack(
    home: Path,
    *,
    port: int = 0,
    workers: int | None = 1,
    model: str = "",
    postgres_programs: Path | None = None,
    tell: Callable[[str], None] | None = None,
) -> Iterator[Stack]:
    """Kiln during the block; every process that it started is gone after it. ``port`` 0 picks a free one.

    ``workers`` None: one for each GPU, one without any. Raises LocalServiceError where a part does not start, or
    another Kiln runs in this home. With ``tell``, which gets a line for whatever happens, it is raised only where
    nothing can work: other parts that do not start are tried again whenever look() is called.
    """
    home.mkdir(parents=True, exist_ok=True)
    home = home.resolve()
    port = port or free_ports(1)[0]
    with only_one(home), ExitStack() as stack:
        children.end_leftovers(home)
        stack.callback(children.end_leftovers, home)  # one that was interrupted as it was started
        services, servers = plan_services(home, postgres_programs=postgres_programs)
        environment = services.environment() | {"KILN_HOME": str(home)} | ({"KILN_MODEL": model} if model else {})
        settings = read_settings(Settings, **{name[5:].lower(): value for name, value in environment.items()})
        launcher = Launcher(home, environment)
        stack.callback(launcher.close)
        gpus = visible_gpus(os.environ) if settings.device in ("auto", "cuda") else []
        apps = app_programs(launcher, port=port, workers=workers or max(1, len(gpus)), gpus=gpus)
        guarded = [keep_bucket(each, home / "s3", settings) if each.name == "s3" else each for each in servers]
        # What takes longest to import comes first; the servers start meanwhile
        supervisor = Supervisor([*apps, *guarded], tell or _mute)
        stack.callback(supervisor.stop)
        made = Stack(
            f"http://127.0.0.1:{port}",
            os.environ.get("KILN_API_KEY"),
            services,
            supervisor,
            home / "run.json",
            settings.s3_bucket,
        )
        _start(supervisor, launcher, strict=tell is None)
        services.pids.update(
            {each.program.name: each.pid for each in supervisor.processes if each.is_server and each.pid}
        )
        stack.callback(made.run_file.unlink, missing_ok=True)
        made.write()
        yield made


def _start(supervisor: Supervisor, launcher: Launcher, *, strict: bool) -> None:
    """All of it for the first time: servers, migrations, then what needs both."""
    migrations = launcher.start("migrations", ["migrations.__main__"])
    supervisor.look()
    servers = [process for process in supervisor.processes if process.program.damage]
    _wait_for(supervisor, [supervisor["postgres"]], tries=1 if strict else TRIES)  # without it nothing can work
    launcher.tell(migrations)
    _wait_for(supervisor, servers, tries=1 if strict else None)
    migrations.wait_until(lambda: migrations.process.poll() == 0, seconds=READY_SECONDS)
    launcher.open()
    _wait_for(supervisor, supervisor.processes, tries=1 if strict else None)


def _wait_for(supervisor: Supervisor, processes: Sequence[Process], *, tries: int | None) -> None:
    """Until each is ready; with ``tries``, raise where one cannot start or has ended so often.

    Without, one that has ended once is waited for no longer, nor is any for longer than READY_SECONDS.
    """
    deadline = time.monotonic() + READY_SECONDS
    while left := [process for process in processes if process.state != "running"]:
        for process in left:
            if tries and (process.ended >= tries or process.hopeless):
                tail = f"\n{process.child.tail()}" if process.child and not process.hopeless else ""
                kind = DataDamaged if process.state == "damaged" else LocalServiceError
                raise kind(f"{process.program.name} does not start: {process.reason}{tail}")
        late = time.monotonic() > deadline
        if not tries and (late or all(process.ended for process in left)):
            return
        if late and tries == 1:
            raise LocalServiceError(f"{left[0].program.name} was not ready within {READY_SECONDS} s")
        time.sleep(0.03)
        supervisor.look()


def _mute(_: str) -> None:
    """Whoever is not told hears of it by an exception."""

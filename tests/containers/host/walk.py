"""A running Docker host in, README's commands one after another, and what each must have done, out as steps."""

import json
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from tests.containers.host.machine import Failed, Machine, wait_for
from tests.containers.readme import command

Step = Callable[[str], AbstractContextManager[None]]

API = "http://127.0.0.1:8000"
WORKERS = 3
ERASE = "\x1b[2K"  # before each line, whatever Compose is told
HEADER = "/run/kiln-authorization"  # so that no message of ours shows it
LONG = 500  # steps: a few of these are still painted when the worker is stopped


class Walk:
    """From an empty checkout to an empty Docker again. Every check raises Failed."""

    def __init__(self, machine: Machine, step: Step) -> None:
        self._run = machine.run
        self._step = step
        self._key = ""

    def go(self) -> None:
        self._up()
        picture = self._paint()
        self._park()
        self._crash()
        self._down_and_up(picture)
        self._compile()
        self._leave()

    def _up(self) -> None:
        self._run(command("(umask"))
        require(self._run("stat -c %a .env").strip() == "600", ".env is for its owner alone")
        self._set(KILN_MODEL="demo", WORKERS=str(WORKERS))
        up = command("docker compose up")
        with self._step(f"{up}   (KILN_MODEL=demo, WORKERS={WORKERS}; images built)"):
            self._run(up, seconds=3600)
        sizes = self._run("docker images --format '{{.Repository}} {{.Size}}' | grep -E '^kiln-(api|worker) '")
        make_key = command("docker compose run --rm migrate")
        with self._step(f"{make_key}   ({', '.join(sizes.split(chr(10))[:2])})"):
            self._key = self._run(make_key).strip()
            require(re.fullmatch(r"\S+", self._key), "only the key is on standard output")
            self._run(f"echo 'Authorization: Bearer {self._key}' > {HEADER}")
        with self._step(f"{WORKERS} workers ready and healthy"):
            self._wait_ready(WORKERS)
        require("401" in self._run(f"curl -s -o /dev/null -w '%{{http_code}}' {API}/v1/jobs"), "nobody without a key")

    def _paint(self) -> tuple[str, str]:
        """A picture's URL on the API, and its SHA-256."""
        with self._step("12 jobs, shared by the workers; a picture by its presigned URL"):
            ids = [self._submit(f"boat {number}", 4) for number in range(12)]
            jobs = [self._ended(job_id, seconds=120) for job_id in ids]
            require({job["status"] for job in jobs} == {"succeeded"}, f"they succeed: {jobs[0]}")
        (image,) = jobs[0]["images"]
        require(image["url"].startswith("http://127.0.0.1:9000/"), f"its URL is this host's: {image['url']}")
        digest = self._run(f"curl -sf '{image['url']}' | sha256sum").split()[0]
        return image["id"], digest

    def _park(self) -> None:
        ids = [self._submit(f"ship {number}", LONG) for number in range(2 * WORKERS)]
        wait_for("jobs in hand", lambda: self._states(ids).count("running") >= WORKERS, seconds=60)
        with self._step("docker compose stop worker   (jobs in hand are parked, and everything ends with 0)"):
            self._run("docker compose stop worker", seconds=300)
            require(set(self._states(ids)) <= {"queued", "succeeded"}, f"parked: {self._states(ids)}")
            require("queued" in self._states(ids), "some were in hand")
        ended = self._run("docker compose ps --all --format '{{.ExitCode}}' worker").split()
        require(ended == ["0"] * WORKERS, f"exit codes {ended}")
        self._check_logs()
        self._run("docker compose up --detach", seconds=300)
        with self._step("docker compose up --detach   (they go on, with nothing charged)"):
            jobs = [self._ended(job_id, seconds=600) for job_id in ids]
            require({job["status"] for job in jobs} == {"succeeded"}, "they succeed")
        charged = "docker compose exec -T postgres psql -U kiln -Atc 'SELECT sum(failures) FROM jobs' kiln"
        require(self._run(charged).strip() == "0", "no failure was charged")

    def _crash(self) -> None:
        self._wait_ready(WORKERS)
        job = self._submit("a wreck", LONG, pictures=4)
        held = wait_for("a worker that has it", lambda: self._worker_of(job), seconds=60)
        self._run(f"docker inspect --format '{{{{.State.Pid}}}}' {held} | xargs pkill -KILL -P")
        with self._step("SIGKILL of a worker's process   (Docker starts it again; its job is done after the lease)"):
            wait_for(
                "restart",
                lambda: self._run(f"docker inspect --format '{{{{.RestartCount}}}}' {held}").strip() == "1",
                seconds=60,
            )
            require(self._ended(job, seconds=900)["status"] == "succeeded", "the job succeeds")

    def _down_and_up(self, picture: tuple[str, str]) -> None:
        image, digest = picture
        with self._step("docker compose down; docker compose up --detach   (same key, same picture)"):
            self._run(command("docker compose down"), seconds=300)
            require(not self._run("docker ps --all --quiet"), "no container is left")
            self._run("docker compose up --detach", seconds=300)
            self._wait_ready(WORKERS)
            content = f"curl -sfL -H @{HEADER} {API}/v1/images/{image}/content | sha256sum"
            require(self._run(content).split()[0] == digest, "the same bytes")
        kept = set(self._run("docker volume ls --quiet").split())
        require(kept == {f"kiln_{name}" for name in ("postgres", "redis", "minio", "models")}, f"volumes {kept}")

    def _compile(self) -> None:
        self._set(WORKERS="1", KILN_COMPILE="true")
        with self._step("WORKERS=1 and KILN_COMPILE=true in .env, docker compose up --detach   (compiled, and paints)"):
            self._run("docker compose up --detach", seconds=300)
            self._wait_ready(1, seconds=1800)
            require(self._ended(self._submit("a boat", 4), seconds=120)["status"] == "succeeded", "it paints")
            require("model_compiled" in self._run("docker compose logs worker"), "it is compiled")

    def _leave(self) -> None:
        self._check_logs()
        with self._step("docker compose down --volumes   (nothing is left)"):
            self._run("docker compose down --volumes", seconds=300)
            left = self._run(
                "docker ps --all --quiet; docker volume ls --quiet; docker network ls --quiet --filter type=custom"
            )
            require(not left, f"left: {left}")

    def _check_logs(self) -> None:
        """Ours are JSON to the last line, and nobody's hold a secret."""
        for service in ("api", "sweeper", "worker"):
            lines = self._run(f"docker compose logs --no-log-prefix {service}").replace(ERASE, "").splitlines()
            require(lines, f"{service} says something")
            wrong = [line for line in lines if not _is_json(line)]
            require(not wrong, f"lines of {service} that are no JSON: {wrong[:3]}")
        secrets = re.findall(r"=([0-9a-f]{48})$", self._run("cat .env"), re.M)
        require(len(secrets) >= 5, "secrets were made")
        everything = self._run("docker compose logs")
        require(not any(secret in everything for secret in [*secrets, self._key]), "no log holds a secret")

    def _set(self, **variables: str) -> None:
        """Lines of .env: what is there is replaced."""
        for name, value in variables.items():
            self._run(f"sed -i '/^{name}=/d' .env && echo {name}={value} >> .env")

    def _wait_ready(self, count: int, *, seconds: float = 600) -> None:
        def ready() -> bool:
            workers = self._get("/v1/workers")["data"]
            states = [worker["state"] for worker in workers]
            healthy = self._run("docker compose ps --format '{{.Health}}' worker").split()
            return states.count("ready") == count and healthy == ["healthy"] * count

        wait_for(f"{count} ready workers", ready, seconds=seconds)

    def _worker_of(self, job_id: str) -> str | None:
        """The container whose worker has the job."""
        holding = [worker["id"] for worker in self._get("/v1/workers")["data"] if job_id in worker["jobs"]]
        return holding[0].partition(":")[0] if holding else None

    def _submit(self, prompt: str, steps: int, pictures: int = 1) -> str:
        size = {"width": 64, "height": 64, "num_images": pictures}
        asked = {"prompt": prompt, "num_inference_steps": steps, "seed": 1, **size}
        job_id: str = self._get("/v1/jobs", f"-H 'Content-Type: application/json' -d '{json.dumps(asked)}'")["id"]
        return job_id

    def _states(self, ids: list[str]) -> list[str]:
        return [self._get(f"/v1/jobs/{job_id}")["status"] for job_id in ids]

    def _ended(self, job_id: str, *, seconds: float) -> dict[str, Any]:
        def over() -> dict[str, Any] | None:
            job = self._get(f"/v1/jobs/{job_id}")
            return job if job["status"] in ("succeeded", "failed", "cancelled") else None

        found = wait_for("end of the job", over, seconds=seconds)
        assert isinstance(found, dict)
        return found

    def _get(self, path: str, options: str = "") -> Any:
        return json.loads(self._run(f"curl -sS --fail-with-body -H @{HEADER} {options} {API}{path}"))


def require(true: object, what: str) -> None:
    """Raises Failed unless ``true``."""
    if not true:
        raise Failed(f"not so: {what}")


def _is_json(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False

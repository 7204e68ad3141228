"""Every knob of Kiln, read once from KILN_* environment variables (or a .env file) and passed down, never global."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict, SettingsError

from common.broker_url import read_broker_url
from common.models import BUILT_IN, ModelEntry
from common.reach import Reach

_SOURCE = SettingsConfigDict(
    env_prefix="KILN_", env_file=".env", extra="ignore", frozen=True, hide_input_in_errors=True
)


class DatabaseSettings(BaseSettings):
    """What is needed to reach the database, and nothing else."""

    model_config = _SOURCE

    database_url: SecretStr = Field(description="PostgreSQL, as postgresql://user:password@host:port/database")


class MigrationSettings(DatabaseSettings):
    """What a migration needs. The two passwords are for nobody else: each role's own is in its KILN_DATABASE_URL."""

    api_password: SecretStr | None = Field(default=None, description="password that the role kiln_api gets")
    worker_password: SecretStr | None = Field(default=None, description="password that the role kiln_worker gets")

    @property
    def passwords(self) -> dict[str, str]:
        """The password of each role that is to have one."""
        given = {"kiln_api": self.api_password, "kiln_worker": self.worker_password}
        return {role: password.get_secret_value() for role, password in given.items() if password}


class ModelSettings(BaseSettings):
    """What ``kiln models`` needs, and nothing else: which models there are, and where they lie."""

    model_config = _SOURCE

    home: Path = Field(default=Path(".kiln"), description="folder of local services, run.json and fetched models")
    models: dict[str, ModelEntry] = Field(
        default={}, description="JSON object of further models (or other parts for known ones) by name"
    )

    @property
    def registry(self) -> dict[str, ModelEntry]:
        """Every model by name: the built-in ones, overlaid with KILN_MODELS."""
        return {**BUILT_IN, **self.models}


class Settings(ModelSettings, DatabaseSettings):
    """Frozen settings. A field without a default must be given; the README's table is made from these fields."""

    # Where things are
    broker_url: SecretStr = Field(
        description="Redis or Valkey, as redis://:password@host:port/0; rediss:// is TLS, the certificate checked"
    )
    s3_endpoint_url: str = Field(description="S3-compatible storage as the API and the workers reach it")
    s3_public_url: str = Field(
        default="", description="the same storage as clients reach it, for presigned URLs; empty: s3_endpoint_url"
    )
    s3_access_key: SecretStr = Field(description="S3 access key")
    s3_secret_key: SecretStr = Field(description="S3 secret key")
    s3_bucket: str = Field(default="kiln", description="bucket of the pictures; made when missing")
    s3_region: str = Field(default="us-east-1", description="S3 region name")

    # What can be asked for
    model: str = Field(default="demo", description="model of jobs that name none")
    max_prompt_characters: int = Field(default=2000, description="characters of a prompt")
    min_side: int = Field(default=64, description="pixels of a picture's shorter side")
    max_side: int = Field(default=1024, description="pixels of a picture's longer side")
    max_pixels: int = Field(default=1024 * 1024, description="pixels of a picture in all")
    max_steps: int = Field(default=500, description="inference steps")
    max_guidance: float = Field(default=30.0, description="guidance scale")
    max_images: int = Field(default=8, description="pictures of one job")
    max_metadata: int = Field(default=16, description="metadata pairs of one job")
    max_body_bytes: int = Field(default=1 << 20, description="bytes of a request body")
    max_batch_bytes: int = Field(default=64 << 20, description="bytes of a request body that asks for a batch")
    max_batch_jobs: int = Field(default=100_000, description="jobs of one batch")
    max_cost: int = Field(
        default=8 * 1024 * 1024 * 250, description="width x height x U-Net evaluations of all pictures of one job"
    )
    max_queued: int = Field(default=1_000_000, description="queued jobs in all; beyond it new ones get 429")
    max_queued_per_owner: int = Field(
        default=100_000, description="queued jobs of one owner; beyond it new ones get 429"
    )
    requests_per_minute: int = Field(
        default=1200, ge=1, description="requests of one API key in a minute; beyond it they get 429"
    )
    max_open_per_owner: int = Field(
        default=1000,
        ge=1,
        description="requests of one owner that may be open at once while they wait for a job, or follow events; "
        "beyond it new ones get 429",
    )
    presign_seconds: int = Field(default=900, description="life of a presigned picture URL")

    # How workers run
    serve: Annotated[list[str], NoDecode] = Field(
        default=[], description="models that a worker loads, separated by commas; empty: the default model"
    )
    workers: int = Field(
        default=1,
        ge=1,
        description="workers that share this machine: each computes on its part of the cores, where OMP_NUM_THREADS "
        "does not say on how many",
    )
    device: str = Field(default="auto", description="cuda, cuda:1, mps or cpu; auto picks the first there is")
    dtype: Literal["auto", "float16", "bfloat16", "float32"] = Field(
        default="auto", description="number format of the weights; auto: float16 on CUDA, else float32"
    )
    seats: int | None = Field(
        default=None,
        ge=1,
        description="jobs that a worker has in hand at once; "
        "unset: half as many again as it has slots, and two more at least",
    )
    batch_seats: int | None = Field(
        default=None, ge=0, description="seats that batch jobs may take; unset: all but one, or the only one"
    )
    slots: int | None = Field(
        default=None, ge=1, le=64, description="pictures that share a U-Net call; unset: 8 on CUDA, else 1"
    )
    engine_mode: Literal["exact", "fast"] | None = Field(
        default=None,
        description="exact: the same bits in any company; fast: calls only as wide as they must be, and other work "
        "grouped too; unset: exact with one slot, else fast",
    )
    compile: bool = Field(
        default=False,
        description="compile the U-Net for pictures of the model's default size: takes minutes at start, then saves "
        "time at each step",
    )
    checkpoint_seconds: float = Field(default=10, gt=0, description="pause between two checkpoints of a running job")
    lease_seconds: float = Field(default=60, description="a running job whose worker is silent this long is taken back")
    heartbeat_seconds: float = Field(default=15, description="pause between two signs of life of a worker")
    sweep_seconds: float = Field(default=5, description="pause between two rounds of the sweeper")
    retention_days: float | None = Field(
        default=None,
        gt=0,
        description="days after its end when a job is deleted, pictures included, and after its upload a file; "
        "unset: never",
    )
    tick_timeout: float = Field(
        default=120, description="seconds; a step, or another call of the device, that takes longer ends the worker"
    )
    job_seconds: float = Field(
        default=6 * 3600, description="longest run of one attempt at a job; the next goes on where it was"
    )
    max_failures: int = Field(default=4, description="crashes or errors that a job survives, less one")

    # Who may be told
    webhook_allow: Annotated[list[str], NoDecode] = Field(
        default=[],
        description="hosts and networks (CIDR), separated by commas, that webhooks may name though they are not "
        "reached over the internet, also by http",
    )

    # How it tells
    metrics_port: int = Field(
        default=0,
        ge=0,
        le=65535,
        description="port of /metrics of a worker or sweeper, or the next that is free: several may share a machine; "
        "0: none",
    )
    metrics_host: str = Field(default="127.0.0.1", description="address of that port")
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="least level logged")
    log_format: Literal["console", "json"] = Field(default="console", description="form of log lines")
    log_prompts: bool = Field(default=False, description="log lines of a job show its prompt")

    @model_validator(mode="before")
    @classmethod
    def _split_lists(cls, values: dict[str, object]) -> dict[str, object]:
        """Accept ``a,b`` for KILN_SERVE and KILN_WEBHOOK_ALLOW."""
        split = dict(values)
        for field in ("serve", "webhook_allow"):
            if isinstance(given := split.get(field), str):
                split[field] = [name.strip() for name in given.split(",") if name.strip()]
        return split

    @field_validator("broker_url")
    @classmethod
    def _is_a_brokers(cls, value: SecretStr) -> SecretStr:
        return SecretStr(read_broker_url(value.get_secret_value()))

    @field_validator("webhook_allow")
    @classmethod
    def _are_hosts_and_networks(cls, value: list[str]) -> list[str]:
        Reach(value)
        return value

    @model_validator(mode="after")
    def _models_exist(self) -> Self:
        for name in [self.model, *self.serve]:
            if name not in self.registry:
                raise ValueError(f"model {name!r} is not in the registry; known: {', '.join(self.registry)}")
        return self

    @property
    def served(self) -> list[str]:
        """The models that a worker of these settings loads."""
        return self.serve or [self.model]

    @property
    def secrets(self) -> tuple[str, ...]:
        """All that nobody may see, wherever it turns up."""
        values = (getattr(self, name) for name in type(self).model_fields)
        return tuple(value.get_secret_value() for value in values if isinstance(value, SecretStr))


Read = TypeVar("Read", bound=BaseSettings)


def read_settings(kind: type[Read], **given: Any) -> Read:
    """Settings as ``given``, else from the environment; SystemExit with one plain line for each missing or wrong."""
    try:
        return kind(**given)
    except ValidationError as error:
        lines = [f"KILN_{'_'.join(map(str, e['loc'])).upper()}: {e['msg']}" for e in error.errors(include_url=False)]
        raise SystemExit("Kiln's settings are not complete:\n  " + "\n  ".join(lines)) from None
    except SettingsError as error:  # a KILN_MODELS that is no JSON
        raise SystemExit(f"Kiln's settings cannot be read: {error}") from None

"""The `kiln` command: its subcommands in, put together. Imports nothing heavy, so that --help is quick."""

from collections.abc import Callable
from importlib.metadata import version as installed_version

import typer

from client import background, batch, doctor, evaluate, garbage, generate, jobs, keys, models, report, top, up

EXIT_CODES = (
    "Exit codes: 0 done; 1 the job failed, was canceled or expired, or a check failed; "
    "2 wrong usage or a refused request; 3 a service cannot be reached, or no Kiln runs here; "
    "130 interrupted by Ctrl-C; `kiln up`: see there."
)

app = typer.Typer(
    help="Queue text-to-image jobs, watch them, and fetch their pictures.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def version() -> None:
    """Print the version of Kiln that is installed here."""
    typer.echo(f"kiln {installed_version('kiln')}")


EXAMPLES: dict[Callable[..., None], str] = {
    up.up: "kiln up --detach --workers 2",
    background.status: "kiln status --json",
    background.down: "kiln down",
    up.demo: "kiln demo",
    generate.generate: 'kiln generate "a lighthouse in fog" --style anime --steps 30 -n 4 --output pictures/',
    generate.watch: "kiln watch job_0192f3a4b5c67d8e9f00112233445566 --output pictures/",
    jobs.jobs: "kiln jobs --status failed --json",
    jobs.show: "kiln show job_0192f3a4b5c67d8e9f00112233445566",
    jobs.cancel: "kiln cancel job_0192f3a4b5c67d8e9f00112233445566",
    jobs.retry: "kiln retry job_0192f3a4b5c67d8e9f00112233445566 --seed 7",
    jobs.delete: "kiln delete job_0192f3a4b5c67d8e9f00112233445566",
    top.top: "kiln top --every 5",
    doctor.doctor: "kiln doctor --json",
    report.report: "kiln report batch_0192f3a4b5c67d8e9f00112233445566 --output night.html",
    garbage.gc: "kiln gc --dry-run",
    version: "kiln version",
}

for command, example in EXAMPLES.items():
    app.command(command.__name__, epilog=f"Example: {example}")(command)
app.add_typer(batch.batch_app, name="batch", no_args_is_help=True)
app.add_typer(evaluate.eval_app, name="eval", no_args_is_help=True)
app.add_typer(models.models_app, name="models", no_args_is_help=True)
app.add_typer(keys.keys_app, name="keys", no_args_is_help=True)

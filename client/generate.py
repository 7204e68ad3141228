"""`kiln generate` and `kiln watch`: a prompt or a job's id in, pictures in a folder out, progress on stderr."""

from typing import Annotated, Any

import typer

from client.api import Job, Kiln
from client.errors import InvalidUse
from client.output import INTERRUPTED, Output, answering
from client.pictures import Target, choose_target, kept, save_picture
from client.progress import JobProgress
from common.names import slug

# The options behind the API's fields, for sentences about them.
OPTIONS = {
    "prompt": "PROMPT",
    "negative_prompt": "--negative",
    "style": "--style",
    "model": "--model",
    "width": "--width",
    "height": "--height",
    "num_inference_steps": "--steps",
    "guidance_scale": "--guidance",
    "scheduler": "--scheduler",
    "seed": "--seed",
    "num_images": "--num-images",
    "keep_best": "--keep-best",
    "output_format": "--format",
}

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Where = Annotated[
    str | None,
    typer.Option(
        "--output", "-o", metavar="PATH", help="A file, or a folder for all pictures.  [default: this folder]"
    ),
]


def generate(
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="What the picture shows.")],
    style: Annotated[str | None, typer.Option(help="cinematic, anime, gogh, … or none.")] = None,
    steps: Annotated[int | None, typer.Option(help="Inference steps.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the first picture; the next ones count up.")] = None,
    num_images: Annotated[int | None, typer.Option("--num-images", "-n", help="Pictures to make.")] = None,
    keep_best: Annotated[int | None, typer.Option(help="Keep so many of them, by CLIP score.")] = None,
    negative: Annotated[str | None, typer.Option(help="What the picture should not show.")] = None,
    scheduler: Annotated[str | None, typer.Option(help="lms_discrete, heun_discrete or dpm_solver_multistep.")] = None,
    guidance: Annotated[float | None, typer.Option(help="How closely to follow the prompt.")] = None,
    width: Annotated[int | None, typer.Option(help="Pixels, divisible by 8.")] = None,
    height: Annotated[int | None, typer.Option(help="Pixels, divisible by 8.")] = None,
    model: Annotated[str | None, typer.Option(help="Name of a model that a worker serves.")] = None,
    enhance: Annotated[bool | None, typer.Option(help="Let GPT-2 add words to the prompt.")] = None,
    output_format: Annotated[str | None, typer.Option("--format", help="png, webp or jpeg.")] = None,
    reuse: Annotated[
        bool | None, typer.Option(help="Take an equal job's pictures, or paint them anew.  [default: take]")
    ] = None,
    where: Where = None,
    wait: Annotated[bool, typer.Option(help="Wait for the pictures, or only queue the job.")] = True,
    as_json: AsJson = False,
) -> None:
    """Make pictures of PROMPT and save them. What is not given gets the deployment's default.

    The seed, the final prompt and the CLIP score are printed with each picture.
    """
    with answering(as_json, OPTIONS) as output, Kiln() as kiln:
        target = choose_target(where, slug(prompt)) if wait else None
        fields = {
            "style": style,
            "num_inference_steps": steps,
            "seed": seed,
            "num_images": num_images,
            "keep_best": keep_best,
            "negative_prompt": negative,
            "scheduler": scheduler,
            "guidance_scale": guidance,
            "width": width,
            "height": height,
            "model": model,
            "enhance": enhance,
            "output_format": agreed_format(output_format, target),
            "reuse": reuse,
        }
        job = kiln.submit(prompt, **{name: value for name, value in fields.items() if value is not None})
        if target is None:
            output.answer(job, job["id"])
            output.note(f"Queued. `kiln watch {job['id']}` waits for it and saves its pictures.")
        else:
            finish(kiln, job, target, output)


def watch(
    job_id: Annotated[str, typer.Argument(metavar="ID", help="A job's id.")],
    where: Where = None,
    as_json: AsJson = False,
) -> None:
    """Wait for a job and save its pictures, as generate does."""
    with answering(as_json) as output, Kiln() as kiln:
        job = kiln.job(job_id)
        finish(kiln, job, choose_target(where, slug(job["input"]["prompt"])), output)


def agreed_format(given: str | None, target: Target | None) -> str | None:
    """--format, or what the name of --output asks for; raises InvalidUse when the two differ."""
    asked = target.output_format if target else None
    if given and asked and given != asked:
        raise InvalidUse(f"--format {given} does not go with the file name {target.file if target else ''}.")
    return given or asked


def finish(kiln: Kiln, job: Job, target: Target, output: Output) -> None:
    """Wait for ``job``, save its pictures, tell of them; exit 1 when it did not succeed, 130 on Ctrl-C."""
    try:
        with JobProgress(output.notes) as view:
            job = kiln.wait(job["id"], on_update=view.update)
        files = [_save(kiln, image, job, target) for image in kept(job)]
    except KeyboardInterrupt:
        output.answer(job)
        output.note(f"\nJob {job['id']} goes on without you.")
        output.note(f"Watch it: kiln watch {job['id']}\nCancel it: kiln cancel {job['id']}")
        raise typer.Exit(INTERRUPTED) from None
    output.answer({**job, "files": files}, *_summary(job, files))
    if job["status"] != "succeeded":
        output.note(f"Job {job['id']} {_ending(job)}")
        raise typer.Exit(1)


def _save(kiln: Kiln, image: dict[str, Any], job: Job, target: Target) -> dict[str, Any]:
    path = save_picture(kiln.image(image), image, job, target)
    return {"image": image["id"], "path": str(path), "seed": image["seed"], "clip_score": image["clip_score"]}


def _summary(job: Job, files: list[dict[str, Any]]) -> list[str]:
    if job["status"] != "succeeded":
        return []
    pictures = [f"{file['path']}  seed {file['seed']}  CLIP score {file['clip_score']:.2f}" for file in files]
    painted_before = [f"painted before, by {job['reused_from']}"] if job["reused_from"] else []
    return [*pictures, *painted_before, f"prompt: {job['enhanced_prompt'] or job['styled_prompt']}"]


def _ending(job: Job) -> str:
    match job["status"]:
        case "failed":
            return f"failed: {(job['error'] or {}).get('message') or 'no reason was recorded'}"
        case "canceled":
            return "was canceled."
        case _:
            return "expired: its deadline passed before a worker was free."

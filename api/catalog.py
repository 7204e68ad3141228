"""What there is to choose from, and who is at work: models, styles, schedulers, defaults, queue, workers."""

from pathlib import Path
from typing import Any

from fastapi import APIRouter

from api.kiln import Kiln, KilnDep, Reader, quick, reads_many
from api.resolve import defaults, model_entry
from common.errors import NotFound
from common.ids import show_id
from common.jobs.outlook import depth
from common.jobs.spec import SCHEDULERS, evaluations
from common.jobs.workers import list_workers
from common.models import PARTS, ModelPart
from common.styles import ALIASES, DEFAULT_PROMPT, DEFAULT_STYLE, STYLES

router = APIRouter(prefix="/v1", tags=["catalog"])


def _list(items: list[dict[str, Any]]) -> dict[str, Any]:
    return {"object": "list", "data": items}


@router.get("/models")
@quick
def models(kiln: KilnDep, owner: Reader) -> dict[str, Any]:
    """The models that jobs can name, where their parts come from, and whether a live worker has them."""
    served = _served(kiln)
    return _list([_show_model(kiln, name, served) for name in kiln.settings.registry])


@router.get("/models/{model_id:path}")
@quick
def model(model_id: str, kiln: KilnDep, owner: Reader) -> dict[str, Any]:
    """One of them."""
    if model_id not in kiln.settings.registry:
        raise NotFound(f"there is no model {model_id[:80]!r}; known: {', '.join(kiln.settings.registry)}")
    return _show_model(kiln, model_id, _served(kiln))


@router.get("/styles")
async def styles(owner: Reader) -> dict[str, Any]:
    """The styles, with the words that each puts around a prompt."""
    return _list(
        [
            {
                "id": name,
                "object": "style",
                "template": template,
                "aliases": [alias for alias, meant in ALIASES.items() if meant == name],
                "default": name == DEFAULT_STYLE,
            }
            for name, template in STYLES.items()
        ]
    )


@router.get("/schedulers")
async def schedulers(kiln: KilnDep, owner: Reader) -> dict[str, Any]:
    """The schedulers, with the U-Net evaluations that 20 steps cost, and the models that have Karras sigmas with it."""
    models = kiln.settings.registry.items()
    return _list(
        [
            {
                "id": name,
                "object": "scheduler",
                "evaluations_of_20_steps": evaluations(name, 20),
                "karras_sigmas": [model for model, entry in models if name in entry.karras],
            }
            for name in SCHEDULERS
        ]
    )


@router.get("/defaults")
async def show_defaults(kiln: KilnDep, owner: Reader, model: str | None = None) -> dict[str, Any]:
    """What a job gets for each field that it leaves out, and a prompt to begin with."""
    name = model or kiln.settings.model
    model_entry(kiln.settings, name)
    return {"prompt": DEFAULT_PROMPT} | defaults(kiln.settings, name)


@router.get("/queue")
@reads_many
def queue(kiln: KilnDep, owner: Reader) -> dict[str, Any]:
    """How many jobs of all owners wait and run in each lane."""
    lanes = {
        lane: {"queued": now.queued, "running": now.running, "oldest_seconds": round(now.oldest_seconds, 1)}
        for lane, now in depth(kiln.engine).items()
    }
    return {"object": "queue", "lanes": lanes, "max_queued": kiln.settings.max_queued}


@router.get("/workers")
@quick
def workers(kiln: KilnDep, owner: Reader) -> dict[str, Any]:
    """The workers that gave a sign of life within the lease time, as they were at ``seen_at``.

    ``slots`` pictures share a U-Net call, of the ``pictures`` that could; null where a worker does not say.
    ``running`` counts the jobs of all owners, ``jobs`` names the caller's own.
    """
    live = list_workers(kiln.engine, alive_seconds=kiln.settings.lease_seconds, owner=owner)
    return _list(
        [
            {
                "id": worker.id,
                "object": "worker",
                "state": worker.state,
                "detail": worker.detail,
                "models": list(worker.models),
                "device": worker.device,
                **{name: worker.figures.get(name) for name in ("engine_mode", "slots", "slots_used", "pictures")},
                "seats": worker.seats,
                "running": worker.running,
                "jobs": [show_id("job", job_id) for job_id in worker.jobs],
                "evaluations_per_second": worker.evaluations_per_second,
                "started_at": worker.started_at,
                "seen_at": worker.seen_at,
            }
            for worker in live
        ]
    )


def _served(kiln: Kiln) -> set[str]:
    live = list_workers(kiln.engine, alive_seconds=kiln.settings.lease_seconds)
    return {model for worker in live if worker.state == "ready" for model in worker.models}


def _show_model(kiln: Kiln, name: str, served: set[str]) -> dict[str, Any]:
    """``created`` and ``owned_by`` are for OpenAI's clients, which want a moment and a name; Kiln knows no moment."""
    entry = kiln.settings.registry[name]
    return {
        "id": name,
        "object": "model",
        "created": 0,
        "owned_by": "kiln",
        "description": entry.description,
        "default": name == kiln.settings.model,
        "servable": name in served,
        "width": entry.width,
        "height": entry.height,
        "parts": {part: _origin(getattr(entry, part)) for part in PARTS},
    }


def _origin(part: ModelPart) -> str:
    """Where a part comes from, without telling clients the server's folders."""
    if Path(part.source).exists():
        return f"folder {Path(part.source).name}"
    return f"{part.source}@{part.revision}"

"""A batch as it was sent in; its plan, with every job checked and none written out yet, out. InvalidRequest names each
line, or field, that is wrong.

What is wrong with a value of a matrix is so in every combination: one job is tried for each value, not for each job.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, BinaryIO

from api.lines import MAX_ERRORS, OF_THE_BATCH, SAID_ONCE, Asked, Found, read_csv, read_ndjson
from api.orders import BatchRequest, LineOptions, Matrix
from api.plan import Entry, Plan
from api.resolve import check_prompt, check_seed, normalize, resolve
from api.schemas import JobRequest
from common.errors import FieldError, InvalidRequest
from common.jobs.submit import Submission
from common.settings import Settings

# What the matrix calls the fields of a job, from the slowest to the fastest; before them its prompts, after its seeds
AXES = {"styles": "style", "schedulers": "scheduler", "steps": "num_inference_steps", "guidance": "guidance_scale"}

Cell = tuple[str, Any, str]  # field, value, and the pointer that names it


def expand(request: BatchRequest, settings: Settings, owner: str) -> Plan:
    """A job for every combination of the matrix, the last list changing fastest. Raises InvalidRequest."""
    matrix, common = request.matrix, request.defaults.model_dump(exclude_none=True) if request.defaults else {}
    if wrong := [FieldError(f"/defaults/{name}", SAID_ONCE) for name in OF_THE_BATCH if name in common]:
        raise _refusal(wrong)
    if matrix.seeds is not None and matrix.seeds_per_prompt is not None:
        raise _refusal([FieldError("/matrix/seeds_per_prompt", "cannot be given together with seeds")])
    lists = {name: values for name in AXES if (values := getattr(matrix, name))}
    seeds = matrix.seeds or matrix.seeds_per_prompt
    count = math.prod(map(len, lists.values())) * (seeds if isinstance(seeds, int) else len(seeds or [0]))
    if count * len(matrix.prompts) > settings.max_batch_jobs:
        raise _too_many(settings)
    trial = _Trial(common, {name: _cells(name, values) for name, values in lists.items()}, settings, owner)
    prompts = _read_prompts(matrix, settings, trial.errors)
    wrong_seeds = (
        FieldError(f"/matrix/seeds/{place}", one.detail)
        for place, seed in enumerate(matrix.seeds or ())
        for one in check_seed(seed)
    )
    trial.errors += itertools.islice(wrong_seeds, MAX_ERRORS)
    one = trial.first_job()
    axes = {AXES[name]: trial.resolve_axis(name, values) for name, values in lists.items()}
    if trial.errors or one is None:
        raise _refusal(trial.errors)
    seeded = "seed" in common
    return Plan([Entry(replace(one, spec=replace(one.spec, prompt=text)), seeded) for text in prompts], axes, seeds)


class _Trial:
    """Tries jobs of a matrix, and keeps what is wrong with them."""

    def __init__(self, common: dict[str, Any], axes: dict[str, list[Cell]], settings: Settings, owner: str) -> None:
        self.errors: list[FieldError] = []
        self._common = common | {"prompt": "-"}  # those of the matrix are looked at by themselves
        self._axes = axes
        self._settings = settings
        self._owner = owner
        self._resolved: dict[tuple[str, Any], Any] = {}

    def first_job(self) -> Submission | None:
        """The first combination, and with it every value of each axis; steps with every scheduler, as both cost."""
        first = [cells[0] for cells in self._axes.values()]
        one = self._try(first)
        steps, schedulers = (self._axes.get(name, []) for name in ("steps", "schedulers"))
        together = itertools.product(steps, schedulers) if steps and schedulers else zip(steps or schedulers)
        alone = zip(itertools.chain.from_iterable(self._axes.get(name, []) for name in ("styles", "guidance")))
        for cells in itertools.chain(together, alone):
            if len(self.errors) >= MAX_ERRORS:
                break
            self._try([*first, *cells])
        return one

    def resolve_axis(self, name: str, values: Sequence[Any]) -> list[Any]:
        """The values as jobs have them; what is wrong is left out."""
        return [self._resolved[name, value] for value in values if (name, value) in self._resolved]

    def _try(self, cells: Sequence[Cell]) -> Submission | None:
        chosen = {name: (value, at) for name, value, at in cells}
        job = JobRequest.model_construct(**self._common | {name: value for name, (value, _) in chosen.items()})
        asked = Asked(job, "/defaults", {name: at for name, (_, at) in chosen.items()})
        try:
            one = resolve(asked.job, self._settings, owner=self._owner)
        except InvalidRequest as error:
            self.errors += [asked.point(each) for each in error.errors]
            return None
        for name, field in AXES.items():
            if field in chosen:
                self._resolved[name, chosen[field][0]] = getattr(one.spec, field)
        return one


def _cells(name: str, values: Sequence[Any]) -> list[Cell]:
    """Each value once, where it stands first."""
    places: dict[Any, int] = {}
    for place, value in enumerate(values):
        places.setdefault(value, place)
    return [(AXES[name], value, f"/matrix/{name}/{place}") for value, place in places.items()]


def _read_prompts(matrix: Matrix, settings: Settings, errors: list[FieldError]) -> list[str]:
    """The prompts as jobs have them."""
    prompts = []
    for place, prompt in enumerate(matrix.prompts):
        prompts.append(normalize(prompt, settings))
        errors += [FieldError(f"/matrix/prompts/{place}", one.detail) for one in check_prompt(prompts[-1], settings)]
        if len(errors) >= MAX_ERRORS:
            break
    return prompts


def read_lines(file: BinaryIO, options: LineOptions, settings: Settings, owner: str, *, as_csv: bool) -> Plan:
    """A job for each line of NDJSON, or each row of CSV under its header; for each style and seed of ``options``.

    Raises InvalidRequest, and MalformedBody where the file is no text.
    """
    return plan_lines(read_csv(file) if as_csv else read_ndjson(file), settings, owner, options)


def plan_lines(found: Iterable[Found], settings: Settings, owner: str, options: LineOptions | None = None) -> Plan:
    """All jobs. Raises InvalidRequest with the first MAX_ERRORS of what is wrong with them."""
    options = options or LineOptions()
    each = (options.seeds_per_line or 1) * (len(options.styles) or 1)
    entries: list[Entry] = []
    errors: list[FieldError] = []
    names: set[str] = set()
    styles: list[str] = []
    for asked in found:
        if len(errors) >= MAX_ERRORS:
            break
        if (len(entries) + 1) * each > settings.max_batch_jobs:
            raise _too_many(settings)
        if wrong := asked if isinstance(asked, tuple) else tuple(_contradictions(asked, options, names)):
            errors += wrong
            continue
        assert isinstance(asked, Asked)  # noqa: S101 - mypy does not see that
        try:
            if options.styles and not entries:
                styles = _resolve_styles(asked, options.styles, settings, owner, errors)
            job = resolve(asked.job, settings, owner=owner)
        except InvalidRequest as error:
            errors += [asked.point(one) for one in error.errors]
        else:
            entries.append(Entry(replace(job, custom_id=asked.custom_id), asked.job.seed is not None))
    if errors:
        raise _refusal(errors)
    if not entries:
        raise InvalidRequest("the batch has no jobs")
    return Plan(entries, {"style": styles} if styles else {}, options.seeds_per_line)


def _contradictions(asked: Asked, options: LineOptions, names: set[str]) -> Iterator[FieldError]:
    """What a line says that the query says, or that another line said: ``names``, to which its own is added."""
    many = (("style", options.styles), ("seed", options.seeds_per_line))
    taken = [name for name, given in many if given]
    said = [name for name in taken if getattr(asked.job, name) is not None]
    yield from (FieldError(f"{asked.elsewhere}/{name}", "is said for all lines in the query") for name in said)
    if asked.custom_id and not said:
        if taken:
            yield FieldError(f"{asked.elsewhere}/custom_id", "can name one job only, and this line becomes several")
        elif asked.custom_id in names:
            yield FieldError(f"{asked.elsewhere}/custom_id", "names another job of this batch, too")
        names.add(asked.custom_id)


def _resolve_styles(
    asked: Asked, styles: Sequence[str], settings: Settings, owner: str, errors: list[FieldError]
) -> list[str]:
    """The styles as jobs have them, tried with this one; what is wrong is left out, and told in ``errors``."""
    found: dict[str, str] = {}
    for place, style in enumerate(styles):
        if style not in found:
            trial = Asked(asked.job.model_copy(update={"style": style}), asked.elsewhere, {"style": f"/styles/{place}"})
            try:
                found[style] = resolve(trial.job, settings, owner=owner).spec.style
            except InvalidRequest as error:
                errors += [trial.point(one) for one in error.errors]
    return [found[style] for style in styles if style in found]


def _refusal(errors: Sequence[FieldError]) -> InvalidRequest:
    """With each of the errors once: a wrong style is wrong with every prompt."""
    unique = tuple(dict.fromkeys(errors))[:MAX_ERRORS]
    return InvalidRequest(f"{unique[0].pointer[1:]} {unique[0].detail}", unique)


def _too_many(settings: Settings) -> InvalidRequest:
    return InvalidRequest(f"the batch has over {settings.max_batch_jobs} jobs")

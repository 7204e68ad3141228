"""A folder of weights in; what its pictures are like, against what they must be like, out. Writes nothing.

``python -m demo.gates`` measures what is shipped. A gate is passed when all its verdicts are; the numbers of the gates
and their limits are those under which the demo model was ordered.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
import typer
from PIL import Image
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from common.jobs.spec import SCHEDULERS, JobSpec
from common.models import BUILT_IN, DEMO_WEIGHTS, PARTS, ModelPart
from demo import measures
from demo.painter import WIDE, Nobody, Pictures, paint
from demo.training.styles import StyleNet, load_styles, name_styles
from demo.trials import (
    HUES,
    STYLE_PROMPTS,
    Trial,
    apple_specs,
    demo_trials,
    drawn_like,
    held_out_trials,
    make_spec,
)
from demo.world.draw import draw
from demo.world.scene import FAVORITES, LOOKS
from worker.diffusion.device import Device
from worker.stages.diffuse import diffuse
from worker.stages.enhance import enhance
from worker.stages.score import clip_scores
from worker.weights import Model, load_model

JUDGES = Path(__file__).parent.parent / "tests" / "demo" / "judge"
VARIED = 8  # seeds of a prompt that must differ


@dataclass(frozen=True, slots=True)
class Verdict:
    """One measurement and its limit, a lower one unless ``at_most``."""

    gate: int
    what: str
    measured: float
    limit: float
    at_most: bool = False

    @property
    def passed(self) -> bool:
        return self.measured <= self.limit if self.at_most else self.measured >= self.limit


@dataclass(frozen=True, slots=True)
class Studio:
    """What measuring needs: the model, the same with the judge as its scorer, the style net, and a device thread."""

    model: Model
    judge: Model
    styles: StyleNet
    device: Device  # wide, for many pictures
    worker: Device  # as a worker's on a CPU
    on_picture: Callable[[], None] = lambda: None
    painted: dict[JobSpec, measures.Picture] = field(default_factory=dict)

    def paint(self, specs: Sequence[JobSpec]) -> Pictures:
        """The picture of each job; several measurements ask for the same."""
        missing = [spec for spec in dict.fromkeys(specs) if spec not in self.painted]
        if missing:
            pictures = paint(missing, self.model, self.device, self.on_picture)
            self.painted.update(zip(missing, pictures, strict=True))
        return np.stack([self.painted[spec] for spec in specs])


def load_demo(weights: Path, scorer: Path) -> Model:
    """The model of a folder of weights, on the CPU, as a worker loads it, with the scorer of another folder."""
    parts = {str(part): ModelPart(source=str(weights), subfolder=part) for part in PARTS}
    entry = BUILT_IN["demo"].model_copy(update={**parts, "scorer": ModelPart(source=str(scorer))})
    return load_model("demo", entry, home=weights, device=torch.device("cpu"), dtype=torch.float32)


def measure(studio: Studio, *, whole: bool = True) -> Iterator[Verdict]:
    """All gates, a quarter of an hour; where not ``whole``, a sample of each: a fifth of the pictures.

    A sample tells that the weights are those that passed, and that what paints them still does.
    """
    some = 1 if whole else 4  # every so manieth; where a limit leaves no room for that few, more
    default = demo_trials()[0].spec.scheduler
    for scheduler in SCHEDULERS:
        few = not whole and scheduler != default
        trials = demo_trials(seeds=1 if few else 4) + held_out_trials()[:: 4 * some if few else some]
        pictures = studio.paint([replace(trial.spec, scheduler=scheduler) for trial in trials])
        if scheduler == default:
            yield from find_captions(1, "", studio, studio.model, trials, pictures, (0.95, 0.85))
            yield from find_captions(2, "judge, ", studio, studio.judge, trials, pictures, (0.90, 0.80))
        yield from find_captions(5, f"{scheduler}, ", studio, studio.model, trials, pictures, (0.95, 0.85))
    yield measure_hues(studio, some)
    yield from measure_styles(studio, some)
    yield measure_guidance(studio, some)
    yield measure_repetition(studio)
    yield from measure_variety(studio, some)
    yield measure_painting(studio)


def find_captions(
    gate: int,
    prefix: str,
    studio: Studio,
    model: Model,
    trials: list[Trial],
    pictures: Pictures,
    limits: tuple[float, float],
) -> Iterator[Verdict]:
    """How often the scorer of ``model`` puts a picture's own prompt first among ten captions."""
    first: dict[bool, list[bool]] = {False: [], True: []}
    for trial, picture in zip(trials, pictures, strict=True):
        right, *wrong = score(studio, model, picture, (trial.spec.prompt, *trial.rivals))
        first[trial.held_out].append(right > max(wrong))
    for held_out, name in ((False, "the seed's prompts"), (True, "held-out captions")):
        yield Verdict(gate, f"{prefix}{name} first of ten", float(np.mean(first[held_out])), limits[held_out])


def score(studio: Studio, model: Model, picture: measures.Picture, texts: tuple[str, ...]) -> list[float]:
    """What a worker's score stage gives the picture for each text."""
    scores = studio.device.run(partial(clip_scores, (Image.fromarray(picture),), texts, model))
    return [row[0] for row in scores]


def measure_hues(studio: Studio, some: int) -> Verdict:
    asked = apple_specs()[:: min(some, 2)]  # of every color, whatever is left out
    pictures = studio.paint([spec for _, spec in asked])
    hues = [measures.median_hue(picture, measures.find_thing(picture)) for picture in pictures]
    right = [measures.nearest_color(hue, HUES) == color for hue, (color, _) in zip(hues, asked, strict=True)]
    return Verdict(3, "apples of the color asked for", float(np.mean(right)), 0.90)


def measure_styles(studio: Studio, some: int) -> Iterator[Verdict]:
    specs = [make_spec(prompt, style, 1) for style in LOOKS for prompt in STYLE_PROMPTS[:: min(some, 3)]]
    pictures = studio.paint(specs)
    named = name_styles(studio.styles, pictures)
    right = [name == spec.style for name, spec in zip(named, specs, strict=True)]
    yield Verdict(4, "styles named rightly", float(np.mean(right)), 0.85)
    of = {style: [p for p, spec in zip(pictures, specs, strict=True) if spec.style == style] for style in LOOKS}
    saturated = max(measures.saturated_share(picture) for picture in of["lineart"])
    yield Verdict(4, "saturated pixels of a line art", saturated, 0.05, at_most=True)
    barred = float(np.mean([measures.has_bars(picture) for picture in of["cinematic"]]))
    yield Verdict(4, "cinematic pictures with bars", barred, 1.0)
    flat = float(np.mean([measures.like_their_block(picture) for picture in of["pixelart"]]))
    yield Verdict(4, "pixels like their block in pixel art", flat, 0.80)
    edges = float(np.mean([measures.edges_on_grid(picture) for picture in of["pixelart"]]))
    yield Verdict(4, "change that falls on the blocks' borders", edges, 0.55)


def measure_guidance(studio: Studio, some: int) -> Verdict:
    """The mean score at guidance 7.5 less that at 1. The seed's prompts alone are painted as well without guidance."""
    trials = demo_trials(seeds=1) + held_out_trials()[:: 4 * min(some, 2)]
    means = []
    for scale in (1.0, 7.5):
        specs = [replace(trial.spec, guidance_scale=scale) for trial in trials]
        pictures = studio.paint(specs)
        scores = [score(studio, studio.model, p, (spec.prompt,))[0] for p, spec in zip(pictures, specs, strict=True)]
        means.append(float(np.mean(scores)))
    return Verdict(5, "points that guidance adds to the score", means[1] - means[0], 0.01)


def measure_repetition(studio: Studio) -> Verdict:
    """The largest difference of a pixel, of 255, between a worker's two pictures of one job."""
    spec = demo_trials()[0].spec
    one, other = (paint([spec], studio.model, studio.worker).astype(int) for _ in range(2))
    return Verdict(5, "difference of one job's pictures", float(np.abs(one - other).max()), 0, at_most=True)


def measure_variety(studio: Studio, some: int) -> Iterator[Verdict]:
    """How much more the seeds of a prompt are alike than drawn scenes of the same words."""
    seeds = max(4, VARIED // some)
    trials = demo_trials(seeds)
    pictures = studio.paint([trial.spec for trial in trials])
    for number, scene in enumerate(FAVORITES):
        start = number * seeds
        drawn = [np.asarray(draw(one, pictures.shape[1])) for one in drawn_like(scene, seeds)]
        more = measures.mean_ssim(list(pictures[start : start + seeds])) - measures.mean_ssim(drawn)
        yield Verdict(5, f"likeness of seeds, {trials[start].spec.prompt}", more, 0.15, at_most=True)


def measure_painting(studio: Studio) -> Verdict:
    """Seconds for one picture, without its text and score; the best of three, for the machine is shared."""
    spec = demo_trials()[0].spec
    texts = enhance(spec, studio.model, studio.worker)
    work = partial(diffuse, spec, texts, studio.model, studio.worker, Nobody())
    return Verdict(6, "seconds for a picture", best_of_three(work), 6.0, at_most=True)


def measure_loading(weights: Path) -> Verdict:
    load = partial(load_demo, weights, weights / "scorer")
    return Verdict(6, "seconds to load all parts", best_of_three(load), 2.0, at_most=True)


def best_of_three(work: Callable[[], object]) -> float:
    seconds = []
    for _ in range(3):
        began = time.monotonic()
        work()
        seconds.append(time.monotonic() - began)
    return min(seconds)


def main(weights: Path = DEMO_WEIGHTS, judges: Path = JUDGES) -> None:
    """Measure the gates and say which are passed. Leaves with 1 when one is not."""
    raise typer.Exit(int(not tell(weights, judges)))


def tell(weights: Path, judges: Path) -> bool:
    """Measure the gates, print them as a table, and return whether all are passed."""
    table = Table("gate", "what", "measured", "limit", "", title="Gates of the demo model")
    with Progress() as progress:
        task = progress.add_task("painting", total=None)
        advance = partial(progress.advance, task)
        verdicts = run(weights, judges, advance)
    for one in sorted(verdicts, key=lambda one: one.gate):
        sign, passed = "≤" if one.at_most else "≥", "passed" if one.passed else "[red]missed[/red]"
        table.add_row(str(one.gate), one.what, f"{one.measured:.3f}", f"{sign} {one.limit:g}", passed)
    Console().print(table)
    return all(one.passed for one in verdicts)


def run(
    weights: Path, judges: Path, on_picture: Callable[[], None] = lambda: None, whole: bool = True
) -> list[Verdict]:
    """Every verdict on the weights of one folder; ``judges`` holds the second scorer and the style net."""
    device, worker = Device(WIDE), Device()
    try:
        model, other = load_demo(weights, weights / "scorer"), load_demo(weights, judges / "judge")
        studio = Studio(model, other, load_styles(judges / "styles"), device, worker, on_picture)
        return [measure_loading(weights), *measure(studio, whole=whole)]
    finally:
        device.close()
        worker.close()


if __name__ == "__main__":
    typer.run(main)

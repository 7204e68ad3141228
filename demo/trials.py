"""What the gates ask the model to paint, and among which captions each picture must find its own. Pure."""

import random
from dataclasses import dataclass, replace

from common.jobs.spec import JobSpec
from common.models import BUILT_IN
from common.styles import DEFAULT_NEGATIVE_PROMPT
from demo.captions import DEMO_PROMPTS, article, held_out_scenes, plain_caption
from demo.world.scene import FAVORITES, HELD_OUT, PLACES, Scene, sample_scene

RIVALS = 9
HUES = ("red", "orange", "yellow", "green", "turquoise", "blue", "purple", "pink")
# By day and with a thing each, so that every style shows what makes it one.
STYLE_PROMPTS = (
    *DEMO_PROMPTS,
    "a blue house in the mountains",
    "a white boat on a beach",
    "a green car in a city",
    "a brown dog in a meadow",
    "a red mushroom in a forest",
    "a purple cup on a wooden table",
    "a yellow flower in a meadow",
    "a red hot air balloon in the sky",
)


@dataclass(frozen=True, slots=True)
class Trial:
    """One picture to paint, and the captions that it must not fit better than its own prompt."""

    spec: JobSpec
    rivals: tuple[str, ...]
    held_out: bool


def make_spec(prompt: str, style: str, seed: int) -> JobSpec:
    """What the API makes of a request that names no more than these."""
    entry = BUILT_IN["demo"]
    return JobSpec(
        prompt=prompt,
        negative_prompt=DEFAULT_NEGATIVE_PROMPT,
        style=style,
        enhance=True,
        model="demo",
        width=entry.width,
        height=entry.height,
        num_inference_steps=entry.num_inference_steps,
        guidance_scale=entry.guidance_scale,
        scheduler="dpm_solver_multistep",
        seed=seed,
        num_images=1,
        keep_best=None,
        output_format="png",
    )


def demo_trials(seeds: int = 4) -> list[Trial]:
    """The seed's four prompts in the default style, ``seeds`` pictures of each."""
    pairs = zip(DEMO_PROMPTS, FAVORITES, strict=True)
    return [_trial(prompt, scene, seed) for prompt, scene in pairs for seed in range(seeds)]


def held_out_trials() -> list[Trial]:
    """Forty captions of what training never drew, two pictures of each."""
    return [_trial(plain_caption(scene), scene, seed) for scene in held_out_scenes() for seed in range(2)]


def apple_specs() -> list[tuple[str, JobSpec]]:
    """Each of HUES with the jobs that ask for an apple of that color; in no words but these, so that none tints it."""
    asked = [(color, seed) for color in HUES for seed in range(4)]
    prompts = [f"{article(color)} apple on a wooden table" for color, _ in asked]
    specs = [make_spec(prompt, "photographic", seed) for prompt, (_, seed) in zip(prompts, asked, strict=True)]
    return [(color, replace(spec, enhance=False)) for spec, (color, _) in zip(specs, asked, strict=True)]


def drawn_like(scene: Scene, count: int) -> list[Scene]:
    """Other drawings of what a seed's prompt says; where it names no place, each has its own."""
    rng = random.Random(count)
    places = [rng.choice(PLACES) if scene.place == "plain" else scene.place for _ in range(count)]
    return [replace(scene, place=place, seed=number) for number, place in enumerate(places)]


def _trial(prompt: str, scene: Scene, seed: int) -> Trial:
    rng = random.Random(f"{prompt}/{seed}")
    rivals: set[str] = set()
    while len(rivals) < RIVALS:
        other = sample_scene(rng)
        if other.thing is not None and not _agree(scene, other):
            rivals.add(plain_caption(other))
    return Trial(make_spec(prompt, scene.style, seed), tuple(sorted(rivals)), scene.combination in HELD_OUT)


def _agree(one: Scene, other: Scene) -> bool:
    """Whether one picture could be both: then the one's caption is no wrong answer for the other."""
    things = one.thing is None or other.thing is None or one.thing == other.thing
    colors = one.color is None or other.color is None or one.color == other.color
    places = "plain" in (one.place, other.place) or one.place == other.place
    return things and colors and places
